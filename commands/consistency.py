"""``rlhf evaluate consistency``: does an instruction hold through a dialogue (paper Table 30)?

It is asked of the sandbox's constraints, or of a team's own, on its own dialogues.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.making import load_stage
from commands.options import existing, plain_errors
from commands.registry import print_json
from commands.roots import open_registry
from commands.study_options import StudyRun, run_options
from commands.study_output import print_measured
from gatt.constraint_file import read_constraints
from policy.placement import check_device
from registry.artifact import Artifact
from registry.saved_states import SaveEvery
from stages.engine.outside_files import artifact_name, sha256_of
from stages.recipe import Recipe, consistency_of
from stages.sections import ConsistencyConfig, FileConfig
from stages.terminal.progress import Progress, clock_text


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
        from stages.engine.run import run_stage

        shared: dict[str, Any] = {"seed": run.seed, "progress": Progress(quiet=run.quiet)}
        shared |= {"save_every": save_every, "device": run.device}
        for file in files:
            stage, given = load_stage("stages.data.bring:DIALOGUES"), FileConfig(file=str(file), sha256=sha256_of(file))
            run_stage(registry, stage, name=artifact_name(file), config=given, inputs={}, **shared)
        stage = load_stage("stages.measure.consistency:STAGE")
        result = run_stage(registry, stage, name=name, config=config, inputs=inputs, force=run.force, **shared)
        reference, manifest = str(result.artifact.reference), result.artifact.manifest
        if run.json_:
            print_json(
                {"artifact": reference, "digest": manifest.digest, "metrics": manifest.metrics, "seconds": result.seconds}
            )
            return
        typer.echo(f"{reference}{' (up to date)' if result.up_to_date else f' in {clock_text(result.seconds)}'}")
        _print_shares(result.artifact, config.turns)
        typer.echo(f"next: rlhf registry show {reference}{run.where}")


def _print_shares(evaluation: Artifact, asked: Sequence[int]) -> None:
    """What was obeyed, and recalled, by turn."""
    from eval.consistency_turns import HELD_OUT, TRAINED, UNINSTRUCTED, obeyed, recalled, select, share
    from eval.findings.study import Row, Table
    from stages.measure.consistency import read_turns

    turns = read_turns(evaluation)
    shown = {
        "trained constraints": (TRAINED, obeyed),
        "held-out constraints": (HELD_OUT, obeyed),
        "nobody asked": (UNINSTRUCTED, obeyed),
        "recalled when asked": (TRAINED, recalled),
    }
    rows = [
        Row(name, {f"turn {number}": share(select(turns, group, (number,)), pick) for number in asked})
        for name, (group, pick) in shown.items()
    ]
    measured = tuple(row for row in rows if any(estimate.known for estimate in row.measured.values()))
    print_measured(
        asdict(
            Table("Answers that obey, or that recall the instruction", tuple(f"turn {number}" for number in asked), measured)
        )
    )


def _config(recipe: Recipe, constraints: Path | None) -> ConsistencyConfig:
    """The recipe's section; held-out constraints, and those with a checker, are asked for only where the file has any."""
    config = consistency_of(recipe)
    if constraints is None:
        return config
    file = existing(constraints)
    found = read_constraints(file)
    changes: dict[str, Any] = {"constraints": FileConfig(file=str(file), sha256=sha256_of(file))}
    changes |= {} if any(each.held_out for each in found) else {"num_held_out": 0}
    changes |= {} if any(each.check for each in found) else {"num_uninstructed": 0}
    return config.model_copy(update=changes)
