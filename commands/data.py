"""``rlhf data``: look at comparisons and measure them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from commands.options import JsonOption, QuietOption, ReferenceArgument, RegistryOption, open_registry, plain_errors
from commands.printing.lines import print_json, say
from registry.artifact import Artifact
from registry.errors import WrongKind
from registry.store import Registry
from stages.terminal.progress import Progress

if TYPE_CHECKING:
    from preference_data.measuring.measures import Track
    from stages.engine.model_text import ModelText

data_app = typer.Typer(no_args_is_help=True, help="Inspect, measure, mix, split and export preference data.")

Side = Literal["train", "test", "all"]
SideOption = Annotated[Side, typer.Option("--side", help="Comparisons for training, held-out ones, or all.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="REF", help="Policy or reward model, or a Hugging Face folder.")
]


@data_app.command("stats")
def stats(
    reference: ReferenceArgument,
    side: SideOption = "all",
    by: Annotated[
        Literal["source", "batch", "axis", "rating", "annotator", "risk_category"] | None,
        typer.Option("--by", help="One row for each value of this field."),
    ] = None,
    annotators: Annotated[bool, typer.Option("--annotators", help="Also print statistics of each annotator.")] = False,
    model: ModelOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Statistics of comparisons: paper Tables 6 and 26, ratings, safety labels, and how far length alone predicts the choice.

    Lengths are in words, or with --model in its tokens. Shares are in %, with 95 % intervals in brackets.

    Example: rlhf data stats preferences/helpfulness --by batch --annotators
    """
    with plain_errors():
        store = open_registry(registry)
        artifact = store.open(reference, kind="preferences")
        from preference_data.measuring.measures import statistics_of
        from stages.data.import_annotations import sides_of

        files = list(sides_of(artifact, side).values())
        counted_by, count_tokens = None, None
        if model:
            from stages.engine.model_text import token_counter

            opened = _open_model(store, model)
            counted_by, count_tokens = opened.name, token_counter(opened.tokenizer)
        statistics = statistics_of(files, by, annotators, count_tokens, _tracked(quiet))
        from commands.printing.measures import as_json as plain
        from commands.printing.measures import print_statistics

        if as_json:
            facts = {"artifact": str(artifact.reference), "side": side, "by": by, "model": counted_by}
            print_json({**facts, "unit": statistics.total.unit, **plain(statistics)})
            return
        typer.echo(f"{artifact.reference}, {_sides(side)}" + (f", in tokens of {counted_by}" if counted_by else ""))
        print_statistics(statistics, by)


@data_app.command("agreement")
def agreement(
    reference: ReferenceArgument,
    side: SideOption = "all",
    by: Annotated[
        Literal["source", "batch", "axis", "risk_category"],
        typer.Option("--by", help="Rows for each value of this field; judgements are compared within each."),
    ] = "axis",
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Agreement between annotators on items that several annotated: Gwet's AC1 and AC2, with 95 % intervals.

    Example: rlhf data agreement preferences/helpfulness --by batch
    """
    with plain_errors():
        artifact = open_registry(registry).open(reference, kind="preferences")
        from commands.printing.measures import as_json as plain
        from commands.printing.measures import print_agreement
        from preference_data.measuring.measures import agreement_of
        from stages.data.import_annotations import sides_of

        measured = agreement_of(list(sides_of(artifact, side).values()), by, _tracked(quiet))
        if as_json:
            print_json({"artifact": str(artifact.reference), "side": side, "by": by, **plain(measured)})
            return
        typer.echo(f"{artifact.reference}, {_sides(side)}: {measured.judgements:,} judgements of {measured.items:,} items")
        print_agreement(measured, by)


@data_app.command("show")
def show(
    reference: ReferenceArgument,
    side: Annotated[Side | None, typer.Option("--side", help="Comparisons for training, held-out ones, or all.")] = None,
    num: Annotated[int, typer.Option("--n", metavar="N", min=1, help="Number of records.")] = 3,
    skip: Annotated[int, typer.Option("--skip", metavar="N", min=0, help="Skip the first N.")] = 0,
    id_: Annotated[str | None, typer.Option("--id", metavar="ID", help="Id of a comparison, an item or a prompt.")] = None,
    rating: Annotated[str | None, typer.Option("--rating", metavar="RATING", help="Only comparisons with this rating.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Draw records at random, with this seed.")] = None,
    model: ModelOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print comparisons or dialogues, readable for people.

    With --model also as that model takes them in: the chat format with its tokens counted, and marked what would be trained
    (policy) or where the score is read (reward model).

    Example: rlhf data show preferences/helpfulness --n 2 --rating better --model policy/sft
    """
    with plain_errors():
        if skip and seed is not None:
            raise ValueError("--skip is for rows in order and --seed for a draw; give one of them")
        store = open_registry(registry)
        artifact = store.open(reference)
        files = _files(artifact, side)
        from preference_data.comparison import Comparison
        from preference_data.picked_rows import Wanted, pick
        from preference_data.prompt import Dialogue

        record_type = Dialogue if artifact.reference.kind == "dialogues" else Comparison
        picked, num_fitting = pick(files, record_type, Wanted(num, skip, id_, rating, seed))
        opened = _open_model(store, model) if model else None
        from commands.printing.records import print_records, records_json

        if as_json:
            facts = {"artifact": str(artifact.reference), "model": opened.name if opened else None, "matching": num_fitting}
            print_json({**facts, "shown": records_json(picked, opened)})
            return
        from rich.console import Console

        what = "dialogues" if record_type is Dialogue else "comparisons"
        typer.echo(f"{artifact.reference}: {len(picked)} of {num_fitting:,} {what}")
        print_records(picked, skip + 1, opened, Console(highlight=False))
        if seed is None and num_fitting > skip + len(picked):
            say(f"next: the same with --skip {skip + len(picked)}")


def _tracked(quiet: bool) -> "Track":
    """Shows how many comparisons were read, and how fast."""
    progress = Progress(quiet=quiet)
    return lambda batches, num_rows: progress.track(batches, num_rows, "comparisons", "row", len)


def _open_model(store: Registry, text: str) -> "ModelText":
    from stages.engine.model_text import open_model
    from stages.environment import quiet_libraries

    quiet_libraries()
    return open_model(store, text)


def _files(artifact: Artifact, side: Side | None) -> dict[str, Path]:
    """The files to show of an artifact. Raises WrongKind for one that holds neither comparisons nor dialogues."""
    from stages.data.import_annotations import sides_of

    if artifact.reference.kind == "preferences":
        return sides_of(artifact, side or "all")
    if artifact.reference.kind != "dialogues":
        raise WrongKind(
            f"{artifact.reference} is of kind {artifact.reference.kind}; rlhf data show prints preferences and dialogues"
        )
    if side:
        raise ValueError(f"--side is for preferences; {artifact.reference} holds dialogues, which have no sides")
    return {"dialogues": artifact.file("dialogues.parquet")}


def _sides(side: Side) -> str:
    return {"train": "to train on", "test": "held out", "all": "all comparisons"}[side]
