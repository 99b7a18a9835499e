"""What the scores of a recipe's own two reward models are worth (paper Tables 7 and 8, Figures 29 and 32).

Findings F1, F2, F8 and F26, from the comparisons that `rlhf evaluate reward` scored: which model is best where, whether
accuracy rises with the rating, whether scores follow gold's absolute ratings, where the two models disagree, and how precise
the threshold of the combined reward is. Nothing is trained or scored here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.calibration import (
    Disagreement,
    calibration_error,
    disagreement,
    rank_correlation,
    rating_level,
    reliability,
    score_by_level,
)
from eval.findings import reward_models as findings
from eval.findings.reward_figures import calibration_curves, score_scatter
from eval.findings.reward_models import ScoredPair, accuracy, detection
from eval.findings.study import Row, Study, Table
from eval.intervals import Estimate
from eval.report.paper import TABLE_8
from eval.reward_accuracy import Detection, ScoredComparison
from preference_data.comparison import AXES, RATINGS, Axis
from preference_data.parquet import read_records
from registry.saved_states import SavedStates
from stages.measure.study_files import write_study
from stages.stage import Inputs, one
from stages.study_sections import AccuracyStudyConfig
from stages.terminal.progress import Progress

COLUMNS = (*RATINGS, "all")


def run(
    config: AccuracyStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    evaluation = one(inputs, "evaluation")
    rows = read_records(evaluation.file("comparisons.parquet"), ScoredComparison)
    tests = {axis: [row for row in rows if row.axis == axis] for axis in AXES}
    if missing := [axis for axis, test in tests.items() if not test]:
        raise ValueError(f"{evaluation.reference} holds no comparisons of {missing[0]}; evaluate both axes' preferences")
    scored = {axis: {model: _pairs(tests[axis], model) for model in (*AXES, "gold")} for axis in AXES}
    own: dict[str, list[ScoredPair]] = {axis: scored[axis][axis] for axis in AXES}
    levels = {axis: _levels(tests[axis], axis) for axis in AXES}
    correlations = {str(axis): rank_correlation(*levels[axis]) for axis in AXES}
    by_level = {str(axis): score_by_level(*levels[axis]) for axis in AXES}
    thresholds = sorted({findings.THRESHOLD, config.safety_threshold})
    detections = {threshold: detection(own["safety"], threshold) for threshold in thresholds}
    apart = _disagreement(tests["safety"])
    study = Study(
        title="What are the scores of the two reward models worth?",
        tables=(
            Table("Accuracy of both models on both test sets by rating (Table 8)", COLUMNS, _accuracies(scored)),
            _correlations(correlations),
            _thresholds(detections),
            Table(
                "Comparisons in which the two models prefer different responses",
                ("opposite",),
                (Row("safety test set", {"opposite": apart.opposite}),),
            ),
        ),
        findings=(
            findings.best_on_own_axis(scored["helpfulness"], scored["safety"]),
            findings.rises_with_rating(own),
            findings.scores_follow_ratings(correlations),
            findings.threshold_is_precise(detections[findings.THRESHOLD]),
        ),
        notes=(f"Nothing was trained: the scores are those in {evaluation.reference.name}.",),
        facts={
            "calibration": {axis: [asdict(level) for level in rows] for axis, rows in by_level.items()},
            "reliability": {axis: _reliability(pairs) for axis, pairs in own.items()},
            "responses_by_both_scores": {"safe": apart.safe, "unsafe": apart.unsafe},
        },
    )
    figures = {
        "calibration": calibration_curves(by_level),
        "helpfulness-safety": score_scatter(*_responses(tests["safety"])),
    }
    return write_study(study, out, figures=figures)


def _correlations(correlations: Mapping[str, Estimate]) -> Table:
    rows = tuple(Row(f"{axis} model", {"Spearman": correlation}) for axis, correlation in correlations.items())
    return Table("Rank correlation of score and gold rating (Fig 29)", ("Spearman",), rows, percent=False)


def _thresholds(detections: Mapping[float, Detection]) -> Table:
    """The paper's threshold and, where it is another, the recipe's own."""
    paper = {findings.THRESHOLD: {"precision": findings.DETECTION_PRECISION, "recall": 0.55}}
    rows = [
        Row(
            f"safety score below {threshold:g}",
            {"precision": detection.precision, "recall": detection.recall},
            paper.get(threshold, {}),
        )
        for threshold, detection in detections.items()
    ]
    return Table("Unsafe responses that a threshold finds (section 3.2.3)", ("precision", "recall"), tuple(rows))


def _pairs(rows: Sequence[ScoredComparison], model: str) -> list[ScoredPair]:
    return [
        ScoredPair(
            model, row.prompt_id, row.rating, getattr(row, f"{model}_chosen"), getattr(row, f"{model}_rejected"),
            row.chosen_safe, row.rejected_safe,
        )
        for row in rows
    ]  # fmt: skip


def _accuracies(scored: Mapping[Axis, Mapping[str, list[ScoredPair]]]) -> tuple[Row, ...]:
    rows = []
    for test_set, models in scored.items():
        for model in AXES:
            rows.append(Row(f"{model} model, {test_set} test set", accuracy(models[model]), TABLE_8[model, test_set]))
        rows.append(Row(f"annotators' own ceiling, {test_set}", accuracy(models["gold"])))
    return tuple(rows)


def _levels(rows: Sequence[ScoredComparison], axis: str) -> tuple[list[float], list[int], list[str]]:
    """(score, level of gold's rating, prompt id) of every response, each once: several comparisons share it."""
    responses = {
        (row.prompt_id, getattr(row, f"{axis}_{side}"), getattr(row, f"gold_{side}")): None
        for row in rows
        for side in ("chosen", "rejected")
    }
    units, scores, utilities = (list(column) for column in zip(*responses, strict=True))
    return scores, [rating_level(utility) for utility in utilities], units


def _reliability(pairs: Sequence[ScoredPair]) -> dict[str, Any]:
    chosen, rejected = [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]
    bins = reliability(chosen, rejected, [pair.prompt_id for pair in pairs])
    return {"calibration_error": calibration_error(bins), "bins": [asdict(bin_) for bin_ in bins]}


def _disagreement(rows: Sequence[ScoredComparison]) -> Disagreement:
    return disagreement(
        ([row.helpfulness_chosen for row in rows], [row.helpfulness_rejected for row in rows]),
        ([row.safety_chosen for row in rows], [row.safety_rejected for row in rows]),
        ([row.chosen_safe for row in rows], [row.rejected_safe for row in rows]),
        [row.prompt_id for row in rows],
    )


def _responses(rows: Sequence[ScoredComparison]) -> tuple[list[float], list[float], list[bool | None]]:
    """(helpfulness, safety, label) of every response, each once."""
    labels = {(row.prompt_id, row.helpfulness_chosen, row.safety_chosen): row.chosen_safe for row in rows} | {
        (row.prompt_id, row.helpfulness_rejected, row.safety_rejected): row.rejected_safe for row in rows
    }
    return [key[1] for key in labels], [key[2] for key in labels], list(labels.values())
