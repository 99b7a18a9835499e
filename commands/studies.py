"""``rlhf study NAME``: an ablation or a closer look, with the paper's numbers beside ours and the verdicts of its findings.

What a study reads is what the recipe's run made, unless other references are given. ``--sizes`` makes the policies of other
sizes first, as the recipe makes its own.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import typer
from pydantic import BaseModel

from commands.making import load_stage
from commands.options import plain_errors
from commands.registry import print_json
from commands.roots import open_registry
from commands.study_options import StudyRun, run_options
from commands.study_output import print_study
from policy.config import Preset
from policy.placement import check_device
from registry.artifact import Artifact, did_you_mean
from registry.saved_states import SaveEvery
from stages.engine.run import run_stage
from stages.recipe import Recipe, SandboxRecipe
from stages.sections import AccuracyStudyConfig, RewardStudyConfig, RewardTrainingConfig, ScalingStudyConfig
from stages.step import Step
from stages.studies.inputs import policies_of_sizes, reward_inputs
from stages.terminal.progress import Progress, clock_text

study_app = typer.Typer(no_args_is_help=True, help="Ablations and closer looks: tables beside the paper's, findings judged.")


@dataclass(frozen=True)
class TrainingStudy:
    """A study that trains reward models of ``axis``; ``several``: from each of several policies."""

    name: str
    help: str
    axis: str
    stage: str
    config_type: type[RewardStudyConfig]
    example: str
    several: bool = False


TRAINING_STUDIES = (
    TrainingStudy(
        "margin", "The helpfulness model with no, the small and the large margin (paper Table 28, Fig 27).",
        "helpfulness", "stages.studies.margin:STAGE", RewardStudyConfig,
        "rlhf study margin --recipe nano --registry runs/nano-0/registry",
    ),
    TrainingStudy(
        "safety-loss", "The safety model with and without the auxiliary loss (paper Table 29).",
        "safety", "stages.studies.safety_loss:STAGE", RewardStudyConfig,
        "rlhf study safety-loss --recipe nano --registry runs/nano-0/registry",
    ),
    TrainingStudy(
        "reward-scaling", "The helpfulness model on growing shares of the data, from each policy given (paper Fig 6).",
        "helpfulness", "stages.studies.reward_scaling:STAGE", ScalingStudyConfig,
        "rlhf study reward-scaling --sizes pico,micro,nano --registry runs/nano-0/registry", several=True,
    ),
)  # fmt: skip


def _training_command(study: TrainingStudy) -> Callable[..., None]:
    @run_options()
    def command(
        policy: Annotated[
            list[str] | None,
            typer.Option(
                "--policy",
                metavar="REF",
                help=f"Policy to start from{'; may be repeated' * study.several}. Default: policy/sft.",
            ),
        ] = None,
        preferences: Annotated[
            list[str] | None,
            typer.Option("--preferences", metavar="REF", help="Preferences of this axis, all of them. Default: every round's."),
        ] = None,
        other_preferences: Annotated[
            list[str] | None,
            typer.Option("--other-preferences", metavar="REF", help="Those of the other axis, for the paper's mix."),
        ] = None,
        prompts: Annotated[
            str | None, typer.Option("--prompts", metavar="REF", help="Prompts of the held-out comparisons, for the ceiling.")
        ] = None,
        training_seeds: Annotated[
            int | None,
            typer.Option(
                "--training-seeds", metavar="N", help="Trainings of each arm. Default: three where an arm is cheap, else one."
            ),
        ] = None,
        sizes: Annotated[
            str | None,
            typer.Option(
                "--sizes",
                metavar="PRESET,...",
                hidden=not study.several,
                help="Start from policies of these sizes; those that the recipe's run has not made are made first, as "
                "policy/base-PRESET and policy/sft-PRESET, on the same documents and demonstrations.",
            ),
        ] = None,
        *,
        run: StudyRun,
    ) -> None:
        with plain_errors():
            chosen = run.load_recipe()
            presets = named_presets(sizes, policy)
            policies = policies_of_sizes(chosen, presets) if presets else tuple(policy or ["policy/sft"])
            if len(policies) > 1 and not study.several:
                raise ValueError(f"rlhf study {study.name} starts from one policy, and {len(policies)} were given")
            training: RewardTrainingConfig = getattr(chosen, study.axis)
            config = study.config_type(training=training, training_seeds=training_seeds)
            given = {
                "preferences": preferences,
                "other_preferences": other_preferences,
                "prompts": [prompts] if prompts else None,
            }
            inputs = {"policy": policies, **reward_inputs(chosen, training)}
            inputs |= {role: tuple(texts) for role, texts in given.items() if texts}
            run_study(study.stage, run.name or study.name, config, inputs, run.options, making_sizes(chosen, presets))

    return command


def named_presets(sizes: str | None, policy: Sequence[str] | None) -> list[str]:
    """The presets named by ``--sizes``, each once. Raises ValueError for one that is none, and beside ``--policy``."""
    if sizes is None:
        return []
    if policy:
        raise ValueError("--sizes and --policy both say what to start from; give one of them")
    found, known = list(dict.fromkeys(filter(None, map(str.strip, sizes.split(","))))), get_args(Preset)
    for each in found:
        if each not in known:
            raise ValueError(f"--sizes names {each!r}.{did_you_mean(each, known)} Sizes are presets: {', '.join(known)}")
    if not found:
        raise ValueError(f"--sizes names no preset; it takes some of {', '.join(known)}, parted by commas")
    return found


@study_app.command("accuracy")
@run_options(without="save_every")
def accuracy(
    evaluation: Annotated[
        str, typer.Option("--evaluation", metavar="REF", help="What `rlhf evaluate reward` measured.")
    ] = "evaluation/reward-models",
    *,
    run: StudyRun,
) -> None:
    """Both reward models on both test sets, calibration, disagreement, the threshold (paper Table 7, 8, Fig 29, 32).

    Example: rlhf study accuracy --registry runs/nano-0/registry
    """
    with plain_errors():
        config = AccuracyStudyConfig(safety_threshold=run.load_recipe().ppo.safety_threshold)
        run_study(
            "stages.studies.accuracy:STAGE", run.name or "accuracy", config, {"evaluation": (evaluation,)}, run.options, []
        )


for _study in TRAINING_STUDIES:
    study_app.command(_study.name, help=f"{_study.help}\n\nExample: {_study.example}")(_training_command(_study))


def making_sizes(recipe: Recipe, presets: Sequence[str]) -> list[Step]:
    """What makes the policies of other sizes; it loads torch, so it is asked for only where there are any."""
    if not presets:
        return []
    from stages.studies.steps import size_steps

    assert isinstance(recipe, SandboxRecipe)
    return size_steps(recipe, presets)


def run_study(
    place: str,
    name: str,
    config: BaseModel,
    inputs: Mapping[str, tuple[str, ...]],
    options: Mapping[str, Any],
    before: Sequence[Step],
) -> None:
    """Make what the study needs (``before``) and then the study, and print it."""
    registry = open_registry(options["registry"])
    save_every = SaveEvery.parse(options["save_every"])
    check_device(options["device"])
    made: dict[str, str] = {}
    if options["dry_run"]:
        coming = [step.makes for step in before]
        resolved = {
            role: [text if text in coming else str(registry.resolve(text).reference) for text in texts]
            for role, texts in inputs.items()
        }
        print_json({"study": name, "makes_first": coming, "inputs": resolved, "config": config.model_dump(mode="json")})
        return
    shared = {"seed": options["seed"], "progress": Progress(quiet=options["quiet"]), "save_every": save_every}
    shared |= {"device": options["device"]}
    for step in before:
        first = run_stage(registry, step.stage, name=step.name, config=step.config, inputs=step.inputs_from(made), **shared)
        made[step.makes] = str(first.artifact.reference)
    inputs = {role: tuple(made.get(text, text) for text in texts) for role, texts in inputs.items()}
    result = run_stage(registry, load_stage(place), name=name, config=config, inputs=inputs, force=options["force"], **shared)
    told, manifest = _told(result.artifact), result.artifact.manifest
    reference = str(result.artifact.reference)
    if options["json"]:
        print_json(
            {"artifact": reference, "digest": manifest.digest, "metrics": manifest.metrics, "seconds": result.seconds, **told}
        )
        return
    print_study(told)
    typer.echo(f"{reference}{' (up to date)' if result.up_to_date else f' in {clock_text(result.seconds)}'}")
    for figure in sorted(result.artifact.path.glob("*.svg")):
        typer.echo(f"figure: {figure}")


def _told(artifact: Artifact) -> dict[str, Any]:
    return json.loads(artifact.file("study.json").read_text(encoding="utf-8"))
