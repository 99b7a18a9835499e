"""``rlhf add-reward-model``: an external reward model into the registry."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from commands.making import make
from commands.options import TRACKING, RunOptions, existing, plain_errors, run_options
from stages.catalog import STAGES
from stages.external_files import sha256_of, sha256_of_folder
from stages.sections import FileConfig, RewardCheckpointConfig
from stages.stage import Step


@run_options("name", "recipe", "set_", "seed", "save_every", "device", *TRACKING)
def add_reward_model(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A Hugging Face folder, or a name on the hub.")],
    axis: Annotated[
        Literal["helpfulness", "safety"],
        typer.Option("--axis", metavar="AXIS", help="Axis that it scores: helpfulness or safety."),
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the artifact.")],
    hub_revision: Annotated[
        str | None, typer.Option("--hub-revision", metavar="COMMIT", help="Commit of a hub name. Default: the newest.")
    ] = None,
    chat_template: Annotated[
        Path | None,
        typer.Option("--chat-template", metavar="FILE", help="Jinja template to use instead of the tokenizer's own."),
    ] = None,
    *,
    run: RunOptions,
) -> None:
    """Add an external reward model: any sequence classifier with one output and weights in safetensors.

    It keeps its tokenizer, chat template and scale of scores, and can be used wherever a command takes a reward model.

    Example: rlhf add-reward-model models/their-reward-model --axis helpfulness --name theirs
    """
    with plain_errors():
        template = str(existing(chat_template)) if chat_template else None
        config = RewardCheckpointConfig(
            checkpoint=checkpoint,
            hub_revision=hub_revision,
            sha256=sha256_of_folder(checkpoint),
            chat_template=FileConfig(file=template, sha256=sha256_of(template)) if template else None,
            axis=axis,
        )
        make(run, [Step(STAGES["add-reward-model"], name, config, {})])
