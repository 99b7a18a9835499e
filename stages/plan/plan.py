"""``rlhf plan``: what a recipe would do, before anything is loaded.

For each step: is it up to date, and if not, how many tokens it trains, reads and samples, how much memory it holds at its worst
moment and for what, what it leaves on the disk, and how long it takes here. What cannot fit is refused, with what it needs.

Sizes are arithmetic (``stages/plan/workload.py``, ``policy/footprint.py``), times come from a short rehearsal
(``stages/plan/rehearsal.py``). A stage runs in one process on one device: a model is not divided.
"""

import dataclasses
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from policy.footprint import num_parameters
from registry.artifact import Artifact
from registry.drafts import unfinished
from registry.store import Registry
from stages.engine.outside_files import sha256_of
from stages.engine.run import asked_for, fingerprint, peak_rss_mb
from stages.pipeline import describe_rounds, steps
from stages.plan.rehearsal import Clock
from stages.plan.study_workload import WholeWorkload
from stages.plan.work import Work
from stages.recipe import Recipe, TeamRecipe
from stages.step import Step

DEVICE_BYTES = 80 * 10**9  # of the devices that a plan counts in
_KEPT_FREE = 0.9  # share of a device's memory that a model may take


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """``state``: up to date, unfinished or to make. ``artifact``: the reference where it is up to date, else the name."""

    stage: str
    artifact: str
    state: str
    work: Work
    seconds: float

    @property
    def memory(self) -> int:
        """Bytes that it holds at its worst moment, beside the libraries."""
        return self.work.host_bytes + self.work.footprint.total


@dataclass(frozen=True, slots=True)
class Machine:
    """``cores`` that torch uses; bytes of memory, of free disk, and what a process holds that has imported the stages."""

    cores: int
    memory: int
    free_disk: int
    libraries: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a recipe cannot run here, and what it needs instead."""

    text: str
    needs: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, and what they need together; ``problems``: why it cannot run here."""

    recipe: str
    parameters: int
    rounds: tuple[str, ...]  # what each reads and makes, for people
    steps: tuple[PlannedStep, ...]
    machine: Machine
    seconds: float
    timing: str  # how the seconds are known
    peak_memory: int
    disk: int
    problems: tuple[Problem, ...]
    missing_files: tuple[str, ...]


def make_plan(recipe: Recipe, folder: Path, seed: int, clock: Clock, machine: Machine) -> Plan:
    """The plan of ``rlhf reproduce`` with these options. ``clock`` is asked for the time of each kind of pass once."""
    registry = Registry(folder / "registry")
    workload = WholeWorkload(recipe)
    planned = []
    for step, state, present in _standing(registry, steps(recipe), seed):
        work = workload.of(step)
        seconds = 0.0 if present else sum(each.count * clock.seconds(each) for each in work.passes)
        artifact = str(present.reference) if present else step.makes
        planned.append(PlannedStep(step.stage.name, artifact, state, work, seconds))
    to_make = [each for each in planned if each.state != "up to date"]
    # One process runs them all, and Python keeps what it once took for records: the largest of both kinds meet.
    peak = machine.libraries + _largest([each.work.host_bytes for each in to_make])
    peak += _largest([each.work.footprint.total for each in to_make])
    disk = sum(each.work.artifact_bytes for each in to_make) + _largest([each.work.state_bytes for each in to_make])
    return Plan(
        recipe=recipe.name,
        parameters=num_parameters(workload.model),
        rounds=tuple(describe_rounds(recipe)),
        steps=tuple(planned),
        machine=machine,
        seconds=sum(each.seconds for each in to_make),
        timing=clock.how,
        peak_memory=peak,
        disk=disk,
        problems=tuple(_problems(to_make, machine, peak, disk)),
        missing_files=tuple(_missing_files(recipe)),
    )


def this_machine(folder: Path) -> Machine:
    """The machine, and the disk on which ``folder`` lies or would be made. Ask before anything is rehearsed."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container, "max" where it has none
    if limit.is_file() and (text := limit.read_text().strip()).isdecimal():
        memory = min(memory, int(text))
    return Machine(torch.get_num_threads(), memory, shutil.disk_usage(there).free, int(peak_rss_mb() * 10**6))


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values; sizes in bytes."""
    return {
        **{
            name: getattr(plan, name)
            for name in ("recipe", "parameters", "rounds", "seconds", "timing", "disk", "missing_files")
        },
        "peak_memory_bytes": plan.peak_memory,
        "machine": dataclasses.asdict(plan.machine),
        "problems": [dataclasses.asdict(each) for each in plan.problems],
        "steps": [
            {
                "stage": each.stage,
                "artifact": each.artifact,
                "state": each.state,
                "tokens": each.work.tokens,
                "seconds": each.seconds,
                "memory_bytes": each.memory,
                "footprint": dataclasses.asdict(each.work.footprint),
                "artifact_bytes": each.work.artifact_bytes,
                "state_bytes": each.work.state_bytes,
            }
            for each in plan.steps
        ],
    }


def _standing(registry: Registry, plan: Sequence[Step], seed: int) -> Iterator[tuple[Step, str, Artifact | None]]:
    """Each step with its state, and its artifact where it is up to date; without torch's models being opened."""
    begun = {left.fingerprint for left in unfinished(registry) if left.num_states}
    made: dict[str, Artifact] = {}
    for step in plan:
        given = {role: [made.get(text) for text in texts] for role, texts in step.inputs.items()}
        digests = {role: [each.digest for each in found if each] for role, found in given.items()}
        present, state = None, "to make"
        if all(each for found in given.values() for each in found):
            asked = fingerprint(asked_for(step.stage, step.config, digests, seed, "float32", "cpu"))
            present = registry.find_fingerprint(asked, step.stage.kind, step.name)
            state = "up to date" if present else "unfinished" if asked in begun else "to make"
        if present:
            made[step.makes] = present
        else:  # an earlier revision of the name may be there, and this step makes a newer one
            made.pop(step.makes, None)
        yield step, state, present


def _problems(planned: Sequence[PlannedStep], machine: Machine, peak: int, disk: int) -> Iterator[Problem]:
    too_large = [each for each in planned if machine.libraries + each.memory > machine.memory]
    if too_large:
        worst = max(too_large, key=lambda each: each.memory)
        others = f"; {len(too_large) - 1} other steps do not fit either" if too_large[1:] else ""
        devices = math.ceil(worst.work.footprint.total / (_KEPT_FREE * DEVICE_BYTES))
        yield Problem(
            f"{worst.artifact} ({worst.stage}) holds {gigabytes(worst.memory)} at once, and this machine has "
            f"{gigabytes(machine.memory)} of memory{others}",
            f"one device with {gigabytes(machine.libraries + worst.memory)}, since a stage runs in one process and divides no "
            f"model; divided evenly it would fill {devices} devices of {gigabytes(DEVICE_BYTES)}",
        )
    elif peak > machine.memory:
        yield Problem(
            f"one process that runs all steps comes to hold {gigabytes(peak)}, and this machine has "
            f"{gigabytes(machine.memory)} of memory",
            "to run them a few at a time (--until STEP), each time in a process of its own, or more memory",
        )
    if disk > machine.free_disk:
        yield Problem(
            f"what it leaves on the disk takes {gigabytes(disk)}, and {gigabytes(machine.free_disk)} are free",
            f"a disk with {gigabytes(disk)} free, which --dir may name",
        )


def _missing_files(recipe: Recipe) -> Iterator[str]:
    if isinstance(recipe, TeamRecipe):
        data = recipe.data
        for each in (data.demonstrations, data.prompts, data.constraints):
            if each and sha256_of(each) is None:
                yield each


def _largest(sizes: Sequence[int]) -> int:
    return max(sizes, default=0)


def gigabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e12:.3g} TB" if size >= 999.5e9 else f"{size / 1e9:.3g} GB"
