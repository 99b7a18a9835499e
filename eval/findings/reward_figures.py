"""The figures of the findings on reward models, after the paper's Figures 6, 27, 29 and 32. Numbers in, one SVG each."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, NullLocator

from eval.calibration import LEVELS, LevelScore, sigmoid
from eval.intervals import Estimate
from eval.report.figure import BLUE, GREEN, GREY, ORANGE, RED, legend_above, panel, paper_line, percent_axis, solid_line

_BINS = 40
_COLOURS = (BLUE, ORANGE, RED, GREEN)
_MARKERS = ("o", "s", "^", "v")
FIGURE_29 = {"helpfulness": (0.24, 0.55), "safety": (0.29, 0.78)}
"""Mean score at the lowest and at the highest rating, read off the chart."""


def score_histogram(scores: Mapping[str, Sequence[float]], label: str) -> Markup:
    """Distribution of the scores (logits) of each arm, as sigmoid (Fig 27); ``label`` precedes the name of an arm."""
    with panel("distribution of reward scores by arm", width=4.6) as drawn:
        axes = drawn.axes
        for (arm, logits), colour in zip(scores.items(), _COLOURS, strict=False):
            counts, edges = np.histogram(sigmoid(np.asarray(logits, dtype=np.float64)), bins=_BINS, range=(0, 1))
            axes.stairs(counts / max(1, len(logits)), edges, color=colour, linewidth=1.4, label=f"{label} {arm}")
        axes.set_xlim(0, 1)
        axes.set_xlabel("score")
        axes.set_ylabel(f"responses, in each of {_BINS} steps")
        percent_axis(axes)
        legend_above(axes)
    return drawn.svg


def scaling_curves(curves: Mapping[str, Mapping[str, Mapping[int, Estimate]]]) -> Markup:
    """Accuracy by number of comparisons trained on (Fig 6): policy -> rating -> curve, shown by colour and marker."""
    with panel("accuracy by number of comparisons trained on", width=4.6, height=3.4) as drawn:
        axes = drawn.axes
        axes.axhline(0.5, color=GREY, linewidth=0.9)
        for (policy, ratings), colour in zip(curves.items(), cycle(_COLOURS)):
            for (rating, curve), marker in zip(ratings.items(), cycle(_MARKERS)):
                solid_line(axes, list(curve), list(curve.values()), f"{policy}, {rating.partition('_')[0]}", colour, marker)
        ticks = sorted({size for ratings in curves.values() for curve in ratings.values() for size in curve})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("comparisons trained on")
        axes.set_ylabel("accuracy")
        percent_axis(axes)
        legend_above(axes)
    return drawn.svg


def calibration_curves(levels: Mapping[str, Sequence[LevelScore]]) -> Markup:
    """Mean score at each absolute rating, with a band of one standard deviation (Fig 29), one line an axis."""
    with panel("mean score by absolute rating", width=4.6, height=3.1) as drawn:
        axes = drawn.axes
        for (axis, rows), colour, marker in zip(levels.items(), (BLUE, RED), ("o", "s"), strict=False):
            row_levels, means = [row.level for row in rows], np.array([row.mean.value for row in rows])
            deviations = np.array([row.deviation for row in rows])
            axes.fill_between(row_levels, means - deviations, means + deviations, color=colour, alpha=0.12, linewidth=0)
            solid_line(axes, row_levels, [row.mean for row in rows], f"{axis} model", colour, marker)
            paper_line(axes, (1, LEVELS), FIGURE_29[axis], f"paper, {axis} (ends)", marker)
        axes.set_xticks(range(1, LEVELS + 1))
        axes.set_ylim(0, 1)
        axes.set_xlabel("absolute rating (gold)")
        axes.set_ylabel("mean score")
        legend_above(axes)
    return drawn.svg


def score_scatter(helpfulness: Sequence[float], safety: Sequence[float], safe: Sequence[bool | None]) -> Markup:
    """Both models' scores (logits) of the same responses, as sigmoid, by safety label (Fig 32)."""
    safety_scores, helpfulness_scores = (sigmoid(np.asarray(logits, dtype=np.float64)) for logits in (safety, helpfulness))
    with panel("helpfulness score by safety score", width=4.6, height=3.1) as drawn:
        axes = drawn.axes
        for label, name, colour, marker in ((True, "safe", BLUE, "o"), (False, "unsafe", RED, "x")):
            members = [i for i, is_safe in enumerate(safe) if is_safe is label]
            points = (safety_scores[members], helpfulness_scores[members])
            axes.plot(*points, linestyle="none", marker=marker, color=colour, alpha=0.35, markersize=3, label=name)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("safety score")
        axes.set_ylabel("helpfulness score")
        legend_above(axes)
    return drawn.svg
