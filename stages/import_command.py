"""``rlhf import``: annotation files to preferences."""

from pathlib import Path
from typing import Annotated, Any

import typer

from preference_data.importing import TooManyRejects, write_rejects
from stages.options import ForceOption, QuietOption, SeedOption, existing, plain_errors
from stages.outside_files import sha256_of
from stages.progress import Progress
from stages.registry_commands import JsonOption, RegistryOption, print_json
from stages.roots import open_registry
from stages.sections import ImportConfig
from stages.stage_commands import load_stage


def import_files(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE...]", help="Annotation files, JSONL or CSV.")] = None,
    axis: Annotated[str, typer.Option("--axis", metavar="AXIS", help="What was judged: helpfulness or safety.")] = "",
    annotations: Annotated[
        str | None, typer.Option("--annotations", metavar="REF", help="An annotations artifact, for files.")
    ] = None,
    format_: Annotated[str | None, typer.Option("--format", help="Importer by name; recognised when left out.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the preferences. Default: the file's.")] = None,
    max_rejected: Annotated[float, typer.Option("--max-rejected", help="Largest share of faulty rows, 0 to 1.")] = 0.01,
    heldout_share: Annotated[float, typer.Option("--heldout-share", help="Share of prompts held out for testing.")] = 0.05,
    registry: RegistryOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Annotation files -> preferences. Rows that cannot be used are kept with line and reason.

    Example: rlhf import judgements.jsonl --axis helpfulness
    """
    with plain_errors():
        if axis not in ("helpfulness", "safety"):
            raise ValueError(f"--axis is {axis or 'missing'}; say --axis helpfulness or --axis safety")
        if bool(files) == bool(annotations):
            raise ValueError("give annotation files, or an artifact with --annotations, and not both")
        paths = [existing(path) for path in files or []]
        stage = load_stage("stages.import_annotations:STAGE")
        from stages.stage import run_stage

        inputs = {"annotations": (annotations,)} if annotations else {}
        config = ImportConfig(
            axis=axis,
            files=tuple(str(path) for path in paths) or (f"{axis}.jsonl",),
            heldout_files=(f"{axis}-heldout.jsonl",) if annotations else (),
            sha256=tuple(filter(None, map(sha256_of, paths))),
            format=format_,
            max_rejected=max_rejected,
            heldout_share=0.0 if annotations else heldout_share,
        )
        chosen = name or (_plain_name(paths[0].stem) if paths else axis)
        rejects_file = Path(f"{chosen}.rejects.jsonl")
        try:
            result = run_stage(
                open_registry(registry), stage, name=chosen, config=config, inputs=inputs, seed=seed,
                progress=Progress(quiet=quiet), force=force,
            )  # fmt: skip
        except TooManyRejects as error:
            write_rejects(rejects_file, error.result.rejects)
            raise ValueError(f"{error}\nall rejected rows are in {rejects_file}") from error
        _say_imported(result.artifact, rejects_file, json_)


def _say_imported(artifact: Any, rejects_file: Path, json_: bool) -> None:
    metrics = artifact.manifest.metrics
    kept = artifact.path / "logs" / "rejects.jsonl"
    if kept.is_file():
        rejects_file.write_bytes(kept.read_bytes())
    where = str(rejects_file) if kept.is_file() else None
    counts = {key: metrics[key] for key in ("read", "accepted", "rejected")}
    if json_:
        print_json({"artifact": str(artifact.reference), **counts, "rejects_file": where})
        return
    typer.echo(
        f"{metrics['read']} rows read, {metrics['accepted']} accepted ({metrics['train']} to train, {metrics['test']} held out)"
    )
    for reason, count in metrics["rejected"].items():
        typer.echo(f"  rejected: {count} {reason}")
    for column, count in metrics["ignored_columns"].items():
        typer.echo(f"  column {column!r} is not known and was ignored in {count} rows")
    if where:
        typer.echo(f"rejected rows, with line and reason: {where}")
    axis = artifact.manifest.config["axis"]
    typer.echo(f"{artifact.reference}")
    typer.echo(f"next: rlhf train-reward --axis {axis} --preferences {artifact.reference} --set {axis}.mixture=own")


def _plain_name(stem: str) -> str:
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in stem.lower()).strip("._-")
    return plain or "annotations"
