"""``rlhf gatt`` and ``rlhf gatt-constraints``: Ghost Attention in one command, on the artifacts of a run or on a team's own.

``rlhf gatt`` makes the dialogues and tunes the policy on them, each an artifact of its own; a checkpoint's folder and a file of
dialogues are brought into the registry first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

import typer

from commands.making import load_stage
from commands.options import DeviceOption, QuietOption, SeedOption, check_folder, existing, plain_errors
from commands.output import RegistryOption, print_json, registry_told
from commands.roots import open_registry
from commands.study_options import StudyRun, run_options
from gatt.constraint_file import read_constraints
from policy.config import FinetuneConfig
from policy.placement import check_device, on_device
from registry.errors import ReferenceNotFound
from registry.saved_states import SaveEvery
from registry.store import Registry
from stages.engine.outside_files import artifact_name, sha256_of, sha256_of_folder
from stages.recipe import Recipe, TeamRecipe, constraints_file, section_of
from stages.sections import CheckpointConfig, FileConfig, GattStageConfig
from stages.terminal.progress import Progress, clock_text

Given = Mapping[str, tuple[str, ...]]
Planned = tuple[str, str, Any, Given]
"""The place of a stage (module:NAME), the name of its artifact, its config and its inputs."""


@run_options(without="name")
def gatt(
    policy: Annotated[
        str, typer.Option("--policy", metavar="REF|FOLDER", help="Policy that answers and is tuned, or a checkpoint's folder.")
    ] = "policy/v3",
    dialogues: Annotated[
        list[str] | None,
        typer.Option("--dialogues", metavar="REF|FILE", help="Dialogues, or a JSONL file of them; may be repeated."),
    ] = None,
    samples: Annotated[
        list[str] | None,
        typer.Option("--samples", metavar="REF", help="Rejection samples, of which the selected; may be repeated."),
    ] = None,
    demonstrations: Annotated[
        str | None,
        typer.Option(
            "--demonstrations",
            metavar="REF",
            help="Those of families that are nowhere else are learnt beside. Default: dialogues/demonstrations, if there and "
            "there is no file of constraints.",
        ),
    ] = None,
    multi_turn: Annotated[
        Literal["chained", "given"] | None,
        typer.Option(
            "--multi-turn", help="Single turns strung together, or dialogues of several turns as given. Default: recipe's."
        ),
    ] = None,
    constraints: Annotated[
        Path | None,
        typer.Option("--constraints", metavar="FILE", help="JSONL of constraints. Default: the recipe's, or the sandbox's."),
    ] = None,
    intermediate: Annotated[
        Literal["original", "resampled"] | None,
        typer.Option(
            "--intermediate", help="Answers before the last: kept, or sampled under the instruction. Default: recipe's."
        ),
    ] = None,
    instruction_in: Annotated[
        Literal["first_message", "system"] | None,
        typer.Option("--instruction-in", help="Where training keeps the instruction. Default: recipe's."),
    ] = None,
    helpfulness: Annotated[
        str | None,
        typer.Option(
            "--helpfulness", metavar="REF", help="Reward model that chooses. Default: reward_model/helpfulness, if there."
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
            help="The sandbox's prompts. Default: prompts/tuning, if there is no file of constraints.",
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the dialogues; the policy is called POLICY-NAME.")] = "gatt",
    *,
    run: StudyRun,
) -> None:
    """Ghost Attention (paper 3.3): make dialogues that hold to an instruction, and tune the policy on them.

    Example: rlhf gatt --recipe llama2-7b --policy policy/v3 --dialogues mine.jsonl --constraints constraints.jsonl
    """
    with plain_errors():
        if not dialogues and not samples:
            raise ValueError("there is nothing to give an instruction to: give --dialogues REF or FILE, or --samples REF")
        registry, recipe = open_registry(run.registry), run.load_recipe()
        chosen = {"multi_turn": multi_turn, "intermediate": intermediate, "instruction_in": instruction_in}
        config = _config(recipe, constraints, chosen)
        before, references = _brought(registry, recipe, policy, dialogues or [])
        (policy,), given = references["policy"], references["dialogues"]
        inputs: dict[str, tuple[str, ...]] = {"policy": (policy,), "samples": tuple(samples or ()), "dialogues": given}
        shown = "" if config.constraints else "dialogues/demonstrations"
        inputs["demonstrations"] = _or_there(registry, demonstrations, shown)
        inputs["helpfulness"] = _or_there(registry, helpfulness, "reward_model/helpfulness")
        inputs["judge"] = (judge,) if judge else ()
        inputs["prompts"] = _or_there(registry, prompts, "" if config.constraints else "prompts/tuning")
        made = f"dialogues/{name}"
        tuning = section_of(recipe, "gatt_tuning")
        assert isinstance(tuning, FinetuneConfig)
        tuned = f"{policy.partition('/')[2].partition('@')[0]}-{name}"
        planned: list[Planned] = [
            *before,
            ("stages.train.gatt:STAGE", name, config, {role: texts for role, texts in inputs.items() if texts}),
            ("stages.train.tune:SFT", tuned, tuning, {"policy": (policy,), "dialogues": (made,)}),
        ]
        measured_on = f" --dialogues OTHERS.jsonl --constraints {quote(config.constraints.file)}" if config.constraints else ""
        measured_on += f" --judge {judge}" if judge else ""
        measured_on += f" --set gatt.instruction_in={instruction_in}" if instruction_in else ""
        _run_all(registry, planned, run, measured_on)


def _config(recipe: Recipe, constraints: Path | None, chosen: Mapping[str, str | None]) -> GattStageConfig:
    """The recipe's section, with what the options say."""
    config = section_of(recipe, "gatt")
    assert isinstance(config, GattStageConfig)
    values = config.model_dump() | {key: value for key, value in chosen.items() if value is not None}
    if constraints := constraints or constraints_file(recipe):
        read_constraints(existing(constraints))  # a fault in it is better known now than when the checkpoint has been brought
        values["constraints"] = {"file": str(constraints), "sha256": sha256_of(constraints)}
    return GattStageConfig.model_validate(values)


def _brought(
    registry: Registry, recipe: Recipe, policy: str, dialogues: Sequence[str]
) -> tuple[list[Planned], dict[str, tuple[str, ...]]]:
    """What brings a checkpoint's folder and files of dialogues into the registry, and the references of all."""
    before: list[Planned] = []
    if policy.startswith(("/", ".", "~")) or (Path(policy) / "config.json").is_file():
        folder = Path(policy).expanduser()
        if not isinstance(recipe, TeamRecipe):
            raise ValueError(
                f"{policy} is a checkpoint's folder, and the recipe {recipe.name} makes its own base model; give --recipe "
                "llama2-7b, or another with a section base whose preset says what the folder holds"
            )
        base = recipe.base
        checkpoint = CheckpointConfig(checkpoint=str(folder), sha256=sha256_of_folder(folder), preset=base.preset)
        before.append(("stages.data.bring:CHECKPOINT", artifact_name(folder), checkpoint, {}))
        policy = f"policy/{artifact_name(folder)}"
    else:
        policy = str(registry.resolve(policy).reference)
    found = []
    for each in dialogues:
        if each.endswith(".jsonl"):
            file = existing(Path(each))
            before.append(
                ("stages.data.bring:DIALOGUES", artifact_name(file), FileConfig(file=each, sha256=sha256_of(file)), {})
            )
            each = f"dialogues/{artifact_name(file)}"
        found.append(each)
    if repeated := [each for each, count in Counter(found).items() if count > 1]:
        raise ValueError(
            f"{repeated[0]} would be two of the dialogues given; give each once, and files under names of their own"
        )
    return before, {"policy": (policy,), "dialogues": tuple(found)}


def _or_there(registry: Registry, given: str | None, otherwise: str) -> tuple[str, ...]:
    """What was given, or else ``otherwise`` where the registry has it."""
    try:
        return (given,) if given else (otherwise,) if otherwise and registry.follow(otherwise) else ()
    except ReferenceNotFound:
        return ()


def _run_all(registry: Registry, planned: Sequence[Planned], run: StudyRun, measured_on: str) -> None:
    """Each stage after the other, on what the earlier ones made. ``measured_on``: what the policy is to be measured on."""
    save_every = SaveEvery.parse(run.save_every)
    check_device(run.device)
    if run.dry_run:
        steps = [
            {"stage": place, "name": name, "inputs": inputs, "config": config.model_dump(mode="json")}
            for place, name, config, inputs in planned
        ]
        print_json({"steps": steps})
        return
    from stages.engine.run import run_stage

    made: dict[str, str] = {}
    results = []
    for place, name, config, inputs in planned:
        stage = load_stage(place)
        pinned = {role: tuple(made.get(text, text) for text in texts) for role, texts in inputs.items()}
        result = run_stage(
            registry, stage, name=name, config=config, inputs=pinned, seed=run.seed, progress=Progress(quiet=run.quiet),
            force=run.force, save_every=save_every, device=run.device,
        )  # fmt: skip
        made[f"{stage.kind}/{name}"] = str(result.artifact.reference)
        results.append(result)
    dialogues, policy = results[-2:]
    if run.json_:
        print_json({
            what: {"artifact": str(each.artifact.reference), "digest": each.artifact.digest,
                   "metrics": each.artifact.manifest.metrics, "seconds": each.seconds}
            for what, each in (("dialogues", dialogues), ("policy", policy))
        })  # fmt: skip
        return
    for result in results:
        typer.echo(
            f"{result.artifact.reference}{' (up to date)' if result.up_to_date else f' in {clock_text(result.seconds)}'}"
        )
    typer.echo(f"look at them: rlhf data show {dialogues.artifact.reference} --model {policy.artifact.reference}{run.where}")
    typer.echo(f"next: rlhf evaluate consistency --policy {policy.artifact.reference}{measured_on}{run.told}")


def gatt_constraints(
    policy: Annotated[str, typer.Option("--policy", metavar="REF", help="Policy that is asked.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="JSONL to write; it must not be there yet.")],
    family: Annotated[
        list[str] | None, typer.Option("--family", help="hobby, language or figure; may be repeated. Default: all three.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=2, help="How often it is asked for each list.")] = 10,
    count: Annotated[int, typer.Option("--count", min=1, help="How many values it is asked for at once.")] = 20,
    min_mentions: Annotated[
        int, typer.Option("--min-mentions", min=1, help="Answers that must name a value for it to stay.")
    ] = 3,
    temperature: Annotated[float, typer.Option("--temperature", min=0.01, help="Of the answers.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer in tokens.")] = 400,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    registry: RegistryOption = None,
    quiet: QuietOption = False,
) -> None:
    """A policy lists hobbies, languages and public figures that it knows, as a file of constraints to edit (paper 3.3).

    Example: rlhf gatt-constraints --policy policy/v3 --out constraints.jsonl
    """
    with plain_errors():
        check_device(device)
        if out.exists():
            raise ValueError(f"{out} is there already, and may have been edited; give another --out")
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
            f"{registry_told(registry)}"
        )
