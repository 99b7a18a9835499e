"""``rlhf bring-reward-model``: a reward model from elsewhere into the registry."""

from pathlib import Path
from typing import Annotated

import typer

from commands.making import load_stage
from commands.options import DryRunOption, ForceOption, QuietOption, existing, plain_errors
from commands.registry import JsonOption, RegistryOption, print_json
from commands.roots import open_registry
from stages.engine.outside_files import sha256_of, sha256_of_folder
from stages.sections import FileConfig, RewardCheckpointConfig
from stages.terminal.progress import Progress, clock_text


def bring_reward_model(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A Hugging Face folder, or a name on the hub.")],
    axis: Annotated[str, typer.Option("--axis", metavar="AXIS", help="What its scores stand for: helpfulness or safety.")],
    name: Annotated[str, typer.Option("--name", help="Name of the artifact.")],
    hub_revision: Annotated[
        str | None, typer.Option("--hub-revision", metavar="COMMIT", help="Of a hub name. Default: the newest.")
    ] = None,
    chat_template: Annotated[
        Path | None, typer.Option("--chat-template", metavar="FILE", help="Jinja template in place of the tokenizer's own.")
    ] = None,
    registry: RegistryOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Copy a reward model from elsewhere into the registry: any sequence classifier with one output, weights in safetensors.

    It keeps its tokenizer, its chat template and the scale of its scores, and goes wherever a command takes a reward model.

    Example: rlhf bring-reward-model models/their-reward-model --axis helpfulness --name theirs
    """
    with plain_errors():
        if axis not in ("helpfulness", "safety"):
            raise ValueError(f"--axis is {axis!r}; it is helpfulness or safety")
        template = str(existing(chat_template)) if chat_template else None
        config = RewardCheckpointConfig(
            checkpoint=checkpoint,
            hub_revision=hub_revision,
            sha256=sha256_of_folder(checkpoint),
            chat_template=FileConfig(file=template, sha256=sha256_of(template)) if template else None,
            axis=axis,
        )
        opened = open_registry(registry)
        if dry_run:
            print_json({"stage": "bring-reward-model", "name": name, "inputs": {}, "config": config.model_dump(mode="json")})
            return
        stage = load_stage("stages.data.bring_reward_model:STAGE")
        from stages.engine.run import run_stage

        result = run_stage(
            opened, stage, name=name, config=config, inputs={}, seed=0, progress=Progress(quiet=quiet), force=force
        )
        reference, manifest = str(result.artifact.reference), result.artifact.manifest
        if json_:
            told = {"artifact": reference, "digest": manifest.digest, "metrics": manifest.metrics, "seconds": result.seconds}
            print_json(told)
            return
        typer.echo(f"{reference}{' (up to date)' if result.up_to_date else f' in {clock_text(result.seconds)}'}")
        typer.echo(f"next: rlhf score FILE --model {reference}")
        typer.echo(f"then: rlhf rejection-sample --{axis} {reference}")
