"""Does accuracy grow with preference data, and with the size of the model (paper Figure 6)? Findings F5 and F6.

The helpfulness model is trained on growing shares of its comparisons, each within the next, in an order drawn from the seed.
Each policy that is given is a size; with fewer than three sizes F6 is not measured. More data are more steps, as in the paper.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.findings.reward_figures import scaling_curves
from eval.findings.reward_models import ScoredPair, accuracy, grows_with_data, larger_is_better
from eval.findings.study import Row, Study, Table
from eval.intervals import Estimate
from preference_data.comparison import RATINGS
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from stages.measure.study_files import write_study
from stages.stage import Inputs
from stages.studies.arms.reward_arms import (
    ceiling_rows,
    gold_pairs,
    held_out_comparisons,
    pairs_by_arm,
    run_facts,
    train_arms,
)
from stages.studies.arms.trainings import Arm, parameters_of, trainings
from stages.study_sections import ScalingStudyConfig
from stages.terminal.progress import Progress
from stages.train.train_reward import training_comparisons

COLUMNS = (*RATINGS, "all")
NESTED = "Each share of the comparisons lies within the next, and all arms read them in orders drawn from the same seed."
Curve = dict[int, list[ScoredPair]]


def run(
    config: ScalingStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    heldout, comparisons = held_out_comparisons(inputs), training_comparisons(config.training, inputs, seed)[0]
    random.Random(f"reward-scaling:{seed}").shuffle(comparisons)
    sizes = sorted({max(1, round(share * len(comparisons))) for share in config.shares})
    if len(sizes) < 2:
        raise ValueError(f"{len(comparisons)} comparisons have no shares of several sizes; give more of them")
    policies = inputs["policy"]
    if len({parameters_of(policy.path) for policy in policies}) < len(policies):
        raise ValueError("two of the policies are of one size, and sizes are what is compared; give one policy of each size")
    arms = [Arm(_arm(policy, size), policy.path, config.training, comparisons[:size]) for policy in policies for size in sizes]
    how_often = trainings(arms, config.training_seeds)
    scores = train_arms(arms, heldout, how_often, seed, progress, states)
    pairs, gold = pairs_by_arm(scores, heldout), gold_pairs(inputs, heldout)
    parameters = {run.arm: run.num_parameters for run in scores}
    curves: dict[str, Curve] = {
        str(policy.reference): {size: pairs[_arm(policy, size)] for size in sizes} for policy in policies
    }
    full = {parameters[_arm(policy, sizes[-1])]: pairs[_arm(policy, sizes[-1])] for policy in policies}
    measured = {name: {size: accuracy(scored) for size, scored in curve.items()} for name, curve in curves.items()}
    rows = [
        Row(f"{name}, {size:,} comparisons", by_rating) for name, curve in measured.items() for size, by_rating in curve.items()
    ]
    heading = "Accuracy of the helpfulness model by data and size (Fig 6: from 51 to 63 %, where clear from 50 to 81 %)"
    study = Study(
        title="Does accuracy grow with preference data, and with the size of the model?",
        tables=(Table(heading, COLUMNS, (*rows, *ceiling_rows(gold))),),
        findings=(grows_with_data(curves), larger_is_better(full)),
        notes=(how_often.note, NESTED),
        facts=run_facts(how_often, scores),
    )
    return write_study(study, out, [*pairs.values(), gold], {"scaling": scaling_curves(_lines(measured))})


def _arm(policy: Artifact, size: int) -> str:
    return f"{policy.reference}, {size} comparisons"


def _lines(measured: Mapping[str, Mapping[int, Mapping[str, Estimate]]]) -> dict[str, dict[str, dict[int, Estimate]]]:
    """Of each policy, the curve of the clearest comparisons and that of all."""
    return {
        name.removeprefix("policy/"): {
            rating: {size: by_rating[rating] for size, by_rating in curve.items() if rating in by_rating}
            for rating in (RATINGS[0], "all")
        }
        for name, curve in measured.items()
    }
