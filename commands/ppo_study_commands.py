"""``rlhf study versions``, ``rlhf study goodhart`` and ``rlhf study whitening``: what came of the rounds and of PPO (paper
Figures 11 and 20, sections 3.2.3 and 3.4.1).

What they read is what the recipe's run made, unless other references are given.
"""

from typing import Annotated

import typer

from commands.options import plain_errors
from commands.studies import run_study
from commands.study_options import StudyRun, run_options
from stages.studies.inputs import Given
from stages.studies.ppo_inputs import (
    GoodhartStudyConfig,
    VersionsStudyConfig,
    goodhart_inputs,
    versions_inputs,
    whitening_config,
    whitening_inputs,
)


def add_ppo_studies(app: typer.Typer) -> None:
    """Give ``app`` the studies of the versions and of PPO."""
    app.command("versions")(versions)
    app.command("goodhart")(goodhart)
    app.command("whitening")(whitening)


@run_options(without="save_every")
def versions(
    first: Annotated[
        str | None,
        typer.Option("--first", metavar="REF", help="Evaluation that the others are compared with. Default: evaluation/sft."),
    ] = None,
    version: Annotated[
        list[str] | None,
        typer.Option(
            "--version",
            metavar="REF",
            help="Evaluation of a version, in the order of training; give each. Default: the recipe's.",
        ),
    ] = None,
    with_ppo: Annotated[
        str | None,
        typer.Option("--with-ppo", metavar="REF", help="Evaluation of the last version after PPO. Default: the recipe's."),
    ] = None,
    *,
    run: StudyRun,
) -> None:
    """Win rates against the first policy, gold from version to version, the tail of the scores (paper Fig 11 and 20).

    Example: rlhf study versions --registry runs/nano-0/registry
    """
    with plain_errors():
        inputs = _with(versions_inputs(run.load_recipe()), first=first, versions=version, with_ppo=with_ppo)
        place = "stages.studies.versions:STAGE"
        run_study(place, run.name or "versions", VersionsStudyConfig(), inputs, run.options, [])


@run_options(without="save_every")
def goodhart(
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="REF", help="Policy that PPO made. Default: the recipe's.")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option("--prompts", metavar="REF", help="Prompts that PPO drew from. Default: prompts/tuning.")
    ] = None,
    guard: Annotated[
        list[str] | None,
        typer.Option(
            "--guard",
            metavar="REF",
            help="Reward model of other annotators that no training has followed; may be repeated. Where there is no gold, one "
            "is needed.",
        ),
    ] = None,
    *,
    run: StudyRun,
) -> None:
    """PPO's checkpoints judged by gold and by guards: is the reward being fooled (paper 3.4.1)?

    Example: rlhf study goodhart --registry runs/nano-0/registry --guard reward_model/guard
    """
    with plain_errors():
        inputs = _with(goodhart_inputs(run.load_recipe()), policy=policy, prompts=prompts, guard=guard)
        place = "stages.studies.goodhart:STAGE"
        run_study(place, run.name or "goodhart", GoodhartStudyConfig(), inputs, run.options, [])


@run_options()
def whitening(
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="REF", help="Policy to start from. Default: the recipe's last version.")
    ] = None,
    helpfulness: Annotated[
        str | None,
        typer.Option("--helpfulness", metavar="REF", help="Helpfulness reward model. Default: the recipe's, newest."),
    ] = None,
    safety: Annotated[
        str | None, typer.Option("--safety", metavar="REF", help="Safety reward model. Default: the recipe's, newest.")
    ] = None,
    answers: Annotated[
        int | None, typer.Option("--answers", metavar="N", min=1, help="Answers to each evaluation prompt. Default: four.")
    ] = None,
    training_seeds: Annotated[
        int | None, typer.Option("--training-seeds", metavar="N", min=1, help="Trainings of each arm. Default: one.")
    ] = None,
    *,
    run: StudyRun,
) -> None:
    """PPO that whitens scores, as the paper does, rewards after the KL penalty, or nothing: an ablation (paper 3.2.3).

    Example: rlhf study whitening --registry runs/nano-0/registry --training-seeds 3
    """
    with plain_errors():
        recipe = run.load_recipe()
        config = whitening_config(recipe, answers, training_seeds)
        inputs = _with(whitening_inputs(recipe), policy=policy, helpfulness=helpfulness, safety=safety)
        run_study("stages.studies.whitening:STAGE", run.name or "whitening", config, inputs, run.options, [])


def _with(inputs: Given, **given: str | list[str] | None) -> Given:
    """``inputs`` with what was given in their place."""
    return inputs | {role: (found,) if isinstance(found, str) else tuple(found) for role, found in given.items() if found}
