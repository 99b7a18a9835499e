"""One small figure of the report: its style, its colours, and how it becomes inline SVG.

Same data, same bytes: ids come from a fixed salt, and no date is written. Text stays text, so that it can be selected and
uses the typeface of the page. Colours are Okabe and Ito's, which most colour-blind readers can distinguish; markers and dashes
repeat what they say. Our lines are solid and filled, the paper's grey, hollow and dashed.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.container import Container, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from eval.intervals import Estimate

BLUE, ORANGE, GREEN, RED, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
INK, GREY, RULE = "#1f2328", "#757b84", "#e3e5e8"
_SVG, _SHAPES = "{http://www.w3.org/2000/svg}", {"svg", "g", "defs", "path", "use", "clipPath", "rect", "text", "tspan"}
PAPER_MARK: dict[str, Any] = {"color": GREY, "markerfacecolor": "white"}
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "llama-rlhf",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a policy may be named with a dollar sign
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
}


@dataclass
class Panel:
    """The axes to draw on, and the SVG once the drawing is done."""

    axes: Axes
    svg: Markup = field(default_factory=Markup)


@contextmanager
def panel(description: str, width: float = 4.1, height: float = 2.9) -> Iterator[Panel]:
    """A figure of ``width`` x ``height`` inches. On exit its ``svg`` is filled; screen readers read ``description``."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        empty_panel = Panel(figure.add_subplot())
        yield empty_panel
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    empty_panel.svg = _inline(buffer.getvalue(), description)


def _inline(svg: str, description: str) -> Markup:
    """matplotlib's SVG, ready for a page with other figures: no prologue or metadata, no fixed size, unique ids."""
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    prefix = re.sub(r"\W+", "-", description)
    svg = re.sub(r'((?: id=")|(?:href="#)|(?:url\(#))', rf"\1{prefix}-", svg)
    return Markup(svg.replace("<svg ", Markup('<svg role="img" aria-label="{}" ').format(description), 1).strip())


def drawn(svg: str) -> Markup:
    """A figure of ``panel`` that was read from a file. Raises ValueError for one that holds more than shapes and text.

    A registry may come from someone else, and an SVG in a page can run code, fetch files and link to other pages.
    """
    try:
        elements = list(ElementTree.fromstring(svg).iter())
    except ElementTree.ParseError as error:
        raise ValueError(f"a figure is not an SVG ({error}); run its study again") from error
    for element in elements:
        links = [value for name, value in element.attrib.items() if name.endswith("href") and not value.startswith("#")]
        links += [value for value in element.attrib.values() if "url(" in value.replace("url(#", "")]
        if element.tag.removeprefix(_SVG) not in _SHAPES or links or any(name.startswith("on") for name in element.attrib):
            raise ValueError(
                f"a figure holds {element.tag.removeprefix(_SVG)!r} with {dict(element.attrib)}, and only shapes and text are "
                "allowed; run its study again"
            )
    return Markup(svg)


def described(svg: str) -> str:
    """The description that ``panel`` got, with a capital letter."""
    description = ElementTree.fromstring(svg).get("aria-label", "")
    return description[:1].upper() + description[1:]


def solid_line(
    axes: Axes, positions: Sequence[float], estimates: Sequence[Estimate], label: str, colour: str, marker: str = "o"
) -> None:
    """One of our lines, with its intervals."""
    values = [estimate.value for estimate in estimates]
    below = [max(0.0, estimate.value - estimate.low) for estimate in estimates]
    above = [max(0.0, estimate.high - estimate.value) for estimate in estimates]
    style: dict[str, Any] = {"color": colour, "marker": marker, "capsize": 2, "elinewidth": 0.9, "capthick": 0.9}
    axes.errorbar(positions, values, yerr=[below, above], label=label, **style)


def paper_line(axes: Axes, positions: Sequence[float], values: Sequence[float], label: str, marker: str = "D") -> None:
    """One of the paper's lines; the paper prints no intervals."""
    axes.plot(positions, values, label=label, marker=marker, linestyle=(0, (4, 2)), linewidth=1, **PAPER_MARK)


def legend_above(axes: Axes) -> None:
    """The legend in two columns above the panel, where it hides no point; our lines first."""
    handle_of_label = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    # our lines have intervals or are bars, and matplotlib holds those in containers
    ordered = sorted(handle_of_label.items(), key=lambda item: not isinstance(item[1], Container))
    handles = [handle[0] if isinstance(handle, ErrorbarContainer) else handle for _, handle in ordered]
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "borderaxespad": 0.2}
    axes.legend(handles, [label for label, _ in ordered], ncols=2, columnspacing=1.4, handlelength=2.2, **place)


def percent_axis(axes: Axes) -> None:
    """The y axis holds shares; write them in percent."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 6):g} %"))
