"""The figures of many samples per prompt, after the paper's Figures 7 and 8. Numbers in, one SVG each."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import NullLocator

from eval.best_of_n import best_of_n_kl
from eval.findings.sampling import FIGURE_7
from eval.intervals import Estimate
from eval.report.figure import BLUE, GREEN, INK, ORANGE, RED, SKY, legend_above, panel, paper_line, solid_line

_COLOURS = (BLUE, RED, GREEN, ORANGE)
_MARKERS = ("o", "s", "^", "v", "D")
_HEAT = LinearSegmentedColormap.from_list("heat", (BLUE, SKY, GREEN, ORANGE, RED))
_PALE = LinearSegmentedColormap.from_list("pale", ("#f0f6fb", SKY))
_LABEL_RATIO = 1.4  # of the last two sizes; below it their labels would overlap
_OFFSET = 0.07  # doublings
Curve = Mapping[int, Estimate]


def reward_curves(policies: Mapping[str, Mapping[str, Curve]]) -> Markup:
    """Maximum, median and mean reward of N samples (Fig 7): policy -> statistic -> curve, shown by colour and line."""
    with panel("reward of N samples a prompt: maximum, median and mean", width=4.6, height=3.4) as drawn:
        axes = drawn.axes
        for place, ((name, curves), colour) in enumerate(zip(policies.items(), cycle(_COLOURS))):
            for statistic, marker in (("maximum", "o"), ("median", "s")):
                curve = curves[statistic]
                solid_line(axes, _shifted(curve, place), list(curve.values()), f"{name}, {statistic}", colour, marker)
            means = [estimate.value for estimate in curves["mean"].values()]
            axes.plot(list(curves["mean"]), means, color=colour, linestyle=":", linewidth=1.2, label=f"{name}, mean")
        for statistic, marker in (("maximum", "D"), ("median", "v")):
            sizes, values = zip(*FIGURE_7[statistic], strict=True)
            paper_line(axes, sizes, values, f"paper, {statistic} (ends)", marker)
        _sizes_axis(axes, [size for curves in policies.values() for size in curves["maximum"]])
        axes.set_ylabel("reward")
        legend_above(axes)
    return drawn.svg


def gold_curves(policies: Mapping[str, Mapping[str, Curve]]) -> Markup:
    """Gold of the response with the highest reward of N, with its reward and the highest gold among the N."""
    with panel("gold of the best of N by reward, beside its reward", width=4.6, height=3.4) as drawn:
        axes = drawn.axes
        for place, ((name, curves), colour) in enumerate(zip(policies.items(), cycle(_COLOURS))):
            gold = curves["gold"]
            solid_line(axes, _shifted(gold, place), list(gold.values()), f"{name}, gold of the best", colour)
            for key, label, line in (("maximum", "its reward", "--"), ("best_gold", "best gold of N", ":")):
                values = [estimate.value for estimate in curves[key].values()]
                axes.plot(list(curves[key]), values, color=colour, linestyle=line, linewidth=1.2, label=f"{name}, {label}")
        _sizes_axis(axes, [size for curves in policies.values() for size in curves["gold"]])
        axes.set_ylabel("gold, reward")
        legend_above(axes)
    return drawn.svg


def temperature_curves(policy: str, curves: Mapping[float, Curve]) -> Markup:
    """Maximum reward of N samples of one policy, one line per temperature from cold to hot (Fig 8)."""
    temperatures = sorted(curves)
    colours = _HEAT(np.linspace(0, 1, max(2, len(temperatures))))
    with panel(f"maximum reward of N samples by temperature, {policy}", width=4.6, height=3.6) as drawn:
        axes = drawn.axes
        for temperature, colour, marker in zip(temperatures, colours, cycle(_MARKERS)):
            curve = curves[temperature]
            values = [estimate.value for estimate in curve.values()]
            axes.plot(
                list(curve), values, color=colour, marker=marker, markersize=3.5, linewidth=1.2, label=f"T {temperature:g}"
            )
        _sizes_axis(axes, [size for curve in curves.values() for size in curve])
        axes.set_ylabel(f"maximum reward, {policy}")
        legend_above(axes)
    return drawn.svg


def temperature_heat(policy: str, curves: Mapping[float, Curve]) -> Markup:
    """Maximum reward by temperature and N, the best temperature of each N in bold; shades compare within a column."""
    temperatures = sorted(curves)
    sizes = list(curves[temperatures[0]])
    values = np.array([[curves[temperature][size].value for size in sizes] for temperature in temperatures])
    low, high = values.min(axis=0), values.max(axis=0)
    shades = (values - low) / np.maximum(high - low, 1e-12)
    with panel(
        f"the best temperature by number of samples, {policy}", width=4.6, height=0.9 + 0.24 * len(temperatures)
    ) as drawn:
        axes = drawn.axes
        axes.grid(visible=False)
        axes.pcolormesh(shades, cmap=_PALE, edgecolors="white", linewidth=1)
        best = values.argmax(axis=0)
        for (row, column), value in np.ndenumerate(values):
            weight = "bold" if row == best[column] else "normal"
            axes.text(column + 0.5, row + 0.5, f"{value:.2f}", ha="center", va="center", color=INK, fontsize=7, weight=weight)
        axes.set_xticks(np.arange(len(sizes)) + 0.5, [str(size) for size in sizes])
        axes.set_yticks(np.arange(len(temperatures)) + 0.5, [f"{temperature:g}" for temperature in temperatures])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(f"N, {policy}")
        axes.set_ylabel("temperature")
    return drawn.svg


def _shifted(curve: Curve, place: int) -> list[float]:
    """The sizes of a curve, moved a little to the right for each earlier curve, so that intervals do not overlap."""
    return [size * 2 ** (_OFFSET * place) for size in curve]


def _sizes_axis(axes: Axes, sizes: Sequence[int]) -> None:
    """N on a logarithmic scale, under each the KL of best-of-N from the policy."""
    last = max(sizes)
    ticks = [size for size in sorted(set(sizes)) if size == last or size * _LABEL_RATIO < last]
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{size}\n{best_of_n_kl(size):.2f}" for size in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("N; below it KL of the best of N from the policy, at most, in nats")
