"""``rlhf import``: annotation files to preferences."""

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from commands.making import run_steps
from commands.options import (
    TRACKING,
    RunOptions,
    existing,
    plain_errors,
    run_options,
    share,
)
from commands.printing.lines import print_json
from preference_data.files.opening import check_file, plain_name
from preference_data.formats import IMPORTERS
from preference_data.importing import TooManyRejects
from preference_data.rejects import Reject
from registry.artifact import Artifact
from stages.catalog import STAGES
from stages.external_files import sha256_of
from stages.sections import ImportConfig
from stages.stage import Step

_TYPES = "JSONL, JSON, CSV or Parquet, also compressed as .gz or .zst"


# Over 60 lines: most of them declare options.
@run_options("recipe", "set_", "save_every", "device", *TRACKING, default_name="the file's")
def import_files(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE...]", help=f"Annotation files: {_TYPES}.")] = None,
    axis: Annotated[str, typer.Option("--axis", metavar="AXIS", help="Axis of the judgements: helpfulness or safety.")] = "",
    annotations: Annotated[
        str | None, typer.Option("--annotations", metavar="REF", help="Import from an annotations artifact instead of files.")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="F", help=f"One of {', '.join(IMPORTERS)}. Default: recognised from the first rows."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="COLUMN=FIELD", help="Read COLUMN as the native FIELD; may be repeated."),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--map-value", metavar="FIELD:FOUND=MEANT", help="Translate a value, as in choice:left=a; may be repeated."
        ),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "--pairs", metavar="REF", help="Annotations artifact from which the pairs were exported; may be repeated."
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Source recorded with each judgement. Default: the file's name.")
    ] = None,
    max_rejected: Annotated[
        str,
        typer.Option("--max-rejected", metavar="SHARE", help="Largest acceptable share of faulty rows, such as 0.05 or 5%."),
    ] = "0.01",
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="N", min=1, help="Reject dialogues with more tokens; needs --model.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="REF", help="Policy or reward model whose tokenizer counts the tokens.")
    ] = None,
    heldout_share: Annotated[
        str, typer.Option("--heldout-share", metavar="SHARE", help="Share of dialogues held out for testing.")
    ] = "0.05",
    rejects: Annotated[
        Path | None, typer.Option("--rejects", metavar="FILE", help="File for rejected rows. Default: NAME.rejects.jsonl.")
    ] = None,
    *,
    run: RunOptions,
) -> None:
    """Import annotation files as preferences. Rows that cannot be used are written to a file with line and reason.

    Example: rlhf import judgements.jsonl --axis helpfulness

    Example: rlhf import answers.csv --axis safety --map question=prompt --map better=chosen --map worse=rejected
    """
    with plain_errors():
        if axis not in ("helpfulness", "safety"):
            raise ValueError(f"--axis is {axis or 'missing'}; say --axis helpfulness or --axis safety")
        if bool(files) == bool(annotations):
            raise ValueError("give annotation files, or an artifact with --annotations, and not both")
        if (max_tokens is None) != (model is None):
            raise ValueError("--max-tokens and --model go together: one is the number, the other has the tokenizer")
        if format_ and (columns or values):
            raise ValueError("--format names a format and --map describes one; give one of them")
        paths = [path if path.exists() else existing(path) for path in files or []]
        for path in paths:
            check_file(path)
        roles = {"annotations": [annotations] if annotations else [], "pairs": pairs or [], "model": [model] if model else []}
        inputs = {role: tuple(references) for role, references in roles.items() if references}
        config = ImportConfig(
            axis=axis,
            files=tuple(str(path) for path in paths) or (f"{axis}.jsonl",),
            heldout_files=_heldout_files(run.open_registry().open(annotations), axis) if annotations else (),
            sha256=tuple(filter(None, map(sha256_of, paths))),
            format=format_,
            columns=tuple(columns or ()),
            values=tuple(values or ()),
            source=source,
            max_tokens=max_tokens,
            max_rejected=share("--max-rejected", max_rejected),
            heldout_share=0.0 if annotations else share("--heldout-share", heldout_share, below=1),
        )
        name = run.name or (_plain_name(plain_name(paths[0])) if paths else axis)
        rejects_file = rejects or Path(f"{name}.rejects.jsonl")
        _check_rejects_file(rejects_file)
        try:
            results = run_steps(run, [Step(STAGES["import"], name, config, inputs)])
        except TooManyRejects as error:
            with rejects_file.open("wb") as file:
                error.work.rejects.write_to(file)
            raise ValueError(
                f"{error}\nNothing was imported. All rejected rows are in {rejects_file}; --max-rejected allows more"
            ) from error
        for result in results:
            _print_imported(result.artifact, result.up_to_date, rejects_file, run)


def _check_rejects_file(path: Path) -> None:
    """Raise ValueError unless rejects can be written to ``path``, before anything is imported."""
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"rejected rows cannot be written to {path}; say --rejects FILE, in a folder that can be written")
    if not path.exists():
        return
    first = path.open("rb").readline(1 << 28) if path.is_file() else b"?"
    try:
        ours = not first or set(json.loads(first)) == {field.name for field in fields(Reject)}
    except (ValueError, TypeError):
        ours = False
    if not ours:
        raise ValueError(f"rejected rows would be written over {path}, which holds something else; say --rejects FILE")


def _heldout_files(annotations: Artifact, axis: str) -> tuple[str, ...]:
    """Those of simulated annotators. Raises ValueError for pairs that went out to people, who hand files back."""
    present = {entry.path for entry in annotations.manifest.files}
    if "pairs.parquet" in present:
        pairs = f"--pairs {annotations.reference}"
        raise ValueError(
            f"{annotations.reference} holds pairs for people; import what they filled in: rlhf import FILE {pairs}"
        )
    name = f"{axis}-heldout.jsonl"
    return (name,) if name in present else ()


def _print_imported(artifact: Artifact, up_to_date: bool, rejects_file: Path, run: RunOptions) -> None:
    metrics = artifact.manifest.metrics
    kept = artifact.path / "logs" / "rejects.jsonl"
    if kept.is_file():
        rejects_file.write_bytes(kept.read_bytes())
    where = str(rejects_file) if kept.is_file() else None
    counts = {key: metrics[key] for key in ("read", "accepted", "rejected")}
    if run.json_:
        print_json({"artifact": str(artifact.reference), **counts, "rejects_file": where})
        return
    read, accepted, train, test = (f"{metrics[name]:,}" for name in ("read", "accepted", "train", "test"))
    formats = ", ".join(metrics["formats"])
    typer.echo(f"{read} judgements read as {formats}: {accepted} accepted ({train} to train, {test} held out)")
    for reason, count in metrics["rejected"].items():
        typer.echo(f"  rejected: {count:,} {reason}")
    for column, count in metrics["ignored_columns"].items():
        typer.echo(f"  column {column!r} is not known and was ignored in {count:,} rows")
    if metrics["ignored_columns_not_told"]:
        typer.echo(f"  and {metrics['ignored_columns_not_told']:,} more columns")
    if where:
        typer.echo(f"rejected rows, with line and reason: {where}")
    axis = artifact.manifest.config["axis"]
    margin = "" if metrics["rated"] else f" --set {axis}.margin=none"
    typer.echo(f"{artifact.reference}{' (up to date)' * up_to_date}")
    typer.echo(f"next: rlhf data show {artifact.reference}{run.same_registry}")
    settings = f"--set {axis}.mixture=own{margin}{run.same_registry}"
    typer.echo(f"then: rlhf train-reward --axis {axis} --preferences {artifact.reference} {settings}")


def _plain_name(stem: str) -> str:
    kept = (letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in stem.lower())
    return "".join(kept).strip("._-") or "annotations"
