"""``rlhf study pooling`` and ``rlhf study size-distillation``: what a version learns from its samples, and a small model from a
larger one's (paper 3.2.3).

What they read is what the recipe's run made, unless other references are given.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from commands.options import plain_errors
from commands.studies import making_sizes, run_study
from commands.study_options import StudyRun, run_options
from stages.recipe import Recipe
from stages.step import Step
from stages.studies.inputs import Given
from stages.studies.tuning_inputs import (
    REWARD_MODELS,
    pooling_inputs,
    size_distillation_inputs,
    smaller_preset,
    tuned_study_config,
)

DemonstrationsOption = Annotated[
    str | None, typer.Option("--demonstrations", metavar="REF", help="Supervised dialogues. Default: the recipe's.")
]
PromptsOption = Annotated[
    str | None, typer.Option("--prompts", metavar="REF", help="Prompts to answer. Default: prompts/evaluation.")
]
HelpfulnessOption = Annotated[
    str | None, typer.Option("--helpfulness", metavar="REF", help="Helpfulness reward model. Default: the recipe's, newest.")
]
SafetyOption = Annotated[
    str | None, typer.Option("--safety", metavar="REF", help="Safety reward model. Default: the recipe's, newest.")
]
AnswersOption = Annotated[
    int | None, typer.Option("--answers", metavar="N", min=1, help="Answers to each evaluation prompt. Default: four.")
]
TrainingSeedsOption = Annotated[
    int | None,
    typer.Option(
        "--training-seeds", metavar="N", min=1, help="Trainings of each arm. Default: three where an arm is cheap, else one."
    ),
]


def add_tuning_studies(app: typer.Typer) -> None:
    """Give ``app`` the studies of tuned versions."""
    app.command("pooling")(pooling)
    app.command("size-distillation")(size_distillation)


@run_options()
def pooling(
    policy: Annotated[str | None, typer.Option("--policy", metavar="REF", help="Base to tune. Default: policy/base.")] = None,
    demonstrations: DemonstrationsOption = None,
    samples: Annotated[
        list[str] | None,
        typer.Option(
            "--samples",
            metavar="REF",
            help="Samples of each round, the last one last. Default: those of the first version that the recipe tunes on the "
            "samples of all rounds.",
        ),
    ] = None,
    distilled: Annotated[
        list[str] | None, typer.Option("--distilled", metavar="REF", help="Distilled safety answers. Default: the recipe's.")
    ] = None,
    gatt: Annotated[
        list[str] | None, typer.Option("--gatt", metavar="REF", help="Ghost Attention dialogues. Default: the recipe's.")
    ] = None,
    prompts: PromptsOption = None,
    helpfulness: HelpfulnessOption = None,
    safety: SafetyOption = None,
    answers: AnswersOption = None,
    training_seeds: TrainingSeedsOption = None,
    *,
    run: StudyRun,
) -> None:
    """The last round's best samples, those of all rounds, or random ones: what should a version learn from (paper 3.2.3)?

    Example: rlhf study pooling --registry runs/nano-0/registry
    """
    with plain_errors():
        chosen = run.load_recipe()
        config = tuned_study_config(chosen, answers, training_seeds)
        given = {
            "policy": policy, "demonstrations": demonstrations, "samples": samples, "distilled": distilled, "gatt": gatt,
            "prompts": prompts, "helpfulness": helpfulness, "safety": safety,
        }  # fmt: skip
        inputs = _with_given(pooling_inputs(chosen), given)
        run_study("stages.studies.pooling:STAGE", run.name or "pooling", config, inputs, run.options, [])


@run_options()
def size_distillation(
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="PRESET",
            help="Size of the small model; the next below the recipe's when left out. Its policies and its samples of the "
            "first round's prompts are made first, as policy/base-PRESET, policy/sft-PRESET and samples/v1-PRESET.",
        ),
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="REF", help="The small base, together with --own; in place of --size.")
    ] = None,
    own: Annotated[
        str | None, typer.Option("--own", metavar="REF", help="The small model's samples, together with --policy.")
    ] = None,
    larger: Annotated[
        str | None,
        typer.Option(
            "--larger",
            metavar="REF",
            help="The larger policy's samples of the same prompts. Default: samples/v1, scored anew first, as "
            "samples/v1-rescored.",
        ),
    ] = None,
    demonstrations: DemonstrationsOption = None,
    prompts: PromptsOption = None,
    helpfulness: HelpfulnessOption = None,
    safety: SafetyOption = None,
    answers: AnswersOption = None,
    training_seeds: TrainingSeedsOption = None,
    *,
    run: StudyRun,
) -> None:
    """A small model tuned on its own best samples, and on a larger one's for the same prompts (paper 3.2.3).

    Example: rlhf study size-distillation --size micro --registry runs/nano-0/registry
    """
    with plain_errors():
        chosen = run.load_recipe()
        config = tuned_study_config(chosen, answers, training_seeds)
        preset = _preset(chosen, size, policy, own)
        given = {
            "policy": policy, "own": own, "larger": larger, "demonstrations": demonstrations, "prompts": prompts,
            "helpfulness": helpfulness, "safety": safety,
        }  # fmt: skip
        inputs = _with_given(size_distillation_inputs(chosen, preset), given)
        made = [role for role in ("own", "larger") if not given[role]]
        place = "stages.studies.size_distillation:STAGE"
        before = _before(chosen, preset, made, inputs)
        run_study(place, run.name or "size-distillation", config, inputs, run.options, before)


def _with_given(inputs: Given, given: dict[str, Any]) -> Given:
    """``inputs`` with what was given in their place."""
    return inputs | {role: (found,) if isinstance(found, str) else tuple(found) for role, found in given.items() if found}


def _preset(recipe: Recipe, size: str | None, policy: str | None, own: str | None) -> str:
    """The small model's; none where it is given. Raises ValueError where it is given by halves."""
    if not policy and not own:
        return smaller_preset(recipe, size)
    if size or not (policy and own):
        raise ValueError(
            "--policy and --own are the small base and what the policy tuned from it said, so they are given together, or "
            "--size makes both"
        )
    return ""


def _before(recipe: Recipe, preset: str, made: Sequence[str], inputs: Given) -> list[Step]:
    """What makes the small model and the samples of the roles ``made``; it loads torch, so it is asked only where needed."""
    if not made:
        return []
    from stages.studies.tuning_steps import sampling_steps

    sampling = sampling_steps(recipe, preset, {axis: inputs[axis] for axis in REWARD_MODELS})
    return [*making_sizes(recipe, [preset] if preset else []), *(sampling[role] for role in made)]
