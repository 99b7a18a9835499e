"""``rlhf plan``: what a recipe would do, before anything is loaded.

For each step: is it up to date, and if not, how many tokens it trains, reads and samples, how much memory it holds at its
worst moment (``stages/plan/memory.py``), how long it takes and how that is known (``stages/plan/time.py``). What cannot fit is
refused, with what it needs. A stage runs in one process on one device: a model is not divided.
"""

import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from policy.footprint import num_parameters
from policy.placement import NoSuchDevice
from registry.artifact import Artifact
from registry.drafts import unfinished
from registry.store import Registry
from stages.engine.run import asked_for, fingerprint, peak_rss_mb
from stages.external_files import sha256_of
from stages.pipeline import budgets, describe_rounds, steps
from stages.plan.memory import Work, recipe_model, works
from stages.plan.time import ASSUMED_GPU, GPU_OPERATIONS, operations_per_second, seconds_of
from stages.recipe import Recipe, TeamRecipe
from stages.stage import Step

GPU_BYTES = 80 * 10**9  # of the GPU that is assumed where there is none
_KEPT_FREE = 0.9  # share of a device's memory that a model may take


@dataclass(frozen=True, slots=True)
class Machine:
    """The ``device`` of a plan, what it is, its memory and speed. ``library_bytes``: what a process holds on the CPU that has
    imported the stages; ``note``: what is assumed about the device."""

    device: str
    name: str
    memory_bytes: int
    free_disk_bytes: int
    operations_per_second: float
    library_bytes: int = 0
    note: str = ""

    @property
    def device_type(self) -> str:
        return self.device.partition(":")[0]

    def held_by(self, work: Sequence[Work]) -> int:
        """Bytes of the device's memory that one process takes at its worst moment, when it does all of ``work``.

        On the CPU the libraries and the records count too. Python keeps memory that records once took, so the largest of both
        kinds meet.
        """
        models = max((part.footprint.total for part in work), default=0)
        records = max((part.data_bytes for part in work), default=0)
        return models + (self.library_bytes + records if self.device_type == "cpu" else 0)


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """``state``: up to date, unfinished or to make. ``artifact``: the reference where it is up to date, else the name.
    ``work``, ``memory_bytes`` and ``seconds`` are None where they are not counted; ``timing``: how the seconds are known."""

    stage: str
    artifact: str
    state: str
    work: Work | None
    memory_bytes: int | None
    seconds: float | None
    timing: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a recipe cannot run here, and what it needs instead."""

    text: str
    needs: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, and what those to make need together; JSON is its ``dataclasses.asdict``. ``without_memory`` and
    ``without_time``: the artifacts to make that the totals leave out. ``problems``: why it cannot run here."""

    recipe: str
    parameters: int
    rounds: tuple[str, ...]  # what each reads and makes, for people
    steps: tuple[PlannedStep, ...]
    machine: Machine
    seconds: float
    peak_memory_bytes: int
    disk_bytes: int  # of weights and saved states
    without_memory: tuple[str, ...]
    without_time: tuple[str, ...]
    problems: tuple[Problem, ...]
    missing_files: tuple[str, ...]


def make_plan(recipe: Recipe, folder: Path, seed: int, machine: Machine) -> Plan:
    """The plan of ``rlhf reproduce`` with these options."""
    registry, pipeline = Registry(folder / "registry"), steps(recipe)
    parameters = num_parameters(recipe_model(recipe))
    states = _states(registry, pipeline, seed, machine.device)
    planned = []
    for (step, state, present), work, budget in zip(
        states, works(recipe, pipeline, machine.device_type), budgets(recipe, pipeline), strict=True
    ):
        seconds, timing = (
            (0.0, "up to date")
            if present
            else seconds_of(registry, step, machine.device_type, budget, work, parameters, machine.operations_per_second)
        )
        artifact = str(present.reference) if present else step.makes
        memory = machine.held_by([work]) if work else None
        planned.append(PlannedStep(step.stage.name, artifact, state, work, memory, seconds, timing))
    to_make = [step for step in planned if step.state != "up to date"]
    made = [step.work for step in to_make if step.work]
    peak = machine.held_by(made)
    disk = sum(work.artifact_bytes for work in made) + max((work.state_bytes for work in made), default=0)
    return Plan(
        recipe=recipe.name,
        parameters=parameters,
        rounds=tuple(describe_rounds(recipe)),
        steps=tuple(planned),
        machine=machine,
        seconds=sum(step.seconds or 0.0 for step in to_make),
        peak_memory_bytes=peak,
        disk_bytes=disk,
        without_memory=tuple(step.artifact for step in to_make if step.memory_bytes is None),
        without_time=tuple(step.artifact for step in to_make if step.seconds is None),
        problems=tuple(_problems(to_make, machine, peak, disk)),
        missing_files=tuple(_missing_files(recipe)),
    )


def this_machine(folder: Path, device: str = "cpu") -> Machine:
    """``device`` of this machine, and the disk on which ``folder`` lies or would be made. Where a GPU is asked for that is not
    here, one is assumed. Raises NoSuchDevice for what is neither cpu nor a CUDA device."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free_disk = shutil.disk_usage(there).free
    if device == "cpu":
        cores, libraries = torch.get_num_threads(), int(peak_rss_mb() * 10**6)
        return Machine("cpu", f"{cores} cores", _host_memory(), free_disk, operations_per_second("cpu"), libraries)
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise NoSuchDevice(f"the device is {device!r}; give cpu, cuda, or one of several such as cuda:1")
    number = int(device.partition(":")[2] or 0)
    if number >= torch.cuda.device_count():
        name = f"{ASSUMED_GPU} of {gigabytes(GPU_BYTES)}"
        note = f"{device} is not here; the plan assumes an {name}"
        return Machine(device, f"{name}, assumed", GPU_BYTES, free_disk, operations_per_second("cuda"), note=note)
    properties = torch.cuda.get_device_properties(number)
    known = any(name in properties.name for name in GPU_OPERATIONS)
    note = "" if known else f"the speed of {properties.name} is not known; the plan assumes that of an {ASSUMED_GPU}"
    return Machine(
        device, properties.name, properties.total_memory, free_disk, operations_per_second("cuda", properties.name), note=note
    )


def _host_memory() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container, "max" where it has none
    if limit.is_file() and (text := limit.read_text().strip()).isdecimal():
        memory = min(memory, int(text))
    return memory


def _states(
    registry: Registry, pipeline: Sequence[Step], seed: int, device: str
) -> Iterator[tuple[Step, str, Artifact | None]]:
    """Each step with its state, and its artifact where it is up to date; no model is opened."""
    begun = {left.fingerprint for left in unfinished(registry.root) if left.num_states}
    made: dict[str, Artifact] = {}
    for step in pipeline:
        inputs = {role: [made.get(reference) for reference in references] for role, references in step.inputs.items()}
        digests = {role: [artifact.digest for artifact in artifacts if artifact] for role, artifacts in inputs.items()}
        present, state = None, "to make"
        if all(artifact for artifacts in inputs.values() for artifact in artifacts):
            dtype, device_type = step.stage.dtype(device), device.partition(":")[0]
            asked = fingerprint(asked_for(step.stage, step.config, digests, seed, dtype, device_type))
            present = registry.find_fingerprint(asked, step.stage.kind, step.name)
            state = "up to date" if present else "unfinished" if asked in begun else "to make"
        if present:
            made[step.makes] = present
        else:  # an earlier revision of the name may be there, and this step makes a newer one
            made.pop(step.makes, None)
        yield step, state, present


def _problems(to_make: Sequence[PlannedStep], machine: Machine, peak: int, disk: int) -> Iterator[Problem]:
    memory = [(step.memory_bytes, step, step.work) for step in to_make if step.work and step.memory_bytes]
    too_large = [step for step in memory if step[0] > machine.memory_bytes]
    if too_large:
        size, worst, work = max(too_large, key=lambda step: step[0])
        others = f"; {len(too_large) - 1} other steps do not fit either" if too_large[1:] else ""
        devices = math.ceil(work.footprint.total / (_KEPT_FREE * GPU_BYTES))
        yield Problem(
            f"{worst.artifact} ({worst.stage}) holds {gigabytes(size)} at once, and {machine.device} ({machine.name}) has "
            f"{gigabytes(machine.memory_bytes)} of memory{others}",
            f"one device with {gigabytes(size)}, since a stage runs in one process and does not shard the model; sharded, "
            f"it would fill {devices} devices of {gigabytes(GPU_BYTES)}",
        )
    elif peak > machine.memory_bytes:
        yield Problem(
            f"one process that runs all steps comes to hold {gigabytes(peak)}, and {machine.device} ({machine.name}) has "
            f"{gigabytes(machine.memory_bytes)} of memory",
            "to run them a few at a time (--until STEP), each time in a process of its own, or more memory",
        )
    if disk > machine.free_disk_bytes:
        yield Problem(
            f"its weights and saved states take {gigabytes(disk)} of disk, and {gigabytes(machine.free_disk_bytes)} are free",
            f"a disk with {gigabytes(disk)} free, which --dir may name",
        )


def _missing_files(recipe: Recipe) -> Iterator[str]:
    if isinstance(recipe, TeamRecipe):
        data = recipe.data
        for file in (data.demonstrations, data.prompts, data.constraints):
            if file and sha256_of(file) is None:
                yield file


def gigabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e12:.3g} TB" if size >= 999.5e9 else f"{size / 1e9:.3g} GB"
