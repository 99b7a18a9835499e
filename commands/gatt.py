"""``rlhf gatt`` and ``rlhf gatt-constraints``: Ghost Attention in one command, on the artifacts of a run or on a team's own.

``rlhf gatt`` makes the dialogues and tunes the policy on them, each an artifact of its own; a checkpoint folder and a file of
dialogues are added to the registry first.
"""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer

from commands.dialogue_files import dialogues_given
from commands.making import exists_in, make
from commands.options import (
    TRACKING,
    DeviceOption,
    QuietOption,
    RegistryOption,
    RunOptions,
    SeedOption,
    check_folder,
    existing,
    open_registry,
    plain_errors,
    registry_option,
    run_options,
)
from gatt.constraint_file import read_constraints
from policy.placement import check_device, on_device
from registry.store import Registry
from stages.catalog import STAGES
from stages.external_files import artifact_name, sha256_of, sha256_of_folder
from stages.recipe import Recipe, TeamRecipe, constraints_file, section_of
from stages.sections import CheckpointConfig, GattStageConfig
from stages.stage import Step, wired
from stages.terminal.progress import Progress


# Over 60 lines: most of them declare options.
@run_options("name", *TRACKING)
def gatt(
    policy: Annotated[
        str, typer.Option("--policy", metavar="REF|FOLDER", help="Policy that answers and is tuned, or a checkpoint folder.")
    ] = "policy/v3",
    dialogues: Annotated[
        list[str] | None,
        typer.Option("--dialogues", metavar="REF|FILE", help="Dialogues, or a JSONL file of them; may be repeated."),
    ] = None,
    samples: Annotated[
        list[str] | None,
        typer.Option(
            "--samples", metavar="REF", help="Rejection samples, of which the selected ones are used; may be repeated."
        ),
    ] = None,
    demonstrations: Annotated[
        str | None,
        typer.Option(
            "--demonstrations",
            metavar="REF",
            help="Dialogues of families that occur nowhere else are trained on too. Default: dialogues/demonstrations, where "
            "it exists and there is no file of constraints.",
        ),
    ] = None,
    multi_turn: Annotated[
        Literal["chained", "given"] | None,
        typer.Option(
            "--multi-turn", help="Chain single turns, or use given dialogues of several turns. Default: the recipe's."
        ),
    ] = None,
    constraints: Annotated[
        Path | None,
        typer.Option(
            "--constraints", metavar="FILE", help="JSONL file of constraints. Default: the recipe's, else the sandbox's."
        ),
    ] = None,
    intermediate: Annotated[
        Literal["original", "resampled"] | None,
        typer.Option(
            "--intermediate",
            help="Answers before the last: keep them, or sample them under the instruction. Default: the recipe's.",
        ),
    ] = None,
    instruction_in: Annotated[
        Literal["first_message", "system"] | None,
        typer.Option("--instruction-in", help="Where training keeps the instruction. Default: the recipe's."),
    ] = None,
    helpfulness: Annotated[
        str | None,
        typer.Option(
            "--helpfulness",
            metavar="REF",
            help="Reward model that selects the best answers. Default: reward_model/helpfulness, if it exists.",
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="REF", help="Chat policy that judges constraints without a checker.")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            metavar="REF",
            help="Prompts of the sandbox. Default: prompts/tuning, unless --constraints is given.",
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the dialogues; the tuned policy is named POLICY-NAME.")] = "gatt",
    *,
    run: RunOptions,
) -> None:
    """Ghost Attention: make dialogues that follow an instruction throughout, and tune the policy on them (paper 3.3).

    Example: rlhf gatt --recipe llama2-7b --policy policy/v3 --dialogues mine.jsonl --constraints constraints.jsonl
    """
    with plain_errors():
        if not dialogues and not samples:
            raise ValueError("there are no dialogues to instruct; give --dialogues REF or FILE, or --samples REF")
        registry, recipe = run.open_registry(), run.load_recipe()
        settings = {"multi_turn": multi_turn, "intermediate": intermediate, "instruction_in": instruction_in}
        config = _config(recipe, constraints, settings)
        added_policy, reference = _policy_given(registry, recipe, policy)
        added_dialogues, references = dialogues_given(dialogues or [])
        roles = {"demonstrations": demonstrations, "helpfulness": helpfulness, "judge": judge, "prompts": prompts}
        given: dict[str, tuple[str, ...]] = {role: (text,) for role, text in roles.items() if text}
        if config.constraints:  # a team's own: nothing of the sandbox belongs to them
            given = {"demonstrations": (), "prompts": ()} | given
        given |= {"policy": (reference,), "samples": tuple(samples or ()), "dialogues": references}
        inputs = wired(STAGES["gatt"], recipe, given, exists_in(registry))
        tuned = {"policy": (reference,), "dialogues": (f"dialogues/{name}",)}
        tuned_name = f"{reference.partition('/')[2].partition('@')[0]}-{name}"
        steps = [
            *added_policy,
            *added_dialogues,
            Step(STAGES["gatt"], name, config, inputs),
            Step(STAGES["sft"], tuned_name, section_of(recipe, "gatt_tuning"), tuned),
        ]
        measured_on = f" --dialogues OTHERS.jsonl --constraints {quote(config.constraints.file)}" if config.constraints else ""
        measured_on += f" --judge {judge}" if judge else ""
        measured_on += f" --set gatt.instruction_in={instruction_in}" if instruction_in else ""
        next_ = f"rlhf evaluate consistency --policy {{ref}}{measured_on}{run.same_recipe.removesuffix(run.same_registry)}"
        make(run, steps, next_=next_, force_all=True)


def _config(recipe: Recipe, constraints: Path | None, settings: Mapping[str, str | None]) -> GattStageConfig:
    """The recipe's section, with what the options set."""
    config = section_of(recipe, "gatt")
    assert isinstance(config, GattStageConfig)
    values = config.model_dump() | {key: value for key, value in settings.items() if value is not None}
    if constraints := constraints or constraints_file(recipe):
        read_constraints(existing(constraints))  # a fault in it is reported now, not after the checkpoint has been copied
        values["constraints"] = {"file": str(constraints), "sha256": sha256_of(constraints)}
    return GattStageConfig.model_validate(values)


def _policy_given(registry: Registry, recipe: Recipe, policy: str) -> tuple[list[Step], str]:
    """The step that adds a checkpoint folder to the registry, if ``policy`` is one, and the reference of the policy."""
    if not (policy.startswith(("/", ".", "~")) or (Path(policy) / "config.json").is_file()):
        return [], str(registry.resolve(policy).reference)
    folder = Path(policy).expanduser()
    if not isinstance(recipe, TeamRecipe):
        raise ValueError(
            f"{policy} is a checkpoint folder, and the recipe {recipe.name} pretrains its own base model; give --recipe "
            "llama2-7b, or another with a section base whose preset says what the folder holds"
        )
    config = CheckpointConfig(checkpoint=str(folder), sha256=sha256_of_folder(folder), preset=recipe.base.preset)
    step = Step(STAGES["add-checkpoint"], artifact_name(folder), config, {})
    return [step], step.makes


def gatt_constraints(
    policy: Annotated[str, typer.Option("--policy", metavar="REF", help="Policy to ask.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="JSONL file to write; it must not exist yet.")],
    family: Annotated[
        list[str] | None,
        typer.Option("--family", help="Family: hobby, language or figure; may be repeated. Default: all three."),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=2, help="Number of times to ask for each list.")] = 10,
    count: Annotated[int, typer.Option("--count", min=1, help="Number of values to ask for each time.")] = 20,
    min_mentions: Annotated[
        int, typer.Option("--min-mentions", min=1, help="Number of answers that must name a value to keep it.")
    ] = 3,
    temperature: Annotated[float, typer.Option("--temperature", min=0.01, help="Sampling temperature.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer in tokens.")] = 400,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    registry: RegistryOption = None,
    quiet: QuietOption = False,
) -> None:
    """Ask a policy for lists of hobbies, languages and public figures, and write them as constraints to edit (paper 3.3).

    Example: rlhf gatt-constraints --policy policy/v3 --out constraints.jsonl
    """
    with plain_errors():
        check_device(device)
        if out.exists():
            raise ValueError(f"{out} exists, and may have been edited; give another --out")
        check_folder(out)
        artifact = open_registry(registry).open(policy, kind="policy")
        from stages.environment import quiet_libraries
        from stages.train.gatt_proposals import proposed

        quiet_libraries()
        with on_device(device):
            written = proposed(
                artifact.path, family or ["hobby", "language", "figure"], samples, count, min_mentions, temperature,
                max_new_tokens, seed, Progress(quiet=quiet),
            )  # fmt: skip
        from gatt.constraint_file import write_constraints

        write_constraints(written, out)
        typer.echo(f"{out}: {len(written)} constraints; look through them, and set held_out on those that are for evaluation")
        typer.echo(
            f"next: rlhf gatt --policy {artifact.reference} --constraints {quote(str(out))} --dialogues FILE --recipe R"
            f"{registry_option(registry)}"
        )
