"""``rlhf data mix``, ``split``, ``overlap`` and ``export``: new preferences made from others, and files of them."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from commands.making import make
from commands.options import (
    TRACKING,
    JsonOption,
    QuietOption,
    ReferenceArgument,
    RegistryOption,
    RunOptions,
    open_registry,
    plain_errors,
    run_options,
    share,
)
from commands.printing.lines import print_json, print_table
from preference_data.export import HELD_BACK, ROWS
from preference_data.mixture import MixtureError
from registry.artifact import Artifact
from stages.catalog import STAGES
from stages.sections import MixConfig, OverlapConfig, SplitConfig
from stages.stage import Step
from stages.terminal.progress import Progress

SideOption = Annotated[str, typer.Option("--side", metavar="SIDE", help="Side: train, test or all.")]


@run_options("recipe", "set_", "save_every", "device", *TRACKING, default_name="mix")
def mix(
    shares: Annotated[
        list[str] | None, typer.Argument(metavar="[REF=SHARE...]", help="Preferences and their shares, which sum to 1.")
    ] = None,
    axis: Annotated[
        str | None,
        typer.Option("--paper", metavar="AXIS", help="The paper's mix for helpfulness or safety, from --own and --rest."),
    ] = None,
    own: Annotated[
        list[str] | None, typer.Option("--own", metavar="REF", help="Preferences of the model's own axis; may be repeated.")
    ] = None,
    rest: Annotated[
        list[str] | None, typer.Option("--rest", metavar="REF", help="Preferences to fill up from; may be repeated.")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", metavar="N", min=1, help="Number of comparisons in a mix by shares.")
    ] = None,
    *,
    run: RunOptions,
) -> None:
    """Mix preferences: by shares, or as the paper does (section 3.2.2).

    Example: rlhf data mix preferences/ours=0.8 preferences/hh=0.2 --name blend

    Example: rlhf data mix --paper helpfulness --own preferences/help --rest preferences/safe --rest preferences/shp
    """
    with plain_errors():
        if bool(shares) == bool(axis) or (axis and not (own and rest)) or (shares and (own or rest)):
            raise ValueError("give REF=SHARE for each of the preferences, or --paper AXIS with --own REF and --rest REF")
        if axis not in (None, "helpfulness", "safety"):
            raise ValueError(f"--paper is {axis!r}; it is helpfulness or safety")
        if axis and size:
            raise ValueError(
                "--size is for mixes by shares; the paper's takes all of --own, and of --rest as many as go with them"
            )
        parts = [_with_share(text) for text in shares or ()]
        config = MixConfig(axis=axis, shares=tuple(part for _, part in parts), size=size)
        inputs = {"own": own, "rest": rest} if axis else {"preferences": [reference for reference, _ in parts]}
        _make("mix", run.name or "mix", config, inputs, run, _show_mix)


@run_options("recipe", "set_", "save_every", "device", *TRACKING, default_name="the same")
def split(
    reference: ReferenceArgument,
    heldout_share: Annotated[str, typer.Option("--heldout-share", metavar="SHARE", help="Share of dialogues held out.")],
    *,
    run: RunOptions,
) -> None:
    """Hold out another share of dialogues. Dialogues with the same first user message stay on one side.

    Example: rlhf data split preferences/mine --heldout-share 10%
    """
    with plain_errors():
        config = SplitConfig(heldout_share=share("--heldout-share", heldout_share, below=1))
        name = run.name or run.open_registry().open(reference, kind="preferences").reference.name
        _make("split", name, config, {"preferences": [reference]}, run)


@run_options("recipe", "set_", "seed", "save_every", "device", "dry_run", *TRACKING, default_name="the same")
def overlap(
    reference: Annotated[str, typer.Argument(metavar="REF", help="Preferences or prompts to search.")],
    evaluation: Annotated[list[str], typer.Option("--with", metavar="REF", help="Evaluation prompts; may be repeated.")],
    n: Annotated[int, typer.Option("--words", metavar="N", min=1, help="Words in an n-gram.")] = 10,
    share_: Annotated[
        str, typer.Option("--share", metavar="SHARE", help="Share of a prompt's n-grams that counts as an overlap.")
    ] = "0.8",
    remove: Annotated[bool, typer.Option("--remove", help="Make a new artifact without the overlapping rows.")] = False,
    *,
    run: RunOptions,
) -> None:
    """Find evaluation prompts in training data by shared n-grams of words; --remove makes a copy without those rows.

    Example: rlhf data overlap preferences/mine --with prompts/evaluation --remove --name clean
    """
    with plain_errors():
        registry = run.open_registry()
        artifact = registry.open(reference)
        if artifact.reference.kind not in ("preferences", "prompts"):
            raise ValueError(f"{artifact.reference} is of kind {artifact.reference.kind}; give preferences or prompts")
        if artifact.reference in [registry.open(text, kind="prompts").reference for text in evaluation]:
            raise ValueError(f"{artifact.reference} overlaps with itself; give other prompts with --with")
        config = OverlapConfig(n=n, share=share("--share", share_, least=1e-9))
        if remove:
            stage = "overlap" if artifact.reference.kind == "preferences" else "overlap-prompts"
            inputs = {"data": [reference], "evaluation": evaluation}
            _make(stage, run.name or artifact.reference.name, config, inputs, run)
            return
        from stages.data.overlap import checked_rows, overlap_record

        prompts = [registry.open(text, kind="prompts") for text in evaluation]
        num_read, records = 0, []
        for row in Progress(quiet=run.quiet).track(checked_rows(artifact, prompts, config), None, "overlap", "row"):
            num_read += 1
            if row.overlaps:
                records.append(overlap_record(row))
        if run.json_:
            print_json({"artifact": str(artifact.reference), "read": num_read, "overlapping": len(records), "rows": records})
            return
        what = "comparisons to train on" if artifact.reference.kind == "preferences" else "prompts"
        typer.echo(f"{len(records):,} of {num_read:,} {what} of {artifact.reference} hold an evaluation prompt")
        for record in records[:10]:
            shown = f"{record['share']:.0%} of {record['evaluation_prompt']}: {record['text'][:80]!r}"
            typer.echo(f"  {record['id']} holds {shown}")
        if records:
            options = " ".join([*(f"--with {text}" for text in evaluation), f"--words {n}", f"--share {share_}"])
            name = f"{artifact.reference.name}-clean"
            typer.echo(f"next: rlhf data overlap {artifact.reference} {options} --remove --name {name}{run.same_registry}")


def export(
    reference: ReferenceArgument,
    format_: Annotated[str, typer.Option("--to", metavar="F", help=f"{', '.join(ROWS)}.")] = "native",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Default: NAME.F.jsonl.")] = None,
    side: SideOption = "all",
    axis: Annotated[str | None, typer.Option("--axis", metavar="AXIS", help="Only this axis of mixed preferences.")] = None,
    registry: RegistryOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write preferences to a JSONL file that `rlhf import` and other tools read.

    Example: rlhf data export preferences/mine --to trl --out mine.jsonl
    """
    with plain_errors():
        if format_ not in ROWS:
            raise ValueError(f"--to is {format_!r}; it is one of {', '.join(ROWS)}")
        if axis not in (None, "helpfulness", "safety"):
            raise ValueError(f"--axis is {axis!r}; it is helpfulness or safety")
        artifact = open_registry(registry).open(reference, kind="preferences")
        path = out or Path(f"{artifact.reference.name}.{format_}.jsonl")
        if path.exists() and not force:
            raise ValueError(f"there is a file {path} already; give another --out, or --force to replace it")
        from preference_data.comparison import Comparison
        from preference_data.export import export as write
        from preference_data.parquet import iterate_records, num_records

        files = [artifact.file(f"{name}.parquet") for name in sides(side)]
        read = itertools.chain.from_iterable(iterate_records(file, Comparison) for file in files)
        rows = Progress(quiet=quiet).track(read, sum(map(num_records, files)), "export", "row")
        written, left_out = write(path, rows, format_, axis)  # type: ignore[arg-type]  # checked above
        if json_:
            print_json({"artifact": str(artifact.reference), "file": str(path), "written": written, "left_out": left_out})
            return
        typer.echo(f"{written:,} comparisons of {artifact.reference}: {path}")
        for reason, count in left_out.items():
            typer.echo(f"  left out: {count:,}, because {reason}")
        if format_ in HELD_BACK:
            typer.echo(f"  the format has no place for {HELD_BACK[format_]}")


def add_changes(data_app: typer.Typer) -> None:
    """Give ``rlhf data`` these commands too."""
    for command in (split, mix, overlap, export):
        data_app.command()(command)


def sides(side: str) -> tuple[str, ...]:
    """The sides that ``--side`` names. Raises ValueError."""
    if side not in ("train", "test", "all"):
        raise ValueError(f"--side is {side!r}; it is train, test or all")
    return ("train", "test") if side == "all" else (side,)


def _with_share(text: str) -> tuple[str, float]:
    reference, mark, number = text.rpartition("=")
    if not mark:
        raise MixtureError(f"{text!r} names no share; write REF=SHARE, as in preferences/ours=0.8")
    return reference, share(f"the share of {reference}", number)


def _make(
    stage: str,
    name: str,
    config: BaseModel,
    inputs: Mapping[str, Sequence[str] | None],
    run: RunOptions,
    show: Callable[[Artifact], None] | None = None,
) -> None:
    given = {role: tuple(references or ()) for role, references in inputs.items()}
    make(run, [Step(STAGES[stage], name, config, given)], show=show or _show_counts)


def _show_counts(artifact: Artifact) -> None:
    typer.echo(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in artifact.manifest.metrics.items()))


def _show_mix(artifact: Artifact) -> None:
    """How many comparisons were drawn from each source, and where there were fewer than asked for."""
    metrics, parents = artifact.manifest.metrics, artifact.manifest.parents
    names = (
        [" + ".join(parent.reference for parent in parents[role]) for role in ("own", "rest")]
        if "own" in parents
        else [parent.reference for parent in parents["preferences"]]
    )
    drawn, shares, asked = metrics["drawn"], metrics["shares"], metrics["asked"]
    rows = [(name, f"{count:,}", f"{share:.1%}") for name, count, share in zip(names, drawn, shares, strict=True)]
    print_table(("preferences", "drawn", "share"), [*rows, ("mix", f"{metrics['train']:,}", "100.0%")])
    for name, count, wanted in zip(names, drawn, asked, strict=True):
        if count < wanted:
            typer.echo(f"{name}: {wanted:,} were asked for, and there are only {count:,}")
    for key, what in (("repeated", "are repeated"), ("held_out_elsewhere", "belong to dialogues that are held out")):
        if metrics[key]:
            typer.echo(f"left out: {metrics[key]:,} comparisons that {what}")
    typer.echo(f"held out for testing: {metrics['test']:,}")
