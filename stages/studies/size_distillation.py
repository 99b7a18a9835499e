"""Do small models gain from a larger model's rejection samples (paper 3.2.3)? Finding F29.

The paper samples with its largest model alone and tunes the smaller ones on what that model said best. Here a small base is
tuned on demonstrations together with its own best samples, with a larger policy's for the same prompts, as many of each and
chosen by the same reward models, and on the demonstrations alone. Prompts of which one side has nothing selected are left out
of both.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.findings.study import Study
from eval.findings.versions import DEMONSTRATIONS_ALONE, LARGER_SAMPLES, OWN_SAMPLES, larger_policys_samples_help
from preference_data.comparison import AXES
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from rlhf.rejection_sampling import selected_dialogues
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
from stages.train.tune import samples_of, version_dialogues

DIFFERENCES = ((LARGER_SAMPLES, OWN_SAMPLES), (OWN_SAMPLES, DEMONSTRATIONS_ALONE))


def run(
    config: TunedStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    own, larger = one(inputs, "own"), one(inputs, "larger")
    _check_alike(own, larger)
    arms = arms_of(config, inputs)
    how_often = tuned_trainings(arms, config, one(inputs, "policy").path)
    runs = tune_arms(arms, config, inputs, how_often, seed, progress, states)
    answers = answers_by_arm(runs)
    write_answers(answers, out)
    study = Study(
        title="Does a small model gain from a larger one's samples?",
        tables=tables(answers, DIFFERENCES),
        findings=(larger_policys_samples_help(answers),),
        notes=(
            how_often.told(APART, COUNTED),
            _sampled(OWN_SAMPLES, own),
            _sampled(LARGER_SAMPLES, larger),
            _left_out(own, larger),
            trained_note(runs),
        ),
        facts=run_facts(how_often, runs),
    )
    return write_study(study, out)


def arms_of(config: TunedStudyConfig, inputs: Inputs) -> list[TunedArm]:
    """The samples of both sides are of the prompts where both have a selected one."""
    own, larger = one(inputs, "own"), one(inputs, "larger")
    both = _answered(own) & _answered(larger)
    demonstrations = version_dialogues(config.tuning, {"demonstrations": inputs["demonstrations"]})
    given = {DEMONSTRATIONS_ALONE: [], OWN_SAMPLES: samples_of(own), LARGER_SAMPLES: samples_of(larger)}
    return [
        TunedArm(name, [*demonstrations, *selected_dialogues([sample for sample in samples if sample.prompt_id in both])])
        for name, samples in given.items()
    ]


def _answered(artifact: Artifact) -> set[str]:
    """The ids of the prompts with a selected response."""
    return {sample.prompt_id for sample in samples_of(artifact) if sample.selected}


def _check_alike(own: Artifact, larger: Artifact) -> None:
    """Raise ValueError, which says all that is wrong, unless the samples differ in nothing but the policy that they are of."""
    if problems := [problem for check in CHECKS for problem in check(own, larger)]:
        raise ValueError(f"{own.reference} (own) and {larger.reference} (larger) cannot be compared: {'; '.join(problems)}")


def _coverage_problems(own: Artifact, larger: Artifact) -> Iterator[str]:
    ours, theirs = (Counter(sample.prompt_id for sample in samples_of(artifact)) for artifact in (own, larger))
    if apart := ours.keys() ^ theirs.keys():
        yield (
            f"they cover different prompts ({len(ours.keys() - theirs)} are in own alone, {len(theirs.keys() - ours)} in "
            f"larger alone, {len(ours.keys() & theirs)} in both; {min(apart)} is in one alone); sample both with one seed, and "
            "with one num_helpful, num_adversarial and batch of rejection_sampling"
        )
    if uneven := sorted(prompt for prompt in ours.keys() & theirs.keys() if ours[prompt] != theirs[prompt]):
        yield (
            f"{len(uneven)} prompts have different numbers of samples ({uneven[0]}: {ours[uneven[0]]} in own, "
            f"{theirs[uneven[0]]} in larger); sample both with one rejection_sampling.k"
        )


def _scoring_problems(own: Artifact, larger: Artifact) -> Iterator[str]:
    for axis in AXES:
        ours, theirs = (artifact.manifest.parents.get(axis, []) for artifact in (own, larger))
        if not ours or [parent.digest for parent in ours] != [parent.digest for parent in theirs]:
            named = [", ".join(parent.reference for parent in given) or "one that is not known" for given in (ours, theirs)]
            yield (
                f"different {axis} models scored them ({named[0]} and {named[1]}); score one of them anew: `rlhf rescore "
                "--samples REF --helpfulness MODEL --safety MODEL`"
            )


def _selection_problems(own: Artifact, larger: Artifact) -> Iterator[str]:
    ours, theirs = _answered(own), _answered(larger)
    if not ours & theirs:
        yield (
            f"no prompt has a selected response of both ({len(ours)} have one of own, {len(theirs)} one of larger); sample for "
            "more prompts, or raise k or max_new_tokens of rejection_sampling"
        )


CHECKS = (_coverage_problems, _scoring_problems, _selection_problems)


def _left_out(own: Artifact, larger: Artifact) -> str:
    """On which prompts the arms are compared, for the reader."""
    prompts = {sample.prompt_id for sample in samples_of(own)}
    ours, theirs = _answered(own), _answered(larger)
    return (
        f"Tuned on the {len(ours & theirs):,} prompts where both have a selected response; {len(prompts - (ours & theirs)):,} "
        f"were left out: {len(ours - theirs):,} where {OWN_SAMPLES} alone have one, {len(theirs - ours):,} where "
        f"{LARGER_SAMPLES} alone, {len(prompts - ours - theirs):,} where neither."
    )


def _sampled(role: str, artifact: Artifact) -> str:
    """How the samples were made, for the reader."""
    samples = samples_of(artifact)
    policies = ", ".join(sorted({sample.policy for sample in samples}))
    temperatures = ", ".join(sorted({f"{sample.temperature:g}" for sample in samples}))
    num_prompts, num_selected = len({sample.prompt_id for sample in samples}), sum(sample.selected for sample in samples)
    return (
        f"{role[0].upper()}{role[1:]}: {artifact.reference}, {len(samples):,} responses of {policies} to {num_prompts:,} "
        f"prompts at temperature {temperatures}, {num_selected:,} of them selected."
    )
