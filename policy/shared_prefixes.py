"""Rows that begin alike, computed once where they do.

In a causal model what is computed at a token depends on that token and those before it alone. Rows with a common beginning
(the two responses of a comparison, k samples of one prompt, a response that stands in several comparisons) therefore have all
of it in common there. Here each distinct beginning of a batch stands once in one long line of tokens. Embeddings, projections,
feed-forward layers and norms are computed on that line; for attention alone the rows are put together again, right-padded.
The numbers are those of the rows computed one by one, up to rounding, and nothing but attention sees padding.

    rows    A B C D        line        A B C D  E F
            A B E F        positions   0 1 2 3  2 3
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_NAME = "shared_prefixes"


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """N rows of at most L tokens, written as a line of M tokens."""

    ids: Tensor  # (M,)
    positions: Tensor  # (M,) of each token in its rows, from 0
    rows: Tensor  # (N, L) where in the line each token of a row stands; 0 where padded
    cells: Tensor  # (M,) the other way: where in ``rows``, flattened, a row holds this token
    ends: Tensor  # (N,) where in the line the last token of each row stands

    def to(self, device: torch.device) -> "Layout":
        return Layout(*(getattr(self, each.name).to(device) for each in fields(self)))


def lay_out(rows: Sequence[Sequence[int]]) -> Layout:
    """The layout of rows of token ids, each with one token or more, on the CPU.

    Sorted, rows that begin alike are neighbours, and each has its longest beginning in common with the one before it.
    """
    width = -(-max(len(row) for row in rows) // 8) * 8
    ids: list[int] = []
    positions: list[int] = []
    cells: list[int] = []
    places = torch.zeros(len(rows), width, dtype=torch.long)
    ends = torch.zeros(len(rows), dtype=torch.long)
    before: Sequence[int] = ()
    line: list[int] = []
    for number in sorted(range(len(rows)), key=lambda number: list(rows[number])):
        row = rows[number]
        shared = _common(before, row)
        line = [*line[:shared], *range(len(ids), len(ids) + len(row) - shared)]
        ids += row[shared:]
        positions += range(shared, len(row))
        cells += range(number * width + shared, number * width + len(row))
        places[number, : len(row)] = torch.tensor(line)
        ends[number] = line[-1]
        before = row
    return Layout(torch.tensor(ids), torch.tensor(positions), places, torch.tensor(cells), ends)


def last_hidden(model: PreTrainedModel, layout: Layout) -> Tensor:
    """(N, D) last hidden states of the trunk of ``model`` at the last token of each row.

    Must be called, and its gradient computed, inside ``shared_prefixes(model)``.
    """
    if model.config._attn_implementation != _NAME:
        raise RuntimeError("a layout is computed inside `with shared_prefixes(model)`, which this call is not")
    trunk = model.base_model
    hidden = trunk(
        input_ids=layout.ids[None], position_ids=layout.positions[None], use_cache=False, rows=layout.rows, cells=layout.cells
    ).last_hidden_state
    return hidden[0, layout.ends]


@contextmanager
def shared_prefixes(model: PreTrainedModel) -> Iterator[None]:
    """Within, the attention of ``model`` reads layouts, and nothing else. It lasts over the backward pass too: with gradient
    checkpointing the layers run again there.
    """
    usual = model.config._attn_implementation
    model.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    rows: Tensor,
    cells: Tensor,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each row. Queries, keys and values: (1, heads, M, size). Returns (1, M, heads, size)."""

    def of_rows(line: Tensor) -> Tensor:
        heads, tokens, size = line.shape[1:]
        found = line[0].transpose(0, 1).reshape(tokens, heads * size).index_select(0, rows.flatten())
        return found.view(*rows.shape, heads, size).transpose(1, 2)

    attend = ALL_ATTENTION_FUNCTIONS["sdpa"]
    out, _ = attend(module, of_rows(query), of_rows(key), of_rows(value), None, is_causal=True, **options)
    heads, size = out.shape[2:]
    return out.reshape(-1, heads * size).index_select(0, cells).view(1, -1, heads, size), None


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with alike."""
    for position, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return position
    return min(len(one), len(other))


AttentionInterface.register(_NAME, _attend)
