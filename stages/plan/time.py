"""How long a step takes: as its last run did, else by the recipe's budget, else by arithmetic.

By arithmetic a parameter takes 6 operations for a token that is trained and 2 for one that is read or sampled (Kaplan et al.
2020, section 2.1). That is a lower bound, above all for sampling, which waits for the memory and not for the arithmetic.
"""

from registry.manifest import Manifest
from registry.store import Registry
from stages.plan.memory import Work
from stages.stage import Step
from stages.studies.arms.trainings import OPERATIONS_PER_SECOND

UTILISATION = 0.4  # share of a GPU's stated speed that training is assumed to reach (ours)
ASSUMED_GPU = "A100"
# Dense bfloat16 operations a second by the data sheets: NVIDIA A100 80GB (2021), H100 SXM (2022), H200 SXM (2024).
GPU_OPERATIONS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}
AS_LAST_TIME, BY_BUDGET, BY_ARITHMETIC = "as last time", "by the recipe's budget", "by arithmetic"


def operations_per_second(device_type: str, name: str = "") -> float:
    """What the device is counted with: of a CPU what two cores of a laptop reached, of a GPU its stated speed by ``name``."""
    if device_type == "cpu":
        return OPERATIONS_PER_SECOND
    return UTILISATION * GPU_OPERATIONS[next((known for known in GPU_OPERATIONS if known in name), ASSUMED_GPU)]


def seconds_of(
    registry: Registry, step: Step, device_type: str, budget: float, work: Work | None, parameters: int, speed: float
) -> tuple[float | None, str]:
    """(seconds, how they are known), or (None, "not counted"). ``budget``: the recipe's for this step, 0 without; ``speed``:
    operations a second of the device."""
    if last := _last_run(registry, step, device_type):
        return last.seconds, AS_LAST_TIME
    if budget:
        return budget, BY_BUDGET
    if work and work.tokens.total:
        operations = 6 * work.tokens.trained + 2 * (work.tokens.read + work.tokens.sampled)
        return parameters * operations / speed, BY_ARITHMETIC
    return None, "not counted"


def _last_run(registry: Registry, step: Step, device_type: str) -> Manifest | None:
    """The newest artifact of the same name that the same stage made from inputs of the same names."""
    for revision in reversed(registry.revisions(step.stage.kind, step.name)):
        manifest = registry.resolve(f"{step.makes}@{revision}").manifest
        inputs = {
            role: tuple(parent.reference.partition("@")[0] for parent in parents) for role, parents in manifest.parents.items()
        }
        if (manifest.stage, manifest.device.partition(":")[0], inputs) == (step.stage.name, device_type, dict(step.inputs)):
            return manifest
    return None
