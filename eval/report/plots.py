"""The plots of the report. Numbers in, one inline SVG each; None where there is nothing to draw.

Each plot is a single small panel. The page places panels side by side on a wide screen and one below the other on a phone,
where a wide figure would be too small to read.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from eval.intervals import Estimate
from eval.report.data import AccuracyTable, BestOfKRow, ConsistencyRow, Quantiles, StageTime, VersionRow
from eval.report.figure import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PAPER_MARK,
    RED,
    SKY,
    legend_above,
    panel,
    paper_line,
    percent_axis,
    solid_line,
)
from eval.report.paper import RATING_SHARES, TABLE_8, TABLE_30
from preference_data.comparison import RATINGS

RATING_NAMES = {
    "significantly_better": "significantly\nbetter",
    "better": "better",
    "slightly_better": "slightly\nbetter",
    "negligibly_better": "negligibly\nbetter",
}


def _shifted(positions: Iterable[float], place: int, count: int) -> list[float]:
    """``positions`` of the line number ``place`` of ``count``, moved so that its intervals do not overlap those of others."""
    return [x + 0.05 * (2 * place - count + 1) for x in positions]


def _versions_axis(axes: Axes, names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 6 else 0)
    axes.set_xlim(-0.4, len(names) - 0.6)


def versions_plot(
    versions: Sequence[VersionRow], series: Mapping[str, Sequence[Estimate | None]], ylabel: str, start: float | None = None
) -> Markup | None:
    """Estimates by version, one line per series; ``start`` draws the reference version there and a line across the panel."""
    if not any(estimate for row in series.values() for estimate in row):
        return None
    with panel(f"{ylabel} by version") as drawn:
        axes = drawn.axes
        if start is not None:
            axes.axhline(start, color=GREY, linewidth=0.9)
            axes.plot([0], [start], marker="o", color=GREY, markerfacecolor="white", zorder=3)
        styles = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"))
        for place, ((label, row), (colour, marker)) in enumerate(zip(series.items(), styles, strict=False)):
            known = [(x, estimate) for x, estimate in enumerate(row) if estimate and estimate.known]
            if known:
                positions = _shifted([x for x, _ in known], place, len(series))
                solid_line(axes, positions, [estimate for _, estimate in known], label, colour, marker)
        _versions_axis(axes, [row.version for row in versions])
        axes.set_ylabel(ylabel)
        percent_axis(axes)
        if start is None:
            axes.set_ylim(bottom=-0.03 * axes.get_ylim()[1])  # room for markers at 0
        legend_above(axes)
    return drawn.svg


def accuracy_plot(tables: Sequence[AccuracyTable], test_set: str) -> Markup | None:
    """Accuracy by rating of both models on one test set, that of the paper's model, and the annotators' ceiling."""
    tables = [table for table in tables if table.test_set == test_set and any(rating in table.by_rating for rating in RATINGS)]
    if not tables:
        return None
    with panel(f"accuracy by rating on the {test_set} test set", height=3.1) as drawn:
        axes = drawn.axes
        axes.axhline(0.5, color=GREY, linewidth=0.9)
        for place, table in enumerate(sorted(tables, key=lambda table: table.model != test_set)):
            colour, marker = (BLUE, "o") if table.model == "helpfulness" else (RED, "s")
            known = [(x, table.by_rating[rating]) for x, rating in enumerate(RATINGS) if rating in table.by_rating]
            positions = _shifted([x for x, _ in known], place, len(tables))
            solid_line(axes, positions, [estimate for _, estimate in known], f"{table.model} model", colour, marker)
        paper = TABLE_8[(test_set, test_set)]
        paper_line(axes, range(len(RATINGS)), [paper[rating] for rating in RATINGS], f"paper, {test_set} model")
        ceiling = next((table.ceiling for table in tables if table.ceiling), None)
        if ceiling:
            known_ceiling = [(x, ceiling[rating].value) for x, rating in enumerate(RATINGS) if rating in ceiling]
            axes.plot(*zip(*known_ceiling, strict=True), color=GREEN, linestyle=":", marker="_", label="annotators' ceiling")
        axes.set_xticks(range(len(RATINGS)), [RATING_NAMES[rating] for rating in RATINGS])
        axes.set_ylabel("accuracy")
        percent_axis(axes)
        legend_above(axes)
    return drawn.svg


def score_plot(versions: Sequence[VersionRow], rows: Sequence[Quantiles | None], axis: str, colour: str) -> Markup | None:
    """Median, middle half and 10-90 % range of the scores by version (similar to Figure 20)."""
    if not any(rows):
        return None
    with panel(f"distribution of {axis} scores by version") as drawn:
        axes = drawn.axes
        for x, row in enumerate(rows):
            if row:
                axes.plot([x, x], [row.p10, row.p90], color=colour, linewidth=1.2, solid_capstyle="butt")
                axes.plot([x, x], [row.p25, row.p75], color=colour, linewidth=7, solid_capstyle="butt", alpha=0.45)
                axes.plot([x], [row.p50], marker="o", color=colour, markeredgecolor="white", markersize=6)
        _versions_axis(axes, [row.version for row in versions])
        axes.set_ylim(-0.03, 1.03)  # room for markers at the ends
        axes.set_ylabel(f"{axis} score")
    return drawn.svg


def consistency_plot(rows: Sequence[ConsistencyRow]) -> Markup | None:
    """Share of dialogues that obey by turn and arm, with the paper's Table 30. Turns are spaced evenly."""
    if not rows:
        return None
    turns = sorted({row.turn for row in rows})
    x_of_turn = {turn: x for x, turn in enumerate(turns)}
    styles = {"with": ("with GAtt", BLUE, "o"), "v3_gatt": ("right after GAtt", GREEN, "^"), "without": ("without", RED, "s")}
    with panel("share of dialogues that obey the instruction, by turn", width=4.6, height=3.0) as drawn:
        axes = drawn.axes
        for place, (arm, (name, colour, marker)) in enumerate(styles.items()):
            of_arm = sorted((row for row in rows if row.arm == arm and row.estimate.known), key=lambda row: row.turn)
            if of_arm:
                label = f"{name} ({of_arm[0].policy})"
                positions = _shifted([x_of_turn[row.turn] for row in of_arm], place, len(styles))
                solid_line(axes, positions, [row.estimate for row in of_arm], label, colour, marker)
        for arm, marker in (("with", "D"), ("without", "v")):
            points = [(x_of_turn[turn], value) for turn, value in TABLE_30[arm].items() if turn in x_of_turn]
            if points:
                paper_line(axes, [x for x, _ in points], [y for _, y in points], f"paper, {arm}", marker)
        axes.set_xticks(range(len(turns)), [f"turn {turn}" for turn in turns])
        axes.set_ylim(-0.04, 1.06)
        axes.set_ylabel("dialogues that obey")
        percent_axis(axes)
        legend_above(axes)
    return drawn.svg


def running_window(num_iterations: int) -> int:
    """The number of iterations in the running mean: a tenth of them; 1 means no running mean."""
    return max(1, num_iterations // 10)


def curve_plot(iterations: Sequence[int], values: Sequence[float], ylabel: str, colour: str) -> Markup | None:
    """One PPO metric by iteration: the raw values pale, their running mean over a tenth of the run solid."""
    if len(values) < 2:
        return None
    window = running_window(len(values))
    smooth = [fmean(values[max(0, i - window + 1) : i + 1]) for i in range(len(values))]
    with panel(f"{ylabel} by PPO iteration", width=2.75, height=2.2) as drawn:
        axes = drawn.axes
        axes.plot(iterations, values, color=colour, alpha=0.35, linewidth=1)
        axes.plot(iterations, smooth, color=colour)
        axes.set_xlabel("PPO iteration")
        axes.set_ylabel(ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return drawn.svg


def best_of_k_plot(rows: Sequence[BestOfKRow]) -> Markup | None:
    """Maximum and mean score of k samples, by round."""
    if not rows:
        return None
    with panel("score of the best of k samples and of the mean one, by round", width=4.6, height=2.7) as drawn:
        axes = drawn.axes
        positions = range(len(rows))
        solid_line(axes, _shifted(positions, 0, 2), [row.maximum for row in rows], "best of k", BLUE)
        solid_line(axes, _shifted(positions, 1, 2), [row.mean for row in rows], "mean of k", SKY, "s")
        axes.set_xticks(positions, [f"{row.version}\nk = {row.k}" for row in rows])
        axes.set_xlim(-0.4, len(rows) - 0.6)
        axes.set_ylabel("combined score (logit)")
        legend_above(axes)
    return drawn.svg


def time_plot(stages: Sequence[StageTime]) -> Markup | None:
    """Seconds of each stage as bars, with a tick at its budget."""
    if not stages:
        return None
    with panel("seconds of each stage", width=5.2, height=0.7 + 0.2 * len(stages)) as drawn:
        axes = drawn.axes
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        names, seconds = [stage.name for stage in stages], [stage.seconds for stage in stages]
        axes.barh(names, seconds, color=SKY, height=0.62, label="measured")
        budgets = [(stage.budget_seconds, stage.name) for stage in stages if stage.budget_seconds is not None]
        if budgets:
            tick: dict[str, Any] = {"marker": "|", "markersize": 10, "markeredgewidth": 1.8, "color": RED}
            axes.plot(*zip(*budgets, strict=True), linestyle="none", label="budget", **tick)
            legend_above(axes)
        axes.invert_yaxis()
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("seconds")
    return drawn.svg


def shares_plot(shares: Mapping[str, Estimate], axis: str) -> Markup | None:
    """Share of each rating, with the paper's."""
    if not any(rating in shares for rating in RATINGS):
        return None
    with panel(f"share of each rating in the {axis} comparisons") as drawn:
        axes = drawn.axes
        positions = [x for x, rating in enumerate(RATINGS) if rating in shares]
        axes.bar(positions, [shares[RATINGS[x]].value for x in positions], width=0.6, color=BLUE, label=f"ours, {axis}")
        paper = [RATING_SHARES[rating] for rating in RATINGS]
        axes.plot(range(len(RATINGS)), paper, linestyle="none", marker="D", label="paper (mid-run)", **PAPER_MARK)
        axes.set_xticks(range(len(RATINGS)), [RATING_NAMES[rating] for rating in RATINGS])
        axes.set_ylabel("share of comparisons")
        percent_axis(axes)
        legend_above(axes)
    return drawn.svg
