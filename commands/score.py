"""``rlhf score``: prompts with responses, or pairs of responses, scored by reward models."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.options import DeviceOption, QuietOption, existing, plain_errors
from commands.registry import JsonOption, RegistryOption, print_json
from commands.roots import open_registry
from policy.placement import check_device, on_device
from stages.terminal.progress import Progress, rate_text

if TYPE_CHECKING:
    from stages.scoring.score import Scored


def score(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL, JSON, CSV or Parquet, also packed as .gz or .zst.")],
    model: Annotated[list[str], typer.Option("--model", metavar="REF", help="Reward model; may be repeated.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Default: NAME.scored.jsonl of NAME.jsonl, else FILE.scored.jsonl."),
    ] = None,
    registry: RegistryOption = None,
    force: Annotated[bool, typer.Option("--force", help="Begin again, and replace an output that is there.")] = False,
    device: DeviceOption = "cpu",
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score prompts with responses, or pairs: raw logit, sigmoid and, with both axes, the combined reward.

    A row holds prompt and response, or messages; or a pair: prompt, chosen and rejected as TRL has them; prompt, response_a and
    response_b, with or without choice; or a row of any format that rlhf import knows. The first rows say which.

    The output is JSONL: each row with scores. Of a pair they are by side, as scores[REF].chosen.logit (or response_a and
    response_b, where the row names them), and for judged pairs the accuracy is told: by model, and by rating where rated.

    The file may be of any size, but for a .json list, which is read whole. Stopped at any point, the same command goes on from
    there; the output has its name when it is whole, and rows that cannot be scored are in a file beside it.

    Example: rlhf score answers.jsonl --model reward_model/helpfulness --model reward_model/safety
    """
    with plain_errors():
        existing(file)
        check_device(device)
        opened = [open_registry(registry).open(text, kind="reward_model") for text in model]
        from reward_model.opening import open_scorer
        from stages.environment import quiet_libraries
        from stages.scoring.score import ScoringModel, score_file

        quiet_libraries()
        models = [
            ScoringModel(
                str(artifact.reference),
                artifact.digest,
                artifact.manifest.config.get("axis", ""),
                partial(open_scorer, artifact.path),
            )
            for artifact in opened
        ]
        with on_device(device):
            done = score_file(file, out or default_output(file), models, Progress(quiet=quiet), force)
        if json_:
            print_json({key: str(value) if isinstance(value, Path) else value for key, value in asdict(done).items()})
        else:
            _say_scored(done)


def default_output(file: Path) -> Path:
    """``answers.scored.jsonl`` for ``answers.jsonl``; other types stay in the name, as ``answers.csv.scored.jsonl``."""
    return file.with_name(f"{file.name.removesuffix('.jsonl')}.scored.jsonl")


def _say_scored(done: "Scored") -> None:
    from stages.scoring.score import DIALOGUES

    what = "rows" if done.form == DIALOGUES else "pairs"
    if done.rows_per_second is None:
        note = " (up to date; --force scores them again)"
    else:
        note = f" ({rate_text(done.rows_per_second)} rows/s)"
    typer.echo(f"{done.scored:,} of {done.read:,} {what} scored: {done.output}{note}")
    for name, by_rating in done.accuracy.items():
        for rating, found in by_rating.items():
            low, high = found.interval
            which = "" if rating == "all" else f", {rating}"
            typer.echo(
                f"accuracy of {name}{which}: {found.share:.3f} ({low:.3f} to {high:.3f}) of {found.judged:,} judged pairs"
            )
    if done.rejects_file:
        typer.echo(f"{done.rejected:,} {what} could not be scored, with line and reason: {done.rejects_file}")
