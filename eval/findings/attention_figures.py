"""The figures of attention, after the paper's Figure 10. Each function turns numbers into one SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from eval.findings.attention import RIGHT_AFTER, WITH, WITHOUT, TurnAttention, attention_mean
from eval.intervals import FloatArray
from eval.report.figure import BLUE, GREEN, GREY, INK, ORANGE, RED, legend_above, panel, solid_line

_SHADES, _TICKS = 10, 8
_SHORT_TITLE = 24  # characters of a title that fit over the scale; a longer one extends to its left
_COLOURS = LinearSegmentedColormap.from_list("attention", ("#f1f5f9", "#a9cce6", BLUE, "#06263d"))
_STYLES = {WITHOUT: (RED, "s"), RIGHT_AFTER: (GREEN, "^"), WITH: (BLUE, "o")}


@dataclass(frozen=True, eq=False, slots=True)
class AttentionMap:
    """One dialogue's attention in M bins of neighbouring tokens: ``strongest`` (M, M) in [0, 1], rows attend to columns.

    ``turns``: the first bin of each turn; ``instruction``: its first bin, and the one after its last.
    """

    strongest: FloatArray
    turns: tuple[int, ...]
    instruction: tuple[int, int]


def attention_heat(title: str, attention_map: AttentionMap) -> Markup:
    """The lower triangle of a map, the columns of the instruction marked. The scale is always 0 to 1, so maps compare."""
    num_bins = len(attention_map.strongest)
    with panel(f"maximum attention over layers and heads, {title}", width=4.1, height=3.95) as drawn:
        axes = drawn.axes
        axes.grid(visible=False)
        for shade in range(_SHADES):
            cells = _at_least(attention_map.strongest, shade / _SHADES)
            axes.add_patch(PathPatch(cells, facecolor=_COLOURS((shade + 0.5) / _SHADES), linewidth=0))
        first, stop = attention_map.instruction
        axes.plot([first, first, stop, stop], [first, -0.6, -0.6, first], color=ORANGE, linewidth=1.4, clip_on=False)
        for column in (first, stop):
            axes.plot([column, column], [column, num_bins], color=ORANGE, linewidth=0.7)
        axes.text(stop + 0.6, -0.4, "instruction", color=INK, va="center", fontsize=7.5)
        _draw_scale(axes, title)
        _label_turns(axes, attention_map.turns, num_bins)
    return drawn.svg


def _at_least(values: FloatArray, minimum: float) -> Path:
    """The cells on and below the diagonal with at least that value, neighbours in a row drawn as one rectangle."""
    vertices: list[tuple[float, float]] = []
    for row in range(len(values)):
        inside = np.concatenate(([False], values[row, : row + 1] >= minimum, [False]))
        starts, stops = np.flatnonzero(~inside[:-1] & inside[1:]), np.flatnonzero(inside[:-1] & ~inside[1:])
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            vertices += [(start, row), (stop, row), (stop, row + 1), (start, row + 1), (start, row)]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * (len(vertices) // 5)
    return Path(np.array(vertices, dtype=np.float64).reshape(-1, 2), codes)


def _draw_scale(axes: Axes, title: str) -> None:
    """Title and colour scale, in the half that a causal model leaves empty."""
    inset = axes.inset_axes((0.56, 0.80, 0.40, 0.035))
    inset.set_title(title, fontsize=8.5, fontweight="bold", loc="left" if len(title) <= _SHORT_TITLE else "right")
    for shade in range(_SHADES):
        inset.axvspan(shade / _SHADES, 1, color=_COLOURS((shade + 0.5) / _SHADES), linewidth=0)
    inset.set(xlim=(0, 1), yticks=[], xlabel="maximum attention")
    inset.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    inset.grid(visible=False)
    inset.spines[:].set_visible(False)
    inset.tick_params(length=0, labelsize=7)


def _label_turns(axes: Axes, turns: Sequence[int], num_bins: int) -> None:
    """Label turns where they begin, on both axes: all, or where they are many the first and every second, fifth, tenth ..."""
    step = next(step for power in (1, 10, 100, 1000) for step in (power, 2 * power, 5 * power) if len(turns) <= _TICKS * step)
    labelled = [number for number in range(1, len(turns) + 1) if number == 1 or number % step == 0]
    positions, labels = [turns[number - 1] for number in labelled], [str(number) for number in labelled]
    axes.set_xticks(positions, labels)
    axes.set_yticks(positions, labels)
    axes.set(xlim=(0, num_bins), ylim=(num_bins, -1), xlabel="attended to: turn", ylabel="attending: turn")
    axes.spines["left"].set_color(GREY)


def attention_by_turn(rows: Sequence[TurnAttention]) -> Markup:
    """Maximum attention to the instruction by turn, averaged over dialogues, one line per arm."""
    arms = list(dict.fromkeys(row.arm for row in rows))
    with panel("maximum attention to the instruction by turn, mean over dialogues", width=4.6, height=3.0) as drawn:
        axes = drawn.axes
        turns = sorted({row.turn for row in rows})
        for arm in arms:
            colour, marker = _STYLES[arm]
            solid_line(axes, turns, [attention_mean(rows, arm, turn) for turn in turns], f"{arm} GAtt", colour, marker)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("turn")
        axes.xaxis.set_major_locator(MaxNLocator(_TICKS, integer=True))
        axes.set_ylabel("maximum attention")
        legend_above(axes)
    return drawn.svg
