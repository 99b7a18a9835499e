"""What is killed, and at which points: each stage of the recipe, scoring, and what the registry does by itself.

A stage works for about a second, on what a run of ``micro`` made. The targets stand in a module of their own because the
children of ``kills`` import it.
"""

import contextlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from faults import PLACES, POINTS
from kills import TIME, Kill, Target

from preference_data.comparison import AXES
from registry.saved_states import SaveEvery
from registry.store import Registry
from registry.upkeep import prune
from rlhf.config import SelectionConfig
from stages.catalog import STAGES
from stages.engine.run import run_stage
from stages.external_files import sha256_of
from stages.pipeline import steps
from stages.recipe import load_recipe
from stages.sections import ScoreConfig
from stages.stage import Step
from stages.study_steps import study_steps
from stages.terminal.progress import Progress

STAGE_SIZED = (
    "corpus.num_documents=1500",
    "pretrain.phases=[{documents: primer, num_tokens: 4096, block_size: 32},"
    " {documents: corpus, num_tokens: 12288, block_size: 128}]",
    "rejection_sampling.prompts_per_batch=8",
    "distillation.prompts_per_batch=10",
    "gatt.dialogues_per_batch=15",
)
SMALL_CORPUS = "small"  # so that pretraining is not busy reading
TO_SCORE = "answers.jsonl"
LAST = 1 - 1e-9  # the share that means the last pass
RECIPE = load_recipe("micro", STAGE_SIZED)
JUDGES = {axis: (f"reward_model/{axis}",) for axis in AXES}
RESCORE = Step(STAGES["rescore"], "", SelectionConfig(prompts_per_batch=8), {"samples": ("samples/v2",), **JUDGES})
STUDIES = study_steps(RECIPE, ["best-of-n", "pooling"])
STEPS = {step.stage.name: step for step in (*steps(RECIPE), RESCORE, *STUDIES)}


def template(micro: Path, folder: Path) -> Path:
    """A new ``folder`` as the targets need it: a copy of the registry of a run of ``micro``, and a small corpus."""
    shutil.copytree(micro / "registry", folder / "registry")
    for _ in range(2):  # the first revision is there to be pruned
        _make(folder, STEPS["corpus"], SMALL_CORPUS, {}, Progress(quiet=True), force=True)
    rows = [{"prompt": f"Where do {number} foxes live?", "response": "In the forest. " * number} for number in range(1, 41)]
    lines = [*map(json.dumps, rows), "not a row"]
    (folder / TO_SCORE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def _make(
    folder: Path, step: Step, name: str, inputs: Mapping[str, Sequence[str]], progress: Progress, force: bool = False
) -> None:
    run_stage(
        Registry(folder / "registry"), step.stage, name=name, config=step.config, inputs=inputs, seed=7, progress=progress,
        force=force, save_every=SaveEvery(steps=1),
    )  # fmt: skip


def _stage(name: str, folder: Path, progress: Progress) -> None:
    step = STEPS[name]
    small = {"corpus": (f"dialogues/{SMALL_CORPUS}",)}
    _make(folder, step, "killed", {role: small.get(role, given) for role, given in step.inputs.items()}, progress)


def _alias(folder: Path, progress: Progress) -> None:
    Registry(folder / "registry").set_alias("policy/chat", "policy/sft")


def _prune(folder: Path, progress: Progress) -> None:
    prune(Registry(folder / "registry"))


def _score(folder: Path, progress: Progress) -> None:
    models = [f"reward_model/{axis}@1" for axis in AXES]
    with contextlib.chdir(folder):  # because the name of the file is part of the config
        config = ScoreConfig(
            file=TO_SCORE, sha256=sha256_of(TO_SCORE), models=tuple(zip(models, AXES, strict=True)), rows_per_chunk=4
        )
        _make(folder, Step(STAGES["score"], "", config, {}), "killed", {"models": models}, progress)


TARGETS = [
    *(
        Target(name, partial(_stage, name), frozenset(PLACES) - (set() if step.stage.saves_states else {"save"}))
        for name, step in STEPS.items()
    ),
    Target("score", _score, frozenset(PLACES)),
    Target("prune", _prune, frozenset({"fsync", "rename", "remove", "lock"})),
    Target("alias", _alias, frozenset({"write", "fsync", "rename", "lock"})),
]


def kill_plan(targets: Sequence[Target], timed: int, named: int, seed: int) -> dict[str, list[Kill]]:
    """``timed`` and ``named`` kills dealt out to the targets, the points evenly.

    What is most likely to go wrong comes first: a target that saves dies right after its last state, when there is nothing
    left to do but to tell, and inside of another save; a target that does not, inside of anything.
    """
    rng = random.Random(seed)
    plan: dict[str, list[Kill]] = {target.name: [] for target in targets}
    used: Counter[str] = Counter()
    for index in range(named):
        target = targets[index % len(targets)]
        passed = [point for point in POINTS if point.partition(":")[0] in target.operations]
        inside = [point for point in passed if point.endswith(":inside")]
        first = [["save:after"], ["save:inside"]] if "save" in target.operations else [inside]
        points = [*first, *[passed] * named][len(plan[target.name])]
        point = min(rng.sample(points, len(points)), key=used.__getitem__)
        used[point] += 1
        plan[target.name].append(Kill(point, LAST if points == ["save:after"] else rng.random()))
    for index in range(timed):
        plan[targets[-1 - index % len(targets)].name].append(Kill(TIME, rng.random()))
    for kills in plan.values():
        rng.shuffle(kills)
    return plan
