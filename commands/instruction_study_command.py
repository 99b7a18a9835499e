"""``rlhf study gatt``: do instructions hold with Ghost Attention, and without it (paper Table 30, A.3.5, Fig 10)?"""

from typing import Annotated

import typer

from commands.options import plain_errors
from commands.studies import run_study
from commands.study_options import StudyRun, run_options
from stages.studies.gatt_inputs import GattStudyConfig, gatt_inputs


def add_instruction_study(app: typer.Typer) -> None:
    """Give ``app`` the study."""
    app.command("gatt")(gatt)


@run_options(without="save_every")
def gatt(
    consistency: Annotated[
        list[str] | None,
        typer.Option(
            "--consistency",
            metavar="REF",
            help="What `rlhf evaluate consistency` measured without Ghost Attention, right after it, and at the end; three "
            "times. Default: the recipe's.",
        ),
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", metavar="REF", help="The three policies. Default: the recipe's.")
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(
            "--before", metavar="REF", help="Answers right before: what `rlhf evaluate policy` made. Default: the recipe's."
        ),
    ] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="REF", help="Those right after. Default: the recipe's.")
    ] = None,
    attention_dialogues: Annotated[
        int | None,
        typer.Option("--attention-dialogues", metavar="N", min=0, help="Dialogues whose attention is looked at; 0: none."),
    ] = None,
    *,
    run: StudyRun,
) -> None:
    """Does an instruction that was given once hold, and what does Ghost Attention cost (paper 3.3, A.3.5)?

    Example: rlhf study gatt --registry runs/nano-0/registry
    """
    with plain_errors():
        given = {"consistency": consistency, "policies": policy, "before": before and [before], "after": after and [after]}
        for role in ("consistency", "policies"):
            if (found := given[role]) and len(found) != 3:
                raise ValueError(
                    f"{len(found)} were given as {role}; give three: without Ghost Attention, right after, at the end"
                )
        inputs = gatt_inputs(run.load_recipe()) | {role: tuple(found) for role, found in given.items() if found}
        config = GattStudyConfig() if attention_dialogues is None else GattStudyConfig(attention_dialogues=attention_dialogues)
        run_study("stages.studies.gatt:STAGE", run.name or "gatt", config, inputs, run.options, [])
