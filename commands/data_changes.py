"""``rlhf data mix``, ``split``, ``overlap`` and ``export``: other preferences out of those there are, and files of them."""

import itertools
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from commands.making import load_stage
from commands.options import ForceOption, QuietOption, SeedOption, plain_errors, share
from commands.registry import JsonOption, ReferenceArgument, RegistryOption, print_json, print_table
from commands.roots import open_registry
from preference_data.export import HELD_BACK, ROWS
from preference_data.mixture import MixtureError
from registry.manifest import Manifest
from stages.sections import MixConfig, OverlapConfig, SplitConfig
from stages.terminal.progress import Progress

NameOption = Annotated[str, typer.Option("--name", help="Name of what is made.")]
SideOption = Annotated[str, typer.Option("--side", metavar="SIDE", help="train, test or all.")]


def mix(
    shares: Annotated[
        list[str] | None, typer.Argument(metavar="[REF=SHARE...]", help="Preferences and their shares, which sum to 1.")
    ] = None,
    axis: Annotated[
        str | None,
        typer.Option("--paper", metavar="AXIS", help="The paper's mix for helpfulness or safety, of --own and --rest."),
    ] = None,
    own: Annotated[list[str] | None, typer.Option("--own", metavar="REF", help="Preferences of the model's axis.")] = None,
    rest: Annotated[list[str] | None, typer.Option("--rest", metavar="REF", help="Preferences to draw from.")] = None,
    size: Annotated[int | None, typer.Option("--size", metavar="N", min=1, help="Comparisons in a mix by shares.")] = None,
    name: NameOption = "mix",
    registry: RegistryOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
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
        parted = [_with_share(each) for each in shares or ()]
        config = MixConfig(axis=axis, shares=tuple(part for _, part in parted), size=size)
        inputs = {"own": own, "rest": rest} if axis else {"preferences": [reference for reference, _ in parted]}
        _make("stages.data.mix:STAGE", name, config, inputs, registry, seed, force, json_, quiet)


def split(
    reference: ReferenceArgument,
    heldout_share: Annotated[str, typer.Option("--heldout-share", metavar="SHARE", help="Share of dialogues held out.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of what is made. Default: the same.")] = None,
    registry: RegistryOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Hold out another share of dialogues; those that share their first user message stay together.

    Example: rlhf data split preferences/mine --heldout-share 10%
    """
    with plain_errors():
        config = SplitConfig(heldout_share=share("--heldout-share", heldout_share, below=1))
        made = name or open_registry(registry).open(reference, kind="preferences").reference.name
        _make("stages.data.split:STAGE", made, config, {"preferences": [reference]}, registry, seed, force, json_, quiet)


def overlap(
    reference: Annotated[str, typer.Argument(metavar="REF", help="Preferences or prompts to look through.")],
    evaluation: Annotated[list[str], typer.Option("--with", metavar="REF", help="Evaluation prompts; may be repeated.")],
    n: Annotated[int, typer.Option("--words", metavar="N", min=1, help="Words in a run.")] = 10,
    share_: Annotated[
        str, typer.Option("--share", metavar="SHARE", help="Share of a prompt's runs that make an overlap.")
    ] = "0.8",
    remove: Annotated[bool, typer.Option("--remove", help="Make an artifact without the rows that overlap.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="Name of what is made. Default: the same.")] = None,
    registry: RegistryOption = None,
    force: ForceOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Which evaluation prompts are in training data already, by runs of words; --remove leaves their rows out.

    Example: rlhf data overlap preferences/mine --with prompts/evaluation --remove --name clean
    """
    with plain_errors():
        opened = open_registry(registry)
        artifact = opened.open(reference)
        if artifact.reference.kind not in ("preferences", "prompts"):
            raise ValueError(f"{artifact.reference} is of kind {artifact.reference.kind}; give preferences or prompts")
        if artifact.reference in [opened.open(each, kind="prompts").reference for each in evaluation]:
            raise ValueError(f"{artifact.reference} overlaps with itself; give other prompts with --with")
        config = OverlapConfig(n=n, share=share("--share", share_, least=1e-9))
        if remove:
            stage = f"stages.data.overlap:{artifact.reference.kind.upper()}"
            inputs = {"data": [reference], "evaluation": evaluation}
            _make(stage, name or artifact.reference.name, config, inputs, registry, 0, force, json_, quiet)
            return
        from stages.data.overlap import checked_rows, told

        rows = Progress(quiet=quiet).track(
            checked_rows(artifact, [opened.open(each, kind="prompts") for each in evaluation], config), None, "overlap", "row"
        )
        read, found = 0, []
        for row in rows:
            read += 1
            if row.overlaps:
                found.append(told(row))
        if json_:
            print_json({"artifact": str(artifact.reference), "read": read, "overlapping": len(found), "rows": found})
            return
        rows_read = "comparisons to train on" if artifact.reference.kind == "preferences" else "prompts"
        typer.echo(f"{len(found):,} of {read:,} {rows_read} of {artifact.reference} hold an evaluation prompt")
        for each in found[:10]:
            typer.echo(f"  {each['id']} holds {each['share']:.0%} of {each['evaluation_prompt']}: {each['text'][:80]!r}")
        if found:
            asked = " ".join([*(f"--with {each}" for each in evaluation), f"--words {n}", f"--share {share_}"])
            typer.echo(f"next: rlhf data overlap {artifact.reference} {asked} --remove --name {artifact.reference.name}-clean")


def export(
    reference: ReferenceArgument,
    format_: Annotated[str, typer.Option("--to", metavar="F", help=f"{', '.join(ROWS)}.")] = "native",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Default: NAME.F.jsonl.")] = None,
    side: SideOption = "all",
    axis: Annotated[str | None, typer.Option("--axis", metavar="AXIS", help="Of mixed preferences, one axis alone.")] = None,
    registry: RegistryOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Preferences -> a JSONL file that `rlhf import` and other tools read.

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

        files = [artifact.file(f"{each}.parquet") for each in sides(side)]
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
    stage: str, name: str, config: BaseModel, inputs: dict[str, Any], registry: Path | None, seed: int, force: bool,
    json_: bool, quiet: bool,
) -> None:  # fmt: skip
    loaded = load_stage(stage)
    from stages.engine.run import run_stage

    result = run_stage(
        open_registry(registry), loaded, name=name, config=config, inputs=inputs, seed=seed,
        progress=Progress(quiet=quiet), force=force,
    )  # fmt: skip
    manifest, made = result.artifact.manifest, str(result.artifact.reference)
    if json_:
        print_json({"artifact": made, "digest": manifest.digest, "metrics": manifest.metrics, "seconds": result.seconds})
        return
    if "drawn" in manifest.metrics:
        _say_mixed(manifest)
    else:
        typer.echo(", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in manifest.metrics.items()))
    typer.echo(f"{made}{' (up to date)' * result.up_to_date}")
    typer.echo(f"next: rlhf data stats {made}" if made.startswith("preferences/") else f"next: rlhf registry show {made}")


def _say_mixed(manifest: Manifest) -> None:
    """What was drawn from where, and where there was less than asked for."""
    metrics, parents = manifest.metrics, manifest.parents
    names = (
        [" + ".join(each.reference for each in parents[role]) for role in ("own", "rest")]
        if "own" in parents
        else [each.reference for each in parents["preferences"]]
    )
    drawn, shares, asked = metrics["drawn"], metrics["shares"], metrics["asked"]
    rows = [(name, f"{count:,}", f"{share:.1%}") for name, count, share in zip(names, drawn, shares, strict=True)]
    print_table(("preferences", "drawn", "share"), [*rows, ("mix", f"{metrics['train']:,}", "100.0%")])
    for name, count, wanted in zip(names, drawn, asked, strict=True):
        if count < wanted:
            typer.echo(f"{name}: {wanted:,} were asked for, and there are only {count:,}")
    for key, what in (("repeated", "were in already"), ("held_out_elsewhere", "belong to dialogues that are held out")):
        if metrics[key]:
            typer.echo(f"left out: {metrics[key]:,} comparisons that {what}")
    typer.echo(f"held out for testing: {metrics['test']:,}")
