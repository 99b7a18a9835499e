"""What should a version learn from (paper 3.2.3)? Finding F11.

One base model is tuned with the best samples of the last round alone, with those of all rounds, and, as a control, with a
random answer to each prompt of all rounds. Demonstrations, distilled answers and Ghost Attention dialogues are those of the
version that the recipe would make, the same in all arms. The control is no claim of the paper: it tells what selection is
worth.
"""

from pathlib import Path
from typing import Any

from eval.findings.study import Row, Study, Table
from eval.findings.verdict import Effect
from eval.findings.versions import (
    ALL_ROUNDS,
    ALL_ROUNDS_RANDOM,
    LAST_ROUND,
    RARE_FAMILY,
    Arms,
    gold_difference,
    pooling_keeps_rare_skill,
)
from registry.saved_states import SavedStates
from stages.engine.prompts import prompts_of
from stages.measure.study_files import write_study
from stages.stage import Inputs, one
from stages.studies.arms.tuned_arms import (
    APART,
    COUNTED,
    TunedArm,
    answers_by_arm,
    run_facts,
    tables,
    trained_note,
    tune_arms,
    tuned_trainings,
    write_answers,
)
from stages.study_sections import TunedStudyConfig
from stages.terminal.progress import Progress
from stages.train.tune import version_dialogues

MORE_DATA = (
    "All rounds hold more dialogues than the last, and so more steps: what pooling gains here is what a version gains by it, "
    "more data included, as in the paper."
)
SELECTION = "What selection is worth, which the paper does not say"
DIFFERENCES = ((ALL_ROUNDS, LAST_ROUND), (ALL_ROUNDS, ALL_ROUNDS_RANDOM))


def run(
    config: TunedStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    _check(inputs)
    arms = arms_of(config, inputs)
    how_often = tuned_trainings(arms, config, one(inputs, "policy").path)
    runs = tune_arms(arms, config, inputs, how_often, seed, progress, states)
    answers = answers_by_arm(runs)
    write_answers(answers, out)
    selection, verdict = _selection(answers)
    rounds = ", ".join(str(artifact.reference) for artifact in inputs["samples"])
    study = Study(
        title="Should a version learn from the samples of all rounds?",
        tables=(*tables(answers, DIFFERENCES), Table(SELECTION, ("gold helpfulness",), (selection,))),
        findings=(pooling_keeps_rare_skill(answers),),
        notes=(how_often.told(APART, COUNTED), f"The rounds are {rounds}.", trained_note(runs), MORE_DATA, verdict),
        facts=run_facts(how_often, runs),
    )
    return write_study(study, out)


def arms_of(config: TunedStudyConfig, inputs: Inputs) -> list[TunedArm]:
    best, random = (config.tuning.model_copy(update={"targets": targets}) for targets in ("best", "random"))
    last = {**inputs, "samples": inputs["samples"][-1:]}
    return [
        TunedArm(LAST_ROUND, version_dialogues(best, last)),
        TunedArm(ALL_ROUNDS, version_dialogues(best, inputs)),
        TunedArm(ALL_ROUNDS_RANDOM, version_dialogues(random, inputs)),
    ]


def _check(inputs: Inputs) -> None:
    samples, prompts = inputs["samples"], one(inputs, "prompts")
    if len(samples) < 2:
        raise ValueError(
            f"{', '.join(str(artifact.reference) for artifact in samples)} is one round, and pooling needs two or more; give "
            "the samples of each round, the last one last"
        )
    if not any(prompt.family == RARE_FAMILY for prompt in prompts_of(prompts)):
        raise ValueError(
            f"none of the prompts of {prompts.reference} is of the family {RARE_FAMILY!r}, the rare skill that is measured; "
            "give more helpful evaluation prompts"
        )


def _selection(arms: Arms) -> tuple[Row, str]:
    """What selection is worth, and a note of its verdict: judged as a finding's part would be, and none of the paper's."""
    gain = Effect("Selection beats the random control", gold_difference(arms, ALL_ROUNDS, ALL_ROUNDS_RANDOM))
    return Row(f"{ALL_ROUNDS} - {ALL_ROUNDS_RANDOM}", {"gold helpfulness": gain.estimate}), f"{gain.name}: {gain.verdict}."
