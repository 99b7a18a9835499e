"""The figures of the report: what they draw, and which SVG is allowed in."""

import re
from dataclasses import replace

import pytest
from report_pages import share

from eval.report.data import (
    VersionRow,
)
from eval.report.figure import described, drawn
from eval.report.plots import accuracy_plot, versions_plot


def test_intervals_of_equal_lines_do_not_overlap(report_data):
    table = report_data.accuracy[0]
    svg = str(accuracy_plot([replace(table, model=model) for model in ("helpfulness", "safety")], table.test_set))
    upright = [x for x, other in re.findall(r'd="M (\S+) \S+ \nL (\S+) \S+ \n"', svg) if x == other]
    assert len(upright) == len(set(upright)) >= 8, "two models at four ratings"


def test_a_marker_at_zero_is_not_cut_off():
    svg = str(versions_plot([VersionRow("SFT"), VersionRow("V1")], {"unsafe": [share(0.0, 20)] * 2}, "rate"))
    top, height = map(float, re.findall(r'<rect [^>]*y="(\S+)"[^>]*height="(\S+)"', svg)[0])
    lowest = max(float(y) for y in re.findall(r'<use [^>]*y="(\S+)" style="fill: #0072b2', svg))
    assert top + height - lowest > 3, "points, about the radius of a mark"


@pytest.mark.parametrize(
    ("drawing", "refused"),
    [
        ("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "'script'"),
        ("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "onload"),
        ("<svg xmlns='http://www.w3.org/2000/svg'><use href='https://elsewhere/x.svg'/></svg>", "elsewhere"),
        ("<svg xmlns='http://www.w3.org/2000/svg'><path style='fill: url(https://elsewhere)'/></svg>", "elsewhere"),
        ("<svg xmlns='http://www.w3.org/2000/svg'><foreignObject/></svg>", "'foreignObject'"),
        ("<html/>", "'html'"),
        ("a picture", "is not an SVG"),
    ],
)
def test_a_figure_that_is_more_than_a_drawing_is_refused(drawing, refused):
    with pytest.raises(ValueError, match=refused):
        drawn(drawing)


def test_figures_are_inserted_as_they_were_drawn(report_data):
    svg = report_data.studies[0].figures["scores"]
    assert drawn(svg) == svg and hasattr(drawn(svg), "__html__")
    assert described(svg) == "Distribution of reward scores by arm"
