"""The report: one self-contained HTML file from `ReportData`.

Everything stands in the file (style, plots), nothing is fetched, and the same data gives the same bytes. Text from models
and data is escaped by jinja2; only plots go in as they are: those drawn here, and those of the studies when they hold nothing
but shapes. A section without data is left out, but for the findings: those of the core set are shown, measured or not.

This module decides what is said (which rows, which words), `scorecard.py` what of the findings; `template.html`, with
`findings.html` and `studies.html`, decides where it stands and how it looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.intervals import Estimate
from eval.report import paper, plots
from eval.report.data import AccuracyTable, DialoguePair, ReportData, VersionRow
from eval.report.figure import described, drawn
from eval.report.scorecard import scorecard, tally
from eval.win_rate import WinRate
from preference_data.comparison import RATINGS

_TEMPLATES = FileSystemLoader(Path(__file__).parent, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class HeadlineRow:
    """A line of the headline table."""

    measure: str
    estimate: Estimate
    note: str
    paper: str


def render_html(data: ReportData) -> str:
    """The report as one HTML document."""
    environment = Environment(
        loader=_TEMPLATES, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(pct=percent, interval=interval, num=number, time=duration, words=_words)
    environment.filters.update(signed=signed, plain=plain, drawn=drawn, described=described, thousands=_thousands)
    findings = scorecard(data)
    return environment.get_template("template.html").render(
        data=data,
        findings=findings,
        tally=tally(findings),
        summary=summary(data),
        headline=headline_rows(data),
        figures=figures(data),
        ratings=RATINGS,
        paper=paper,
        groups=_groups(data.featured, data.sampled),
        ppo_window=plots.running_window(len(data.ppo)),
    )


def summary(data: ReportData) -> str:
    """The run in one sentence."""
    said = f"Recipe {data.run.recipe} with seed {data.run.seed}"
    first, final = data.first, data.final
    if not (first and final):
        return f"{said} ran for {duration(data.run.seconds)}."
    said += f" reached {final.version} in {duration(data.run.seconds)}"
    win = final.gold_helpfulness_win
    if win and win.estimate.known:
        share = percent(win.estimate.value)
        said += f": judges prefer its answer to {first.version}'s on {share} of the helpful prompts they decide"
    if first.violation and final.violation:
        joint = ", and" if win and win.estimate.known else ":"
        said += (
            f"{joint} the share of unsafe answers to adversarial prompts went from {percent(first.violation.value)} "
            f"to {percent(final.violation.value)}"
        )
    return f"{said}."


def headline_rows(data: ReportData) -> list[HeadlineRow]:
    """The table at the top: ours with interval and count, the paper's number beside it."""
    first, final = data.first, data.final
    rows: list[HeadlineRow] = []

    def add(measure: str, estimate: Estimate | None, note: str = "", beside: str = "") -> None:
        if estimate:
            rows.append(HeadlineRow(measure, estimate, note, beside))

    if first and final:
        against = f"{final.version} against {first.version}"
        for axis in ("helpfulness", "harmlessness"):
            win: WinRate | None = getattr(final, f"gold_{axis}_win")
            if win:
                note = f"{win.wins} won, {win.losses} lost, {win.ties} tied"
                add(f"{axis.capitalize()} win rate, {against}", win.estimate, note, paper.HEADLINE[f"gold_{axis}_win_rate"])
    if first:
        add(f"Violation rate, {first.version}", first.violation, "lower is better")
    last = final or first
    if last:
        if final:
            add(f"Violation rate, {final.version}", final.violation, "lower is better", paper.HEADLINE["violation_rate_final"])
        for kind in ("helpful", "borderline"):
            beside = paper.HEADLINE[f"false_refusal_rate_{kind}"]
            add(
                f"False refusals, {kind} prompts, {last.version}",
                getattr(last, f"false_refusal_{kind}"),
                "lower is better",
                beside,
            )
    for table in data.accuracy:
        if table.model == table.test_set and "all" in table.by_rating:
            known = paper.TABLE_8[(table.model, table.test_set)]["all"]
            add(f"Accuracy of the {table.model} model", table.by_rating["all"], _ceiling(table), f"{percent(known)} (Table 8)")
    turns = sorted({row.turn for row in data.consistency})
    for row in data.consistency:
        if row.arm != "v3_gatt" and row.turn in (6, turns[-1]):
            words = "with GAtt" if row.arm == "with" else "without GAtt"
            known_at = paper.TABLE_30[row.arm].get(row.turn)
            beside = f"{percent(known_at)} (Table 30)" if known_at is not None else ""
            note = f"{row.num_overflowed} dialogues left out, context full" if row.num_overflowed else ""
            add(f"Instruction kept at turn {row.turn}, {words}", row.estimate, note, beside)
    return rows


def figures(data: ReportData) -> dict[str, Markup]:
    """Every plot that the data allows, by name."""
    versions = data.versions
    several = versions if len(versions) > 1 else ()
    reference = versions[0].version if versions else ""
    drawn: dict[str, Markup | None] = {}
    for axis in ("helpfulness", "harmlessness"):
        wins = {
            "gold judge": [_share(row, f"gold_{axis}_win") for row in several],
            "reward models": [_share(row, f"rm_{axis}_win") for row in several],
        }
        drawn[f"win_{axis}"] = plots.versions_plot(several, wins, f"{axis} win rate against {reference}", start=0.5)
    violations = {"unsafe answers": [row.violation for row in several]}
    drawn["violation"] = plots.versions_plot(several, violations, "violation rate")
    refusals = {
        "helpful prompts": [row.false_refusal_helpful for row in several],
        "borderline prompts": [row.false_refusal_borderline for row in several],
    }
    drawn["refusal"] = plots.versions_plot(several, refusals, "false refusal rate")
    helpful_scores, safety_scores = [row.helpfulness_scores for row in several], [row.safety_scores for row in several]
    drawn["scores_helpfulness"] = plots.score_plot(several, helpful_scores, "helpfulness", plots.BLUE)
    drawn["scores_safety"] = plots.score_plot(several, safety_scores, "safety", plots.RED)
    for axis in ("helpfulness", "safety"):
        drawn[f"accuracy_{axis}"] = plots.accuracy_plot(data.accuracy, axis)
    drawn["consistency"] = plots.consistency_plot(data.consistency)
    iterations = [point.iteration for point in data.ppo]
    drawn["ppo_score"] = plots.curve_plot(iterations, [point.score for point in data.ppo], "score", plots.BLUE)
    drawn["ppo_kl"] = plots.curve_plot(iterations, [point.kl for point in data.ppo], "KL (nats a response)", plots.RED)
    drawn["ppo_length"] = plots.curve_plot(iterations, [point.length for point in data.ppo], "length (tokens)", plots.GREEN)
    drawn["best_of_k"] = plots.best_of_k_plot(data.best_of_k)
    drawn["time"] = plots.time_plot(data.stage_times)
    for table in data.annotations:
        drawn[f"shares_{table.axis}"] = plots.shares_plot(table.rating_shares, table.axis)
    return {name: svg for name, svg in drawn.items() if svg is not None}


def percent(value: float) -> str:
    """A share in percent, with one decimal, as the paper's tables have it."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def interval(estimate: Estimate) -> str:
    """The ends of a share's interval, in percent."""
    return f"{100 * estimate.low:.1f} – {100 * estimate.high:.1f}\N{NO-BREAK SPACE}%"


def number(value: float, digits: int = 2) -> str:
    return f"{value:,.{digits}f}"


def signed(value: float) -> str:
    """An effect with three decimals and a true minus sign; none at what rounds to zero."""
    return f"{value:z.3f}".replace("-", "\N{MINUS SIGN}")


def plain(value: float, as_percent: bool) -> str:
    """A number of a study's table: in percent without the sign, which stands above the table, or with two decimals."""
    return (f"{100 * value:z.1f}" if as_percent else f"{value:z.2f}").replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 12 min 4 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _thousands(count: int) -> str:
    return f"{count:,}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _share(row: VersionRow, name: str) -> Estimate | None:
    win: WinRate | None = getattr(row, name)
    return win.estimate if win else None


def _ceiling(table: AccuracyTable) -> str:
    ceiling = (table.ceiling or {}).get("all")
    return f"annotators' own ceiling {percent(ceiling.value)}" if ceiling else ""


def _groups(
    featured: Sequence[DialoguePair], sampled: Sequence[DialoguePair]
) -> list[tuple[str, Sequence[DialoguePair], bool]]:
    """(heading, pairs, shown open) of the dialogues there are."""
    groups = [("Featured prompts", featured, True), (f"{len(sampled)} prompts drawn at random", sampled, False)]
    return [group for group in groups if group[1]]
