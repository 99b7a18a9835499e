"""The report: one self-contained HTML file from `ReportData`.

The file holds everything (style, plots), fetches nothing, and is the same, byte for byte, for the same data. Text from models
and data is escaped by jinja2; only plots are inserted as they are: those drawn here, and those of studies if they hold nothing
but shapes. A section without data is left out, except the findings: those of the core set are shown, measured or not.

This module chooses the rows and their words, `scorecard.py` those of the findings; the templates (`report.html`, with one file
for the style, the macros and each long section) decide the order and the look.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from eval.intervals import Estimate
from eval.report import paper, plots
from eval.report.data import AccuracyTable, DialoguePair, ReportData, VersionRow
from eval.report.figure import described, drawn
from eval.report.scorecard import scorecard, tally
from eval.report.templates import environment
from eval.win_rate import WinRate
from preference_data.comparison import RATINGS


@dataclass(frozen=True, slots=True)
class HeadlineRow:
    """A line of the headline table."""

    measure: str
    estimate: Estimate
    note: str
    paper: str


def render_html(data: ReportData) -> str:
    """The report as one HTML document."""
    templates = environment()
    templates.filters.update(pct=percent, interval=interval, num=number, time=duration, words=_words)
    templates.filters.update(signed=signed, plain=plain, drawn=drawn, described=described, thousands=_thousands)
    findings = scorecard(data)
    return templates.get_template("report.html").render(
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
    sentence = f"Recipe {data.run.recipe} with seed {data.run.seed}"
    first, final = data.first, data.final
    if not (first and final):
        return f"{sentence} ran for {duration(data.run.seconds)}."
    sentence += f" reached {final.version} in {duration(data.run.seconds)}"
    win = final.gold_helpfulness_win
    if win and win.estimate.known:
        share = percent(win.estimate.value)
        sentence += f": judges prefer its response to {first.version}'s on {share} of the helpful prompts they decide"
    if first.violation and final.violation:
        link = ", and" if win and win.estimate.known else ":"
        sentence += (
            f"{link} the share of unsafe responses to adversarial prompts went from {percent(first.violation.value)} "
            f"to {percent(final.violation.value)}"
        )
    return f"{sentence}."


def headline_rows(data: ReportData) -> list[HeadlineRow]:
    """The table at the top: our numbers with interval and count, the paper's beside them."""
    first, final = data.first, data.final
    rows: list[HeadlineRow] = []

    def add(measure: str, estimate: Estimate | None, note: str = "", in_paper: str = "") -> None:
        if estimate:
            rows.append(HeadlineRow(measure, estimate, note, in_paper))

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
            add(
                f"False refusals, {kind} prompts, {last.version}",
                getattr(last, f"false_refusal_{kind}"),
                "lower is better",
                paper.HEADLINE[f"false_refusal_rate_{kind}"],
            )
    for table in data.accuracy:
        if table.model == table.test_set and "all" in table.by_rating:
            in_table = paper.TABLE_8[(table.model, table.test_set)]["all"]
            in_paper = f"{percent(in_table)} (Table 8)"
            add(f"Accuracy of the {table.model} model", table.by_rating["all"], _ceiling(table), in_paper)
    turns = sorted({row.turn for row in data.consistency})
    for row in data.consistency:
        if row.arm != "v3_gatt" and row.turn in (6, turns[-1]):
            arm = "with GAtt" if row.arm == "with" else "without GAtt"
            kept_in_paper = paper.TABLE_30[row.arm].get(row.turn)
            in_paper = f"{percent(kept_in_paper)} (Table 30)" if kept_in_paper is not None else ""
            note = f"{row.num_overflowed} dialogues left out, context full" if row.num_overflowed else ""
            add(f"Instruction kept at turn {row.turn}, {arm}", row.estimate, note, in_paper)
    return rows


def figures(data: ReportData) -> dict[str, Markup]:
    """Every plot that there is data for, by name."""
    versions = data.versions
    several = versions if len(versions) > 1 else ()
    reference = versions[0].version if versions else ""
    svgs: dict[str, Markup | None] = {}
    for axis in ("helpfulness", "harmlessness"):
        wins = {
            "gold judge": [_share(row, f"gold_{axis}_win") for row in several],
            "reward models": [_share(row, f"rm_{axis}_win") for row in several],
        }
        svgs[f"win_{axis}"] = plots.versions_plot(several, wins, f"{axis} win rate against {reference}", start=0.5)
    violations = {"unsafe responses": [row.violation for row in several]}
    svgs["violation"] = plots.versions_plot(several, violations, "violation rate")
    refusals = {
        "helpful prompts": [row.false_refusal_helpful for row in several],
        "borderline prompts": [row.false_refusal_borderline for row in several],
    }
    svgs["refusal"] = plots.versions_plot(several, refusals, "false refusal rate")
    helpful_scores, safety_scores = [row.helpfulness_scores for row in several], [row.safety_scores for row in several]
    svgs["scores_helpfulness"] = plots.score_plot(several, helpful_scores, "helpfulness", plots.BLUE)
    svgs["scores_safety"] = plots.score_plot(several, safety_scores, "safety", plots.RED)
    for axis in ("helpfulness", "safety"):
        svgs[f"accuracy_{axis}"] = plots.accuracy_plot(data.accuracy, axis)
    svgs["consistency"] = plots.consistency_plot(data.consistency)
    iterations = [point.iteration for point in data.ppo]
    svgs["ppo_score"] = plots.curve_plot(iterations, [point.score for point in data.ppo], "score", plots.BLUE)
    svgs["ppo_kl"] = plots.curve_plot(iterations, [point.kl for point in data.ppo], "KL (nats a response)", plots.RED)
    svgs["ppo_length"] = plots.curve_plot(iterations, [point.length for point in data.ppo], "length (tokens)", plots.GREEN)
    svgs["best_of_k"] = plots.best_of_k_plot(data.best_of_k)
    svgs["time"] = plots.time_plot(data.stage_times)
    for table in data.annotations:
        svgs[f"shares_{table.axis}"] = plots.shares_plot(table.rating_shares, table.axis)
    return {name: svg for name, svg in svgs.items() if svg is not None}


def percent(value: float) -> str:
    """A share in percent, with one decimal, as in the paper's tables."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def interval(estimate: Estimate) -> str:
    """The ends of a share's interval, in percent."""
    return f"{100 * estimate.low:.1f} – {100 * estimate.high:.1f}\N{NO-BREAK SPACE}%"


def number(value: float, digits: int = 2) -> str:
    return f"{value:,.{digits}f}"


def signed(value: float) -> str:
    """An effect with three decimals and a typographic minus sign; zero has no sign."""
    return f"{value:z.3f}".replace("-", "\N{MINUS SIGN}")


def plain(value: float, as_percent: bool) -> str:
    """A number in a study's table: in percent without the sign, which the title of the table has, or with two decimals."""
    return (f"{100 * value:z.1f}" if as_percent else f"{value:z.2f}").replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """Seconds in readable units: 42 s, 12 min 4 s, 2 h 5 min."""
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
    """(heading, pairs, is shown open) of each group with dialogues."""
    groups = [("Featured prompts", featured, True), (f"{len(sampled)} prompts drawn at random", sampled, False)]
    return [(heading, pairs, is_open) for heading, pairs, is_open in groups if pairs]
