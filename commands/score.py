"""``rlhf score``: prompts with responses, or pairs of responses, scored by reward models."""

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Annotated

import typer

from commands.making import run_steps
from commands.options import TRACKING, RunOptions, check_folder, existing, plain_errors, run_options
from commands.printing.lines import print_json
from preference_data.files.opening import plain_name
from registry.artifact import Artifact
from registry.errors import CannotWrite
from registry.manifest import fsync
from stages.catalog import STAGES
from stages.engine.run import asked_for, fingerprint
from stages.external_files import sha256_of
from stages.sections import ScoreConfig
from stages.stage import Step
from stages.terminal.progress import rate_text


@run_options("seed", "save_every", *TRACKING, default_name="NAME-scored")
def score(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL, JSON, CSV or Parquet, also compressed as .gz or .zst.")],
    model: Annotated[list[str], typer.Option("--model", metavar="REF", help="Reward model; may be repeated.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Default: NAME.scored.jsonl of NAME.jsonl, else FILE.scored.jsonl."),
    ] = None,
    *,
    run: RunOptions,
) -> None:
    """Score responses or pairs with reward models: raw logit, sigmoid and, with both axes, the combined reward.

    A row holds prompt and response, or messages; or a pair: prompt, chosen and rejected as TRL has them; prompt, response_a and
    response_b, with or without choice; or a row of any format that rlhf import knows. The first rows say which.

    The output is JSONL: each row with scores. Of a pair they are by side, as scores[REF].chosen.logit (or response_a and
    response_b, where the row names them), and for pairs with a choice the accuracy is printed: by model, and by rating where
    rated. Rows that cannot be scored are in a file beside it, with line and reason. The combined reward switches to the safety
    score below the recipe's ppo.safety_threshold.

    The file may be of any size, except a .json list, which is read whole. When it is stopped, the same command resumes after
    its last 512 rows. The result is an artifact, of which --out is a copy.

    Example: rlhf score answers.jsonl --model reward_model/helpfulness --model reward_model/safety
    """
    with plain_errors():
        output = out or default_output(existing(file))
        _check_apart(file, output)
        registry, stage = run.open_registry(), STAGES["score"]
        artifacts = [registry.resolve(reference, kind="reward_model") for reference in model]
        axes = {str(artifact.reference): artifact.manifest.config.get("axis", "") for artifact in artifacts}
        config = ScoreConfig(
            file=str(file),
            sha256=sha256_of(file),
            models=tuple(axes.items()),
            safety_threshold=run.load_recipe().ppo.safety_threshold,
        )
        step = Step(stage, run.name or _default_name(file), config, {"models": tuple(axes)})
        if not run.force:  # before hours of work
            digests = {str(artifact.reference): artifact.digest for artifact in artifacts}
            inputs, device_type = {"models": list(digests.values())}, run.device.partition(":")[0]
            wanted = asked_for(stage, config, inputs, run.seed, stage.dtype(run.device), device_type)
            check_replaces_nothing(file, output, registry.find_fingerprint(fingerprint(wanted), stage.kind, step.name))
        for result in run_steps(run, [step]):
            if not run.force:
                check_replaces_nothing(file, output, result.artifact)
            copy_out(result.artifact, output)
            say_scored(result.artifact, result.up_to_date, output, run.json_)


def default_output(file: Path) -> Path:
    """``answers.scored.jsonl`` for ``answers.jsonl``; other types stay in the name, as ``answers.csv.scored.jsonl``."""
    return file.with_name(f"{file.name.removesuffix('.jsonl')}.scored.jsonl")


def _default_name(file: Path) -> str:
    """``answers-scored`` for ``answers.csv.gz``; what a name cannot hold becomes a hyphen."""
    stem = re.sub(r"[^a-z0-9._-]+", "-", plain_name(file).lower()).strip("._-")
    return f"{stem}-scored" if stem else "scored"


def _copies(output: Path) -> dict[str, Path]:
    """Where the files of the artifact are copied to."""
    return {"scored.jsonl": output, "logs/rejects.jsonl": output.with_suffix(".rejects.jsonl")}


def _check_apart(file: Path, output: Path) -> None:
    """Raise ValueError, or FileNotFoundError, unless the output can be written without touching the file to score."""
    check_folder(output)
    if file.resolve() in {path.resolve() for path in _copies(output).values()}:
        raise ValueError(f"scoring into {output} would write over {file}, the file to score; give another --out")


def check_replaces_nothing(file: Path, output: Path, artifact: Artifact | None) -> None:
    """Raise ValueError where a file is in the way that is no copy of ``artifact`` (None: it is still to be made)."""
    sums = {entry.path: entry.sha256 for entry in artifact.manifest.files} if artifact else {}
    for name, path in _copies(output).items():
        if path.exists() and sha256_of(path) != sums.get(name):
            raise ValueError(
                f"the scores of {file} would replace {path}, which holds something else; move it away, give another --out, or "
                "say --force, which scores everything again"
            )


def copy_out(artifact: Artifact, output: Path) -> None:
    """Put copies of the artifact's files into their places. Raises CorruptArtifact, CannotWrite when the disk is full."""
    artifact.check()
    for name, path in _copies(output).items():
        if not (artifact.path / name).is_file():
            path.unlink(missing_ok=True)  # rejects of an earlier run
        elif sha256_of(path) != sha256_of(artifact.path / name):
            _copy(artifact, name, path)


def _copy(artifact: Artifact, name: str, path: Path) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        shutil.copyfile(artifact.path / name, fresh)
        fsync(fresh)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CannotWrite(
            f"the disk of {path.absolute().parent} is full; the scores are kept as {artifact.reference}. Free some space and "
            "run the same command again, which only copies them"
        ) from error


def say_scored(artifact: Artifact, up_to_date: bool, output: Path, json_: bool) -> None:
    """Print what was scored and where it is, as lines or as one JSON object."""
    metrics = artifact.manifest.metrics
    rejects_file = _copies(output)["logs/rejects.jsonl"] if metrics["rejected"] else None
    speed = None if up_to_date else metrics["rows_per_second"]
    if json_:
        files = {"output": str(output), "rejects_file": str(rejects_file) if rejects_file else None}
        more = {**files, "up_to_date": up_to_date, "rows_per_second": speed}
        print_json({"artifact": str(artifact.reference), **metrics, **more})
        return
    what = "rows" if metrics["form"] == "dialogues" else "pairs"
    note = " (up to date; --force scores them again)" if up_to_date else ""
    note += f" ({rate_text(speed)} rows/s)" if speed else ""
    typer.echo(f"{metrics['scored']:,} of {metrics['read']:,} {what} scored: {output}{note}")
    for model, by_rating in metrics["accuracy"].items():
        for rating, accuracy in by_rating.items():
            which = "" if rating == "all" else f", {rating}"
            low, high = accuracy["interval"]
            share = f"{accuracy['share']:.3f} ({low:.3f} to {high:.3f})"
            typer.echo(f"accuracy of {model}{which}: {share} of {accuracy['judged']:,} judged pairs")
    if rejects_file:
        typer.echo(f"{metrics['rejected']:,} {what} could not be scored, with line and reason: {rejects_file}")
    typer.echo(f"kept as {artifact.reference}")
