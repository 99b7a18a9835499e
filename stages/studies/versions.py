"""Does each version improve on the last (paper Figures 11 and 20)? Findings F12, F13, F14 and F23.

Nothing is sampled or scored here: the answers of every policy to the same prompts lie in the evaluations, with the scores of
the reward models and what gold thinks of them.
"""

from pathlib import Path
from typing import Any

from eval.findings import versions_progress as progress_of
from eval.findings.study import Study
from eval.findings.versions_progress import CONTESTS, win_rates_grow, win_table
from preference_data.comparison import AXES
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from stages.engine.artifacts import answers_of, parent_digests
from stages.measure.study_files import write_study
from stages.stage import Inputs, one
from stages.studies.arms.tuned_arms import family_table, worth_table
from stages.study_sections import VersionsStudyConfig
from stages.terminal.progress import Progress

ROLES = ("first", "versions", "with_ppo")
TIES = "An answer in the same words as the first version's is a tie; ties are no part of a win rate."


def run(
    config: VersionsStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    first, rounds, after = one(inputs, "first"), list(inputs["versions"]), list(inputs.get("with_ppo", []))
    _check([first, *rounds, *after])
    answers = {artifact.reference.name: answers_of(artifact) for artifact in (first, *rounds, *after)}
    of_rounds = {artifact.reference.name: answers[artifact.reference.name] for artifact in (first, *rounds)}
    names = list(answers)
    ppo = [progress_of.ppo_improves(names[-1], names[-2], answers)] if after else []
    beside = [(rounds[-1].reference.name, names[0])] if len(rounds) > 1 else []
    study = Study(
        title="Does each version improve on the last?",
        tables=(
            *(win_table(contest, answers) for contest in CONTESTS),
            worth_table(answers, [*zip(names[1:], names, strict=False), *beside]),
            family_table(answers, ()),
            progress_of.tail_table(answers),
        ),
        findings=(
            *(win_rates_grow(contest, of_rounds) for contest in CONTESTS), *ppo, progress_of.bad_tail_goes(of_rounds)
        ),
        notes=(
            f"One answer of each policy to each prompt, compared with that of {names[0]} and of the policy before it.",
            TIES,
        ),
    )  # fmt: skip
    return write_study(study, out)


def _check(evaluations: list[Artifact]) -> None:
    """Raise ValueError unless all evaluations are of different policies, with the same prompts, reward models and settings."""
    names = [artifact.reference.name for artifact in evaluations]
    if len(set(names)) < len(names):
        raise ValueError(f"the evaluations are called {', '.join(names)}; give each version once")
    for role in (*AXES, "prompts"):
        digests = {evaluation.reference: parent_digests(evaluation).get(role, []) for evaluation in evaluations}
        if different := [name for name in digests if digests[name] != digests[evaluations[0].reference]]:
            raise ValueError(
                f"{evaluations[0].reference} and {different[0]} were measured with different artifacts as {role}; measure one "
                "of them anew: `rlhf evaluate policy --policy REF`"
            )
    settings = {str(artifact.manifest.config) for artifact in evaluations}
    if len(settings) > 1:
        raise ValueError(
            f"the evaluations were sampled with different settings: {'; '.join(sorted(settings))}; use one for all"
        )
