"""Helpers for the tests of the report: parsers that read its pages, and a bare run to put in."""

import re
from html.parser import HTMLParser

from eval.intervals import Estimate, rate
from eval.report.data import RunFacts

BARE = RunFacts(recipe="micro", seed=3, seconds=61.0, peak_rss_mb=512.0)
SECTIONS = (
    "findings", "results", "progress", "safety", "reward", "scores", "rejection", "ppo", "gatt", "annotators",
    "studies", "dialogues", "time", "run",
)  # fmt: skip


def share(value: float, n: int) -> Estimate:
    return rate([True] * round(value * n) + [False] * (n - round(value * n)))


def sections(html: str) -> list[str]:
    ids = Page(html).ids
    return [name for name in SECTIONS if name in ids]


def links(html: str) -> list[str]:
    """Where the links at the top lead."""
    return re.findall(r'<a href="#(\w+)"', html[html.index("<nav") : html.index("</nav>")])


def section(html: str, name: str) -> str:
    start = html.index(f'<section id="{name}"')
    return html[start : html.index("</section>", start)]


class Page(HTMLParser):
    """Ids, links and tags of a page; fails on tags closed in the wrong order."""

    def __init__(self, html: str):
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href") and tag != "a"]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "br"):
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


class Cells(HTMLParser):
    """The rows of every table of a piece of a page, as lists of words without markup."""

    def __init__(self, html: str):
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data.strip()}".strip()
