"""Every stage of a recipe in order, then the report. What is up to date is skipped, so it can be stopped and run again."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.artifact import did_you_mean
from registry.saved_states import SaveEvery
from registry.store import Registry
from stages.engine.run import StageResult, run_stage
from stages.measure.report import write_report
from stages.pipeline import Findings, budgets, steps
from stages.recipe import Recipe, RecipeError
from stages.references import final_policy
from stages.stage import Step
from stages.terminal.progress import Progress

CHAT_ALIAS = "policy/chat"


@dataclass(frozen=True)
class Reproduction:
    """What ``reproduce`` did. ``headline`` is None when it stopped before the report."""

    made: int
    up_to_date: int
    seconds: float
    headline: dict[str, Any] | None
    last: str


def reproduce(
    recipe: Recipe,
    folder: Path,
    seed: int,
    progress: Progress,
    first: str | None = None,
    last: str | None = None,
    save_every: SaveEvery = SaveEvery(),
    findings: Findings = "core",
    device: str = "cpu",
) -> Reproduction:
    """Run the recipe into ``folder/registry`` and draw ``folder/report``.

    ``save_every``, ``device``: see ``run_stage``; ``findings``: see ``stages.pipeline.steps``.

    ``first``: run again from this step on; ``last``: stop after it. Both name an artifact (policy/v2) or a stage (ppo).
    Raises RecipeError for a step that the recipe does not have.
    """
    started = time.perf_counter()
    registry = Registry(folder / "registry")
    plan = steps(recipe, findings)
    forced = _position(plan, first, len(plan))
    end = _position(plan, last, len(plan) - 1, from_the_end=True) + 1
    pinned: dict[str, str] = {}
    results: list[StageResult] = []
    for index, step in enumerate(plan[:end]):
        progress.stage(index + 1, end, f"{step.stage.name}: {step.makes}", _seconds_left(recipe, plan[:end], results))
        result = run_stage(
            registry, step.stage, name=step.name, config=step.config, inputs=step.pinned(pinned), seed=seed,
            progress=progress, force=index >= forced, save_every=save_every, device=device,
        )  # fmt: skip
        pinned[step.makes] = str(result.artifact.reference)
        results.append(result)
        if step.makes == final_policy(recipe):
            registry.set_alias(CHAT_ALIAS, pinned[step.makes])
    headline = None
    if results[-1].artifact.reference.kind == "report":
        headline = write_report(registry, results[-1].artifact, folder / "report", recipe.budget_seconds)
    made = sum(not result.up_to_date for result in results)
    return Reproduction(made, len(results) - made, time.perf_counter() - started, headline, pinned[plan[end - 1].makes])


def _position(plan: Sequence[Step], name: str | None, default: int, from_the_end: bool = False) -> int:
    if name is None:
        return default
    positions = [index for index, step in enumerate(plan) if name in (step.makes, step.stage.name)]
    if not positions:
        names = [*dict.fromkeys(step.makes for step in plan), *dict.fromkeys(step.stage.name for step in plan)]
        raise RecipeError(f"the recipe has no step {name!r}.{did_you_mean(name, names)} Steps: {', '.join(names)}")
    return positions[-1] if from_the_end else positions[0]


def _seconds_left(recipe: Recipe, plan: Sequence[Step], results: Sequence[StageResult]) -> float | None:
    """The budget of the steps to come, scaled by how the measured steps kept to theirs; None without a budget."""
    expected = budgets(recipe, plan)
    ran = [(result, budget) for result, budget in zip(results, expected, strict=False) if not result.up_to_date]
    budgeted = sum(budget for _, budget in ran)
    if not recipe.budget_seconds:
        return None
    pace = sum(result.seconds for result, _ in ran) / budgeted if budgeted > 5 else 1.0
    return pace * sum(expected[len(results) :])
