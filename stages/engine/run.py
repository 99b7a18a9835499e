"""Running a stage (``stages/stage.py``): its function makes the files of one new artifact.

``run_stage`` is all that stands between a command and that function. It resolves the inputs, says which artifact a
reference without a revision meant, skips what is already there, seeds, runs in a draft folder and commits once. The
*fingerprint* is what was asked for: stage name, the stage's revision, config after defaults, digests of the inputs, seed,
dtype and device type. The same fingerprint under the same name is up to date, whatever its inputs are called.
"""

import hashlib
import importlib.metadata
import json
import platform
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from policy.placement import on_device
from registry.artifact import Artifact, Reference
from registry.difference import Difference, asked_of, differences
from registry.drafts import discard, unfinished
from registry.manifest import LOGS_FOLDER, Run
from registry.saved_states import SavedStates, SaveEvery
from registry.store import Registry
from stages.stage import Stage
from stages.terminal.progress import Progress

# Libraries whose release can move a result.
LIBRARIES = (
    "llama-rlhf",
    "torch",
    "transformers",
    "tokenizers",
    "trl",
    "peft",
    "accelerate",
    "safetensors",
    "numpy",
    "pyarrow",
    "vllm",
    "lingua-language-detector",
)


@dataclass(frozen=True)
class StageResult:
    """``up_to_date``: the artifact was there and nothing ran. ``seconds``: wall-clock of this call."""

    artifact: Artifact
    up_to_date: bool
    seconds: float


def asked_for(
    stage: Stage, config: BaseModel, digests: Mapping[str, Sequence[str]], seed: int, dtype: str, device_type: str
) -> dict[str, Any]:
    """All that decides a result, as JSON values; ``digests`` are those of the inputs by role, their order counts."""
    return {
        "stage": stage.name,
        "revision": stage.revision,
        "config": config.model_dump(mode="json"),
        "inputs": {role: list(given) for role, given in digests.items()},
        "seed": seed,
        "dtype": dtype,
        "device_type": device_type,
    }


def fingerprint(asked: Mapping[str, Any]) -> str:
    """What is asked for, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def run_stage(
    registry: Registry,
    stage: Stage,
    *,
    name: str,
    config: BaseModel,
    inputs: Mapping[str, Sequence[str]],
    seed: int,
    progress: Progress,
    force: bool = False,
    save_every: SaveEvery = SaveEvery(),
    device: str = "cpu",
) -> StageResult:
    """Make ``<stage.kind>/<name>`` from ``inputs`` (role -> references), unless it is up to date.

    ``force`` makes a new revision all the same; ``save_every``: how far apart the stage's loop saves its state, which is no
    part of what is asked for; ``device``: where it opens its models. Raises RegistryError for references that lead nowhere, to
    another kind than the stage needs, or for a name that cannot be used; whatever the stage's function raises goes through, and
    leaves no artifact.
    """
    started = time.perf_counter()
    assert isinstance(config, stage.config), f"{stage.name} takes {stage.config.__name__}, not {type(config).__name__}"
    dtype = stage.dtype(device)
    opened = {role: [_open(registry, stage, role, text, progress) for text in texts] for role, texts in inputs.items()}
    digests = {role: [artifact.digest for artifact in given] for role, given in opened.items()}
    wanted = asked_for(stage, config, digests, seed, dtype, device.partition(":")[0])
    asked = fingerprint(wanted)
    if not force and (present := registry.find_fingerprint(asked, stage.kind, name)):
        discard(registry.root, asked)  # a process killed between the commit and its tidying up leaves a draft
        progress.say(_up_to_date(registry, stage, present))
        return StageResult(present, True, time.perf_counter() - started)
    with registry.draft(stage.kind, name, asked, wanted, force, progress.say, progress.say, save_every) as draft:
        if not force and (present := registry.find_fingerprint(asked, stage.kind, name)):  # made while this one waited
            progress.say(_up_to_date(registry, stage, present))
            return StageResult(present, True, time.perf_counter() - started)
        for line in _what_else_there_is(registry, stage, name, asked, wanted, draft.states):
            progress.say(line)
        code = git_revision()  # before the run: files may be edited while it lasts
        run = stage.load()
        seed_everything(seed)
        logged = progress.bound(draft.path / LOGS_FOLDER).remembering(draft.states.root)
        with on_device(device):
            metrics = run(config, opened, draft.path, logged, seed, draft.states)
        artifact = draft.commit(
            Run(
                stage=stage.name,
                stage_revision=stage.revision,
                config=config.model_dump(mode="json"),
                seed=seed,
                metrics=plain_metrics(metrics),
                versions=library_versions(),
                dtype=dtype,
                device=device,
                git_revision=code,
                seconds=time.perf_counter() - started,
                peak_rss_mb=peak_rss_mb(),
            ),
            opened,
        )
    progress.say(f"made {artifact.reference}")
    return StageResult(artifact, False, time.perf_counter() - started)


def _open(registry: Registry, stage: Stage, role: str, text: str, progress: Progress) -> Artifact:
    artifact = registry.open(text, kind=stage.inputs[role].kind or None if role in stage.inputs else None)
    if text != str(artifact.reference):
        means = "newest" if Reference.parse(text) == artifact.reference.newest else "alias"
        progress.say(f"{role}: {text} is {artifact.reference} ({means})")
    return artifact


def _up_to_date(registry: Registry, stage: Stage, present: Artifact) -> str:
    newest = registry.revisions(present.reference.kind, present.reference.name)[-1]
    note = "" if newest == present.reference.revision else f" (the newest is @{newest}, made with another config or inputs)"
    return f"{present.reference} is up to date{note}; --force runs {stage.name} again"


def _what_else_there_is(
    registry: Registry, stage: Stage, name: str, asked: str, wanted: Mapping[str, Any], states: SavedStates
) -> Iterator[str]:
    """Lines for the reader: what is resumed, and what sets this run apart from earlier ones of the same name."""
    artifact = f"{stage.kind}/{name}"
    if numbers := states.numbers():
        yield f"{artifact} resumes from what an earlier run saved (state {numbers[-1]})"
    if revisions := registry.revisions(stage.kind, name):
        before = registry.resolve(f"{artifact}@{revisions[-1]}")
        if changes := differences(asked_of(before.manifest), wanted):
            yield f"{artifact} is made again, because it differs from @{revisions[-1]} in {_listed(changes)}"
    for left in unfinished(registry.root):
        if left.artifact == artifact and left.fingerprint != asked and not left.held:
            yield (
                f"an unfinished {artifact} is left alone, because it differs in {_listed(differences(left.asked, wanted))}; "
                "see `rlhf registry drafts`"
            )


def _listed(changes: Sequence[Difference], at_most: int = 4) -> str:
    lines = [
        change.what
        if change.what.startswith("inputs.")
        else f"{change.what} ({json.dumps(change.left)} -> {json.dumps(change.right)})"
        for change in changes[:at_most]
    ]
    return ", ".join(lines) + (f" and {len(changes) - at_most} more" if changes[at_most:] else "")


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, and of numpy and torch where the stage has loaded them: not all need to wait for those."""
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


def plain_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """``metrics`` as plain JSON values; numpy and torch scalars become numbers. Raises TypeError naming what is neither."""

    def scalar(value: Any) -> Any:
        if hasattr(value, "item"):
            return value.item()
        raise TypeError(f"a metric is {value!r}, a {type(value).__name__}; a stage returns JSON values")

    return json.loads(json.dumps(metrics, default=scalar))


def library_versions() -> dict[str, str]:
    """Versions of Python and of the LIBRARIES that are installed, without importing them."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_revision() -> str | None:
    """The commit of this code, ``-dirty`` when files differ from it; None when it is not a checkout or git is missing."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # an installed copy may lie inside some other repository
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def peak_rss_mb() -> float:
    """The largest resident memory of this process so far, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux, where getrusage counts what the parent held before this process became what it is
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)
