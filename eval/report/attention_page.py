"""The attention page: what policies attend to in one dialogue, side by side (paper Figure 10). One self-contained HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.findings.attention import TurnAttention
from eval.findings.attention_figures import AttentionMap, attention_heat
from eval.report.templates import environment
from preference_data.messages import Messages


@dataclass(frozen=True, slots=True)
class AttentionPage:
    """``maps`` by policy; ``rows``: one for each policy and turn after the instruction; ``bin_size``: most tokens in a bin."""

    source: str
    instruction: str
    messages: Messages
    num_tokens: int
    bin_size: int
    maps: Mapping[str, AttentionMap]
    rows: Sequence[TurnAttention]


def render_attention(page: AttentionPage) -> str:
    """The page as one HTML document; the same page gives the same bytes."""
    return (
        environment()
        .get_template("attention.html")
        .render(
            page=page,
            figures=[attention_heat(policy, attention_map) for policy, attention_map in page.maps.items()],
            turns=sorted({row.turn for row in page.rows}),
            rows={(row.turn, row.arm): row for row in page.rows},
        )
    )
