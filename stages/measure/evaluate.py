"""The measurements: a policy's answers, and the reward models' accuracy.

``gold`` enters here (and through the annotators) alone, in the place of the paper's human raters. What is measured is written
row by row, so that the report can compare any two policies on the same prompts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from eval.answers import Answer
from eval.reward_accuracy import ScoredComparison, model_accuracy
from preference_data.comparison import Comparison
from preference_data.parquet import write_records
from registry.saved_states import SavedStates
from sandbox.annotators import utility
from sandbox.gold import judge
from stages.data.import_annotations import comparisons_of
from stages.data.make_world import cases_of, world_of
from stages.engine.batches import SavedBatches
from stages.engine.models import sampler_of, scorer_of
from stages.measure.answers import judged_answers
from stages.sections import EvaluationConfig
from stages.stage import Inputs, one
from stages.terminal.progress import Progress


def evaluate_policy(
    config: EvaluationConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    answers = judged_answers(sampler_of(inputs, progress), config, inputs, seed, progress, states)
    write_records(out / "answers.parquet", answers, Answer)
    return _summary(answers)


def _summary(answers: Sequence[Answer]) -> dict[str, Any]:
    by_group = {
        name: [answer for answer in answers if answer.group == name] for name in ("helpful", "adversarial", "borderline")
    }
    families = sorted({answer.family for answer in by_group["helpful"]})
    return {
        "gold_helpfulness": _mean([answer.gold_helpfulness for answer in by_group["helpful"]]),
        "gold_by_family": {
            family: _mean([answer.gold_helpfulness for answer in answers if answer.family == family]) for family in families
        },
        "violation_rate": _mean([not answer.is_safe for answer in by_group["adversarial"]]),
        "false_refusal_rate_helpful": _mean([answer.refused for answer in by_group["helpful"]]),
        "false_refusal_rate_borderline": _mean([answer.refused for answer in by_group["borderline"]]),
        "finished": _mean([answer.finished for answer in answers]),
        "num_tokens": _mean([answer.num_tokens for answer in answers]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def evaluate_reward(
    config: EvaluationConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    artifact = one(inputs, "prompts")
    world, cases = world_of(artifact), cases_of(artifact)
    comparisons = comparisons_of(inputs["preferences"], "test")
    if unknown := [comparison for comparison in comparisons if comparison.prompt_id not in cases]:
        raise ValueError(
            f"{len(unknown)} of {len(comparisons)} held-out comparisons are of prompts that {artifact.reference} does not hold "
            f"(the first is {unknown[0].prompt_id}), so gold cannot judge them; for people's comparisons use rlhf score, "
            "which prints the accuracy by rating"
        )
    saved = SavedBatches(states, SideScores)
    scores = {
        (batch.axis, batch.side): batch.scores for batch in saved.save(_score_sides(inputs, comparisons, progress, saved.done))
    }

    def gold(comparison: Comparison, response: str) -> float:
        return utility(judge(world, cases[comparison.prompt_id], response), comparison.axis)

    rows = [
        ScoredComparison(
            comparison.prompt_id, comparison.axis, comparison.rating,
            scores["helpfulness", "chosen"][index], scores["helpfulness", "rejected"][index],
            scores["safety", "chosen"][index], scores["safety", "rejected"][index],
            gold(comparison, comparison.chosen), gold(comparison, comparison.rejected),
            comparison.chosen_safe, comparison.rejected_safe,
        )
        for index, comparison in enumerate(comparisons)
    ]  # fmt: skip
    write_records(out / "comparisons.parquet", rows, ScoredComparison)
    return {
        axis: {rating: estimate.value for rating, estimate in model_accuracy(rows, axis, axis).items()}
        for axis in ("helpfulness", "safety")
        if any(row.axis == axis for row in rows)
    }


@dataclass(frozen=True, slots=True)
class SideScores:
    """What the model of an axis gives to one side (chosen or rejected) of all comparisons, raw logits."""

    axis: str
    side: str
    scores: list[float]


def _score_sides(
    inputs: Inputs, comparisons: Sequence[Comparison], progress: Progress, done: Sequence[SideScores]
) -> Iterator[SideScores]:
    """Both models on both sides; what is ``done`` comes first."""
    yield from done
    for axis in ("helpfulness", "safety"):
        if sides := [
            side for side in ("chosen", "rejected") if (axis, side) not in {(batch.axis, batch.side) for batch in done}
        ]:
            scorer = scorer_of(inputs, axis)
            progress.say(f"scoring {len(comparisons)} held-out comparisons with the {axis} model")
            for side in sides:
                dialogues = [getattr(comparison, f"{side}_dialogue") for comparison in comparisons]
                yield SideScores(axis, side, scorer.score(dialogues).tolist())
