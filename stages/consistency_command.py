"""``rlhf evaluate consistency``: does an instruction hold through a dialogue (paper Table 30)?

It is asked of the sandbox's constraints, or of a team's own, on its own dialogues.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from gatt.constraint_file import read_constraints
from policy.placement import check_device
from registry.saved_states import SaveEvery
from stages.options import existing, plain_errors
from stages.outside_files import artifact_name, sha256_of
from stages.progress import Progress, clock_text
from stages.recipe import Recipe, SandboxRecipe, section_of
from stages.registry_commands import print_json
from stages.roots import open_registry
from stages.sections import ConsistencyConfig, FileConfig, GattStageConfig
from stages.stage_commands import load_stage
from stages.study_options import StudyRun, run_options

_TEAM = ConsistencyConfig(num_dialogues=200, num_held_out=60, max_new_tokens=512)
"""How a policy is asked by a team's recipe, which has no section for it; with ``--recipe nano`` all of it can be set."""


@run_options()
def consistency(
    policy: Annotated[str, typer.Option("--policy", metavar="REF", help="Policy that answers.")] = "policy/chat",
    prompts: Annotated[
        str, typer.Option("--prompts", metavar="REF", help="Prompts of the sandbox, whose constraints are taken.")
    ] = "prompts/evaluation",
    dialogues: Annotated[
        list[str] | None,
        typer.Option(
            "--dialogues",
            metavar="REF|FILE",
            help="A team's own, or a JSONL file of them, of which the users' words are taken; may be repeated. Needs "
            "--constraints.",
        ),
    ] = None,
    constraints: Annotated[
        Path | None, typer.Option("--constraints", metavar="FILE", help="JSONL of constraints, held-out ones among them.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="REF", help="Chat policy that judges constraints without a checker.")
    ] = None,
    *,
    run: StudyRun,
) -> None:
    """Does an instruction hold through a dialogue (paper Table 30)?

    Example: rlhf evaluate consistency --policy policy/chat
    """
    with plain_errors():
        save_every, registry = SaveEvery.parse(run.save_every), open_registry(run.registry)
        check_device(run.device)
        if bool(dialogues) != bool(constraints):
            raise ValueError("a team's own dialogues and its constraints go together: give both --dialogues and --constraints")
        config = _config(run.load_recipe(), constraints)
        inputs: dict[str, tuple[str, ...]] = {"policy": (policy,)}
        files = [existing(Path(each)) for each in dialogues or [] if each.endswith(".jsonl")]
        if len({artifact_name(file) for file in files}) < len(files):
            raise ValueError("two of the files of dialogues have one name; give each once, and under a name of its own")
        if dialogues:
            brought = {str(file): f"dialogues/{artifact_name(file)}" for file in files}
            inputs["dialogues"] = tuple(brought.get(str(Path(each)), each) for each in dialogues)
            inputs |= {"judge": (judge,)} if judge else {}
        else:
            inputs["prompts"] = (prompts,)
        name = run.name or f"consistency-{registry.open(policy, kind='policy').reference.name}"
        if run.dry_run:
            coming = [f"dialogues/{artifact_name(file)}" for file in files]
            resolved = {
                role: [text if text in coming else str(registry.resolve(text).reference) for text in texts]
                for role, texts in inputs.items()
            }
            print_json({"stage": "consistency", "name": name, "inputs": resolved, "config": config.model_dump(mode="json")})
            return
        from stages.stage import run_stage

        shared: dict[str, Any] = {"seed": run.seed, "progress": Progress(quiet=run.quiet)}
        shared |= {"save_every": save_every, "device": run.device}
        for file in files:
            stage, given = load_stage("stages.bring:DIALOGUES"), FileConfig(file=str(file), sha256=sha256_of(file))
            run_stage(registry, stage, name=artifact_name(file), config=given, inputs={}, **shared)
        stage = load_stage("stages.evaluate_consistency:STAGE")
        result = run_stage(registry, stage, name=name, config=config, inputs=inputs, force=run.force, **shared)
        reference, manifest = str(result.artifact.reference), result.artifact.manifest
        if run.json_:
            print_json(
                {"artifact": reference, "digest": manifest.digest, "metrics": manifest.metrics, "seconds": result.seconds}
            )
            return
        typer.echo(f"{reference}{' (up to date)' if result.up_to_date else f' in {clock_text(result.seconds)}'}")
        typer.echo(f"next: rlhf registry show {reference}")


def _config(recipe: Recipe, constraints: Path | None) -> ConsistencyConfig:
    """The recipe's section, or what a team's is measured by; held-out constraints are asked for if the file has any.

    The instruction stands where the recipe's Ghost Attention puts it.
    """
    gatt = section_of(recipe, "gatt")
    assert isinstance(gatt, GattStageConfig)
    config = recipe.consistency if isinstance(recipe, SandboxRecipe) else _TEAM
    changes: dict[str, Any] = {"instruction_in": gatt.instruction_in}
    if constraints is not None:
        file = existing(constraints)
        changes["constraints"] = FileConfig(file=str(file), sha256=sha256_of(file))
        if not any(each.held_out for each in read_constraints(file)):
            changes["num_held_out"] = 0
    return config.model_copy(update=changes)
