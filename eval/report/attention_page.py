"""The page of one dialogue's attention: what policies look at, side by side (paper Figure 10). One self-contained HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.findings.attention import TurnAttention
from eval.findings.attention_figures import AttentionMap, attention_heat
from preference_data.messages import Messages


@dataclass(frozen=True, slots=True)
class AttentionPage:
    """``maps`` by policy; ``rows``: of each policy and turn behind the instruction; ``bin_size``: tokens of a bin at most."""

    source: str
    instruction: str
    messages: Messages
    num_tokens: int
    bin_size: int
    maps: Mapping[str, AttentionMap]
    rows: Sequence[TurnAttention]


def render_attention(page: AttentionPage) -> str:
    """The page as one HTML document; the same page gives the same bytes."""
    templates = FileSystemLoader(Path(__file__).parent, encoding="utf-8")
    environment = Environment(
        loader=templates, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    turns = sorted({row.turn for row in page.rows})
    found = {(row.turn, row.arm): row for row in page.rows}
    return environment.get_template("attention.html").render(
        page=page,
        figures=[attention_heat(name, shown) for name, shown in page.maps.items()],
        turns=turns,
        found=found,
    )
