"""Does the margin of the ranking loss help (paper Tables 27 and 28, Figure 27)? Findings F3 and F7.

The helpfulness model is trained with no margin, the small and the large one, all else equal.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.findings.reward_figures import score_histogram
from eval.findings.reward_models import (
    TABLE_28,
    Arms,
    ScoredPair,
    accuracy,
    accuracy_difference,
    margin_helps_separable,
    margin_spreads_scores,
    share_at_the_ends,
)
from eval.findings.study import Row, Study, Table
from preference_data.comparison import RATINGS
from preference_data.margin import MARGINS
from registry.saved_states import SavedStates
from stages.measure.study_files import write_study
from stages.stage import Inputs, one
from stages.studies.arms.reward_arms import (
    SAME_START,
    ceiling_rows,
    gold_pairs,
    held_out_comparisons,
    logits,
    pairs_by_arm,
    run_facts,
    train_arms,
)
from stages.studies.arms.trainings import Arm, trainings
from stages.study_sections import RewardStudyConfig
from stages.terminal.progress import Progress
from stages.train.train_reward import training_comparisons

AT_THE_ENDS = "outside [0.05, 0.95]"
COLUMNS = (*RATINGS, "all")


def run(
    config: RewardStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    heldout, comparisons = held_out_comparisons(inputs), training_comparisons(config.training, inputs, seed)[0]
    policy = one(inputs, "policy").path
    arms = [Arm(name, policy, config.training.model_copy(update={"margin": name}), comparisons) for name in MARGINS]
    how_often = trainings(arms, config.training_seeds)
    scores = train_arms(arms, heldout, how_often, seed, progress, states)
    pairs, gold = pairs_by_arm(scores, heldout), gold_pairs(inputs, heldout)
    study = Study(
        title="Does the margin of the ranking loss help?",
        tables=(_by_rating(pairs, gold), _differences(pairs), _ends(pairs)),
        findings=(margin_helps_separable(pairs), margin_spreads_scores(pairs)),
        notes=(how_often.note, SAME_START),
        facts=run_facts(how_often, scores),
    )
    figure = score_histogram({name: logits(rows) for name, rows in pairs.items()}, "margin")
    return write_study(study, out, [*pairs.values(), gold], {"scores": figure})


def _by_rating(pairs: Arms, gold: Sequence[ScoredPair]) -> Table:
    rows = [Row(f"margin {name}", accuracy(scored), TABLE_28[name]) for name, scored in pairs.items()]
    return Table("Accuracy of the helpfulness model by rating (Table 28)", COLUMNS, (*rows, *ceiling_rows(gold)))


def _differences(pairs: Arms) -> Table:
    rows = tuple(
        Row(
            f"{name} - none",
            {
                rating: accuracy_difference(pairs, name, "none", None if rating == "all" else rating)
                for rating in COLUMNS
                if rating == "all" or any(pair.rating == rating for pair in pairs[name])
            },
            {rating: TABLE_28[name][rating] - TABLE_28["none"][rating] for rating in COLUMNS},
        )
        for name in ("small", "large")
    )
    return Table("Difference in accuracy on the same comparisons", COLUMNS, rows)


def _ends(pairs: Arms) -> Table:
    rows = tuple(Row(f"margin {name}", {AT_THE_ENDS: share_at_the_ends(scored)}) for name, scored in pairs.items())
    return Table("Share of scores near 0 or 1 (Fig 27)", (AT_THE_ENDS,), rows)
