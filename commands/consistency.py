"""``rlhf evaluate consistency``: does an instruction hold through a dialogue (paper Table 30)?

The constraints are the sandbox's, or a team's own, on the team's dialogues.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.dialogue_files import dialogues_given
from commands.making import make
from commands.options import TRACKING, RunOptions, existing, plain_errors, run_options
from commands.printing.study import print_measured
from gatt.constraint_file import read_constraints
from registry.artifact import Artifact
from stages.catalog import STAGES
from stages.external_files import sha256_of
from stages.recipe import Recipe, consistency_of
from stages.sections import ConsistencyConfig, FileConfig
from stages.stage import Step


@run_options(*TRACKING, default_name="consistency-POLICY")
def consistency(
    policy: Annotated[str, typer.Option("--policy", metavar="REF", help="Policy that answers.")] = "policy/chat",
    prompts: Annotated[
        str, typer.Option("--prompts", metavar="REF", help="Prompts of the sandbox, which bring the constraints to test.")
    ] = "prompts/evaluation",
    dialogues: Annotated[
        list[str] | None,
        typer.Option(
            "--dialogues",
            metavar="REF|FILE",
            help="Your own dialogues, or a JSONL file of them, of which the user messages are used; may be repeated. Needs "
            "--constraints.",
        ),
    ] = None,
    constraints: Annotated[
        Path | None, typer.Option("--constraints", metavar="FILE", help="JSONL file of constraints, including held-out ones.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="REF", help="Chat policy that judges constraints without a checker.")
    ] = None,
    *,
    run: RunOptions,
) -> None:
    """Measure how long a policy keeps following an instruction given in the first turn (paper Table 30).

    Example: rlhf evaluate consistency --policy policy/chat
    """
    with plain_errors():
        run.check()
        if bool(dialogues) != bool(constraints):
            raise ValueError("--dialogues and --constraints go together: give both, or neither for the sandbox's own")
        config = _config(run.load_recipe(), constraints)
        added, references = dialogues_given(dialogues or [])
        inputs: dict[str, tuple[str, ...]] = {"policy": (policy,)}
        if dialogues:
            inputs |= {"dialogues": references, **({"judge": (judge,)} if judge else {})}
        else:
            inputs["prompts"] = (prompts,)
        name = run.name or f"consistency-{run.open_registry().open(policy, kind='policy').reference.name}"
        step = Step(STAGES["evaluate-consistency"], name, config, inputs)
        make(run, [*added, step], show=lambda evaluation: _print_shares(evaluation, config.turns))


def _print_shares(evaluation: Artifact, numbers: Sequence[int]) -> None:
    """The shares of answers that obey, and that recall the instruction, by turn."""
    from eval.consistency_turns import HELD_OUT, TRAINED, UNINSTRUCTED, obeyed, recalled, select, share
    from eval.findings.study import Row, Table
    from stages.measure.consistency import read_turns

    turns = read_turns(evaluation)
    measures = {
        "trained constraints": (TRAINED, obeyed),
        "held-out constraints": (HELD_OUT, obeyed),
        "no instruction given": (UNINSTRUCTED, obeyed),
        "recalled when asked": (TRAINED, recalled),
    }
    columns = {f"turn {number}": number for number in numbers}
    rows = [
        Row(name, {column: share(select(turns, group, (number,)), measure) for column, number in columns.items()})
        for name, (group, measure) in measures.items()
    ]
    measured = tuple(row for row in rows if any(estimate.known for estimate in row.measured.values()))
    print_measured(asdict(Table("Answers that obey, or that recall the instruction", tuple(columns), measured)))


def _config(recipe: Recipe, constraints: Path | None) -> ConsistencyConfig:
    """The recipe's section; held-out constraints, and those with a checker, are tested only where the file has any."""
    config = consistency_of(recipe)
    if constraints is None:
        return config
    file = existing(constraints)
    found = read_constraints(file)
    changes: dict[str, Any] = {"constraints": FileConfig(file=str(file), sha256=sha256_of(file))}
    changes |= {} if any(constraint.held_out for constraint in found) else {"num_heldout": 0}
    changes |= {} if any(constraint.check for constraint in found) else {"num_uninstructed": 0}
    return config.model_copy(update=changes)
