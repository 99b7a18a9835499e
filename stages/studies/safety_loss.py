"""Does the auxiliary safety loss help (paper Table 29)? Finding F4.

The safety model is trained with and without it, all else equal. Without it nothing says where the scores of safe responses
end and those of unsafe ones begin, so the recall at 0.5 of that arm depends on where its scores happen to lie: precision stands
beside it. What the threshold of the combined reward finds is judged on the model that the recipe uses (F26, ``accuracy.py``).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.findings.reward_models import (
    TABLE_29,
    THRESHOLD,
    Arms,
    ScoredPair,
    accuracy_by_bin,
    accuracy_difference,
    detection,
    safety_loss_lifts_recall,
)
from eval.findings.study import Row, Study, Table
from eval.intervals import Estimate
from preference_data.comparison import SAFETY_BINS, Comparison
from registry.saved_states import SavedStates
from stages.measure.study_files import write_study
from stages.stage import Inputs, one
from stages.studies.arms.reward_arms import (
    SAME_START,
    gold_pairs,
    held_out_comparisons,
    pairs_by_arm,
    run_facts,
    train_arms,
)
from stages.studies.arms.trainings import Arm, trainings
from stages.study_sections import RewardStudyConfig
from stages.terminal.progress import Progress
from stages.train.train_reward import training_comparisons

GOLD_SAFE = 0.5  # the utility of the lowest of the five levels that is safe
RECALL, PRECISION = "recall at 0.5", "precision at 0.5"
LOW_RECALL, LOW_PRECISION = "recall at 0.15", "precision at 0.15"
COLUMNS = ("all", *SAFETY_BINS, RECALL, PRECISION, LOW_RECALL, LOW_PRECISION)


def run(
    config: RewardStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    heldout, comparisons = held_out_comparisons(inputs), training_comparisons(config.training, inputs, seed)[0]
    _check(config, heldout)
    policy = one(inputs, "policy").path
    coefficients = {"without": 0.0, "with": config.training.safety_loss_coef}
    arms = [
        Arm(name, policy, config.training.model_copy(update={"safety_loss_coef": value}), comparisons)
        for name, value in coefficients.items()
    ]
    how_often = trainings(arms, config.training_seeds)
    scores = train_arms(arms, heldout, how_often, seed, progress, states)
    pairs, gold = pairs_by_arm(scores, heldout), gold_pairs(inputs, heldout)
    finding = safety_loss_lifts_recall(pairs)
    study = Study(
        title="Does the auxiliary safety loss help?",
        tables=(_by_arm(pairs, gold), _differences(pairs, finding.effects[0].estimate)),
        findings=(finding,),
        notes=(how_often.note, SAME_START),
        facts=run_facts(how_often, scores),
    )
    return write_study(study, out, [*pairs.values(), gold])


def _check(config: RewardStudyConfig, heldout: Sequence[Comparison]) -> None:
    if config.training.safety_loss_coef == 0:
        raise ValueError("safety.safety_loss_coef is 0, so both arms would be the same; give the auxiliary loss a weight")
    if not any(False in (comparison.chosen_safe, comparison.rejected_safe) for comparison in heldout):
        raise ValueError(
            f"none of the {len(heldout)} held-out comparisons has a response labelled unsafe, so recall cannot be measured; "
            "give preferences with safety labels"
        )


def _by_arm(pairs: Arms, gold: Sequence[ScoredPair]) -> Table:
    rows = []
    for name, scored in pairs.items():
        low = detection(scored, THRESHOLD)
        measured = {**_at_one_half(scored), LOW_RECALL: low.recall, LOW_PRECISION: low.precision}
        rows.append(Row(f"{name} auxiliary loss", measured, _renamed(TABLE_29[name])))
    if gold:
        centred = [replace(pair, chosen=pair.chosen - GOLD_SAFE, rejected=pair.rejected - GOLD_SAFE) for pair in gold]
        rows.append(Row("annotators' own ceiling", _at_one_half(centred)))
    return Table("Accuracy of the safety model by safety bin, and how it finds what is unsafe (Table 29)", COLUMNS, tuple(rows))


def _at_one_half(pairs: Sequence[ScoredPair]) -> dict[str, Estimate]:
    detected = detection(pairs, 0.5)
    return {**accuracy_by_bin(pairs), RECALL: detected.recall, PRECISION: detected.precision}


def _differences(pairs: Arms, recall: Estimate) -> Table:
    bins: dict[str, tuple[bool, bool] | None] = {"all": None, **SAFETY_BINS}
    measured = {}
    for name, labels in bins.items():
        arms = {
            arm: [pair for pair in scored if labels is None or (pair.chosen_safe, pair.rejected_safe) == labels]
            for arm, scored in pairs.items()
        }
        if arms["with"]:
            measured[name] = accuracy_difference(arms, "with", "without")
    paper = {name: value - TABLE_29["without"][name] for name, value in TABLE_29["with"].items()}
    row = Row("with - without", {**measured, RECALL: recall}, _renamed(paper))
    return Table("Difference on the same comparisons", (*bins, RECALL), (row,))


def _renamed(paper: dict[str, float]) -> dict[str, float]:
    return {RECALL if name == "recall" else name: value for name, value in paper.items()}
