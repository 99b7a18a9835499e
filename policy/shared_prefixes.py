"""Rows that begin alike, computed once where they do.

In a causal model what is computed at a token depends on that token and those before it alone. Rows with a common beginning
(the two responses of a comparison, k samples of one prompt, a response that stands in several comparisons) therefore have all
of it in common there. Here each distinct beginning of a batch stands once in one long line of tokens. Embeddings, projections,
feed-forward layers and norms are computed on that line; for attention alone the rows are put together again, in groups of
similar length, right-padded. The numbers are those of the rows computed one by one, up to rounding (but for dropout, which a
common beginning has in common), and nothing but attention sees padding.

    rows    A B C D        line        A B C D  E F
            A B E F        positions   0 1 2 3  2 3
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from policy.attention import attending_by
from policy.batch import pad

_NAME = "shared_prefixes"
_TOGETHER = 16  # rows of a group in attention: enough to keep a processor busy, few enough to be of similar length


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """N rows, written as a line of M tokens."""

    ids: Tensor  # (M,)
    positions: Tensor  # (M,) of each token in its rows, from 0
    groups: tuple[Tensor, ...]  # each (n, L), n rows of at most L tokens: where in the line each token stands, 0 where padded
    cells: Tensor  # (M,) the other way: where in the groups, flattened one after the other, a row holds this token
    ends: Tensor  # (N,) where in the line the last token of each row stands

    @property
    def num_positions(self) -> int:
        """Positions of attention, padding included."""
        return sum(group.numel() for group in self.groups)

    def to(self, device: torch.device) -> "Layout":
        groups = tuple(group.to(device) for group in self.groups)
        ids, positions, cells, ends = (part.to(device) for part in (self.ids, self.positions, self.cells, self.ends))
        return Layout(ids, positions, groups, cells, ends)


def lay_out(rows: Sequence[Sequence[int]]) -> Layout:
    """The layout of rows of token ids, each with one token or more, on the CPU.

    Sorted, rows that begin alike are neighbours, and each has its longest beginning in common with the one before it.
    """
    ids: list[int] = []
    positions: list[int] = []
    holders: list[tuple[int, int]] = []  # (row, place in it) of each token of the line
    lines: list[list[int]] = [[] for _ in rows]
    before: Sequence[int] = ()
    line: list[int] = []
    for number in sorted(range(len(rows)), key=lambda number: list(rows[number])):
        row = rows[number]
        shared = _common(before, row)
        line = [*line[:shared], *range(len(ids), len(ids) + len(row) - shared)]
        ids += row[shared:]
        positions += range(shared, len(row))
        holders += ((number, place) for place in range(shared, len(row)))
        lines[number], before = line, row
    groups, starts = _groups(lines)
    cells = [starts[number] + place for number, place in holders]
    ends = [line[-1] for line in lines]
    return Layout(torch.tensor(ids), torch.tensor(positions), groups, torch.tensor(cells), torch.tensor(ends))


def _groups(lines: Sequence[list[int]]) -> tuple[tuple[Tensor, ...], list[int]]:
    """Rows in groups of similar length, and where each row begins in the groups, flattened one after the other."""
    order = sorted(range(len(lines)), key=lambda number: -len(lines[number]))
    groups: list[Tensor] = []
    starts, filled = [0] * len(lines), 0
    for first in range(0, len(order), _TOGETHER):
        members = order[first : first + _TOGETHER]
        groups.append(pad([lines[number] for number in members]))
        for number in members:
            starts[number] = filled
            filled += groups[-1].shape[1]
    return tuple(groups), starts


def last_hidden(model: PreTrainedModel, layout: Layout) -> Tensor:
    """(N, D) last hidden states of the trunk of ``model`` at the last token of each row.

    Must be called, and its gradient computed, inside ``shared_prefixes(model)``.
    """
    if model.config._attn_implementation != _NAME:
        raise RuntimeError("a layout is computed inside `with shared_prefixes(model)`, which this call is not")
    trunk = model.base_model
    hidden = trunk(
        input_ids=layout.ids[None],
        position_ids=layout.positions[None],
        use_cache=False,
        groups=layout.groups,
        cells=layout.cells,
    ).last_hidden_state
    return hidden[0, layout.ends]


def shared_prefixes(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Within, the attention of ``model`` reads layouts, and nothing else. It lasts over the backward pass too: with gradient
    checkpointing the layers run again there.

    Raises ValueError for a model that is no Llama: another may attend to less than all that came before.
    """
    return attending_by(model, _NAME, "rows are computed together for")


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    groups: Sequence[Tensor],
    cells: Tensor,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each row. Queries, keys and values: (1, heads, M, size). Returns (1, M, heads, size)."""

    def of_group(line: Tensor, group: Tensor) -> Tensor:
        heads, tokens, size = line.shape[1:]
        states = line[0].transpose(0, 1).reshape(tokens, heads * size).index_select(0, group.flatten())
        return states.view(*group.shape, heads, size).transpose(1, 2)

    outputs = []
    for group in groups:
        states = (of_group(line, group) for line in (query, key, value))
        out, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](module, *states, None, is_causal=True, **options)
        heads, size = out.shape[2:]
        outputs.append(out.reshape(-1, heads * size))
    return torch.cat(outputs).index_select(0, cells).view(1, -1, heads, size), None


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with alike."""
    for position, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return position
    return min(len(one), len(other))


AttentionInterface.register(_NAME, _attend)
