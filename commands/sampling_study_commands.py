"""``rlhf study best-of-n`` and ``rlhf study temperature``: many responses to each of some prompts, sampled and scored once, and
looked at for every number of them (paper Figures 7 and 8)."""

from typing import Annotated

import typer

from commands.options import plain_errors
from commands.studies import run_study
from commands.study_options import StudyRun, run_options
from stages.studies.inputs import sampling_study_config

POLICY_HELP = "Policy to sample from; may be repeated."
HelpfulnessOption = Annotated[str, typer.Option("--helpfulness", metavar="REF", help="Helpfulness reward model.")]
SafetyOption = Annotated[str, typer.Option("--safety", metavar="REF", help="Safety reward model.")]
PromptsOption = Annotated[str, typer.Option("--prompts", metavar="REF", help="Prompts to draw from.")]
NumPromptsOption = Annotated[
    int | None, typer.Option("--num-prompts", metavar="N", help="Benign prompts to sample for. Default: the recipe's.")
]
NumAdversarialOption = Annotated[
    int | None,
    typer.Option("--num-adversarial", metavar="N", help="Prompts with the safety tag, beside those. Default: the recipe's."),
]
SamplesOption = Annotated[
    int | None, typer.Option("--k", metavar="K", help="Responses to each prompt at each temperature. Default: the recipe's.")
]


def add_sampling_studies(app: typer.Typer) -> None:
    """Add both to the studies."""
    app.command("best-of-n")(best_of_n)
    app.command("temperature")(temperature)


@run_options()
def best_of_n(
    policy: Annotated[
        list[str] | None, typer.Option("--policy", metavar="REF", help=f"{POLICY_HELP} Default: policy/sft.")
    ] = None,
    helpfulness: HelpfulnessOption = "reward_model/helpfulness",
    safety: SafetyOption = "reward_model/safety",
    prompts: PromptsOption = "prompts/evaluation",
    temperature: Annotated[float, typer.Option("--temperature", metavar="T", help="Sampling temperature.")] = 1.0,
    num_prompts: NumPromptsOption = None,
    num_adversarial: NumAdversarialOption = None,
    k: SamplesOption = None,
    *,
    run: StudyRun,
) -> None:
    """Maximum, median and gold of the best of N samples as N grows (paper Fig 7).

    Example: rlhf study best-of-n --registry runs/nano-0/registry --policy policy/sft --policy policy/v5
    """
    with plain_errors():
        asked = {"num_helpful": num_prompts, "num_adversarial": num_adversarial, "k": k, "temperatures": (temperature,)}
        inputs = _inputs(policy or ["policy/sft"], helpfulness, safety, prompts)
        config = sampling_study_config(run.load_recipe(), asked)
        run_study("stages.studies.best_of_n:STAGE", run.name or "best-of-n", config, inputs, run.options, [])


@run_options()
def temperature(
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", metavar="REF", help=f"{POLICY_HELP} Default: policy/sft and the recipe's last version."),
    ] = None,
    helpfulness: HelpfulnessOption = "reward_model/helpfulness",
    safety: SafetyOption = "reward_model/safety",
    prompts: PromptsOption = "prompts/evaluation",
    temperatures: Annotated[
        str | None,
        typer.Option("--temperatures", metavar="T,...", help="Sampling temperatures. Default: the paper's, 0.6 to 1.5."),
    ] = None,
    num_prompts: NumPromptsOption = None,
    num_adversarial: NumAdversarialOption = None,
    k: SamplesOption = None,
    *,
    run: StudyRun,
) -> None:
    """The maximum of N samples by sampling temperature, and the best temperature for one and for many (paper Fig 8).

    Example: rlhf study temperature --registry runs/nano-0/registry --temperatures 0.6,1.0,1.4
    """
    with plain_errors():
        chosen = run.load_recipe()
        asked = {"num_helpful": num_prompts, "num_adversarial": num_adversarial, "k": k, "temperatures": _listed(temperatures)}
        inputs = _inputs(policy or ["policy/sft", f"policy/{chosen.rounds[-1].version}"], helpfulness, safety, prompts)
        config = sampling_study_config(chosen, asked)
        run_study("stages.studies.temperature:STAGE", run.name or "temperature", config, inputs, run.options, [])


def _inputs(policies: list[str], helpfulness: str, safety: str, prompts: str) -> dict[str, tuple[str, ...]]:
    return {"policy": tuple(policies), "helpfulness": (helpfulness,), "safety": (safety,), "prompts": (prompts,)}


def _listed(temperatures: str | None) -> tuple[float, ...] | None:
    """Temperatures written as 0.6,1.0,1.4. Raises ValueError for what is no number."""
    if temperatures is None:
        return None
    try:
        return tuple(float(each) for each in temperatures.split(","))
    except ValueError as error:
        raise ValueError(f"--temperatures is {temperatures!r}; it takes numbers parted by commas, as 0.6,1.0,1.4") from error
