"""How the measures of comparisons are printed: tables that fit 80 columns, and the same as JSON."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from preference_data.comparison import RATINGS
from preference_data.measuring.agreement import Agreement, AgreementError, PairwiseAgreement
from preference_data.measuring.annotator_table import AnnotatorRow
from preference_data.measuring.measures import DataAgreement, DataStatistics, Measured
from preference_data.measuring.statistics import Share, Statistics

PAPERS_AGREEMENT = "the paper's evaluators: AC2 0.37-0.55 helpfulness, 0.92 safety (3.4.2, A.3.7)"
NOBODY_AGREES = "no item was judged twice, so there is no agreement to measure: let several annotators judge the same items"
_NONE = "-"
_PICTURES: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    ord("\t"): "    ",
    ord("\n"): "\n",
}


def print_statistics(statistics: DataStatistics, by: str | None) -> None:
    """Tables of Tables 6 and 26, lengths, ratings and safety labels; the total last."""
    groups = statistics.groups or {}
    names, rows = [*groups, "total"], [*groups.values(), statistics.total]
    key = (by or "group").replace("_", " ")
    counts = [[_count(row.comparisons), _count(row.prompts), _count(row.items), _count(row.annotators),
               _mean(row.turns_per_dialogue)] for row in rows]  # fmt: skip
    print_section("comparisons", [key, "comparisons", "prompts", "items", "annotators", "turns"], names, counts)
    print_section(
        f"{statistics.total.unit} on average (example: dialogue with one response; prompt: last message)",
        [key, "example", "prompt", "response", "chosen - rejected", "longer chosen, %"],
        names,
        map(_lengths, rows),
    )
    _print_ratings("ratings", key, names, rows)
    labelled = [[_count(row.unsafe.total), *map(_percent, [row.unsafe, *row.safety.values()])] for row in rows]
    columns = [key, "labels", "unsafe", "safe > unsafe", "both safe", "both unsafe"]
    if statistics.total.unsafe.total:
        print_section("safety labels, in %; chosen > rejected, of pairs with both labels", columns, names, labelled)
    else:
        typer.echo("\nno safety labels")
    if statistics.annotators is not None:
        _print_annotators(statistics.annotators)


def _lengths(row: Statistics) -> list[str]:
    means = (row.tokens_per_example, row.tokens_per_prompt, row.tokens_per_response, row.length_difference)
    return [*map(_mean, means), _with_interval(row.longer_chosen.share, row.longer_chosen.interval)]


def _print_ratings(title: str, key: str, names: Iterable[str], rows: Sequence[Statistics]) -> None:
    if all(row.ratings["better"].total == 0 for row in rows):
        typer.echo(f"\n{title}: nothing is rated")
        return
    shown = [[_count(row.ratings["better"].total), *(_percent(row.ratings[rating]) for rating in RATINGS)] for row in rows]
    print_section(
        f"{title}, in % of the rated", [key, "rated", *(rating.removesuffix("_better") for rating in RATINGS)], names, shown
    )


def _print_annotators(annotators: Mapping[str, AnnotatorRow]) -> None:
    print_section(
        "annotators: shared items were judged by others too, who agree with the choice",
        ["annotator", "judgements", "shared", "others agree, %", "longer chosen, %", "unsafe, %"],
        annotators,
        [
            [
                _count(row.statistics.comparisons),
                _count(row.shared),
                _with_interval(row.agreement, (row.low, row.high)),
                _with_interval(row.statistics.longer_chosen.share, row.statistics.longer_chosen.interval),
                _percent(row.statistics.unsafe),
            ]
            for row in annotators.values()
        ],
    )
    _print_ratings("annotators' ratings", "annotator", annotators, [row.statistics for row in annotators.values()])


def print_agreement(agreement: DataAgreement, by: str) -> None:
    """Two tables, or the words that there is nothing to measure."""
    if not agreement.is_known:
        typer.echo(NOBODY_AGREES)
        return
    key = by.replace("_", " ")
    print_section(
        "Gwet's coefficients with half their 95 % interval (at most 1; 0 at chance)",
        [key, "judged again", "choices AC1", "ratings AC2", "safety labels AC1"],
        agreement.groups,
        [
            [_again(group["choices"]), *(_coefficient(group[name]) for name in ("choices", "ratings", "safety_labels"))]
            for group in agreement.groups.values()
        ],
    )
    print_section(
        "how often another annotator chooses the same, in %, by the rating of the first",
        [key, "any", *(rating.removesuffix("_better") for rating in RATINGS)],
        agreement.groups,
        [
            [_same(group[name]) for name in ("same_choice", *(f"same_choice_if_{rating}" for rating in RATINGS))]
            for group in agreement.groups.values()
        ],
    )
    typer.echo(f"\n{PAPERS_AGREEMENT}")


def _again(agreement: Measured) -> str:
    return _count(agreement.repeated) if isinstance(agreement, Agreement) else "0"


def _coefficient(agreement: Measured) -> str:
    if not isinstance(agreement, Agreement):
        return _NONE
    value = agreement.coefficient
    half = max(agreement.high - value, value - agreement.low)  # one end may be cut at 1 or -1
    return f"{round(value, 2) + 0.0:.2f} ±{half:.2f}"


def _same(share: Measured) -> str:
    if not isinstance(share, PairwiseAgreement):
        return _NONE
    return f"{100 * share.share:.0f} ({100 * share.low:.0f}-{100 * share.high:.0f})"


def print_section(title: str, columns: Sequence[str], names: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """A titled table with ``names`` as its first column; tab-separated lines with a header where there is no terminal."""
    lines = [[visible(name).replace("\n", " "), *row] for name, row in zip(names, rows, strict=True)]
    console = Console()
    typer.echo(f"\n{title}")
    if not console.is_terminal:
        typer.echo("\n".join("\t".join(line) for line in (columns, *lines)))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", overflow="fold", no_wrap=place > 0)
    for line in lines:
        table.add_row(*map(Text, line))
    console.print(table)


def visible(text: str) -> str:
    """``text`` without what a terminal would obey: control characters become pictures of themselves."""
    return text.replace("\r\n", "\n").translate(_PICTURES)


def _count(number: int) -> str:
    return f"{number:,}"


def _mean(value: float) -> str:
    return _NONE if math.isnan(value) else f"{value:,.1f}"


def _percent(share: Share) -> str:
    return f"{100 * share.share:.1f}" if share.total else _NONE


def _with_interval(share: float, interval: tuple[float, float]) -> str:
    if math.isnan(share):
        return _NONE
    low, high = interval
    return f"{100 * share:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def as_json(value: Any) -> Any:
    """Measures as JSON values: shares with their intervals, None for NaN and for a coefficient that there is none of."""
    if isinstance(value, Share):
        low, high = value.interval
        return as_json({"count": value.count, "total": value.total, "share": value.share, "low": low, "high": high})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: as_json(part) for key, part in value.items()}
    if isinstance(value, AgreementError) or (isinstance(value, float) and math.isnan(value)):
        return None
    return value
