"""The keys and values of sampled rows: a prompt's once for all its responses, a response's as it grows; and those kept from one
turn of a dialogue to the next.

Responses to one prompt attend to the same keys and values there. They are stored and read once a prompt: at each step the
queries of its responses are gathered into one matrix product. A response's own keys and values are written in place behind
those of its earlier tokens. One softmax spans both, so the numbers are those of rows that carry their prompt along, up to
rounding.
"""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, DynamicLayer, PreTrainedModel

from policy.attention import attending_by
from preference_data.messages import Messages, messages_id

_NAME = "shared_prompts"
_ROOM = 64  # columns by which the room for responses grows, at least
# Rows leave a batch when no more than this share of it is still needed: leaving copies what stays.
COMPACTED_AT = 0.7


@dataclass(frozen=True, slots=True)
class Prefix:
    """What a model has read of one row: n ids, and each layer's keys and values (heads, n, size)."""

    ids: list[int]
    layers: list[tuple[torch.Tensor, torch.Tensor]]

    def shared_with(self, ids: list[int]) -> "Prefix":
        """The part of this that ``ids`` begins with, less its last id, which is always left to read."""
        n = 0
        while n < min(len(self.ids), len(ids) - 1) and self.ids[n] == ids[n]:
            n += 1
        return Prefix(self.ids[:n], [(keys[:, :n], values[:, :n]) for keys, values in self.layers])


class PromptCache(Cache):
    """What a model reads of prompts, on top of what it had read of them before."""

    def __init__(self, num_layers: int):
        self.states = [DynamicLayer() for _ in range(num_layers)]
        super().__init__(layers=[*self.states])

    def fill(self, prefixes: Sequence[Prefix]) -> Tensor:
        """Put one prefix a row into the empty cache, left-padded; returns the mask (rows, columns) of what is no padding."""
        lengths = torch.tensor([len(prefix.ids) for prefix in prefixes])
        width = int(lengths.max())
        if width:
            like = next(prefix for prefix in prefixes if prefix.ids).layers
            for index, layer in enumerate(self.states):
                filled = [states.new_zeros(len(prefixes), states.shape[0], width, states.shape[2]) for states in like[index]]
                for row, prefix in enumerate(prefixes):
                    if prefix.ids:
                        for states, held in zip(filled, prefix.layers[index], strict=True):
                            states[row, :, width - len(prefix.ids) :] = held
                layer.update(*filled)
        return torch.arange(width)[None, :] >= (width - lengths)[:, None]


class ResponseLayer(DynamicLayer):
    """A layer of the responses' own keys and values: a token more is one column written into a buffer, where transformers'
    layer copies all that it holds. There is never room for more than ``longest`` tokens."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        self.longest = longest
        self.buffers: tuple[Tensor, ...] = ()  # keys and values (rows, heads, capacity, size)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values (rows, heads, new, size); returns all that are held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        if not self.buffers or stop > self.buffers[0].shape[-2]:
            self._copy(slice(None), key_states, start, max(stop, min(stop + max(_ROOM, start // 2), self.longest)))
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:stop] = new
        self.keys, self.values = (buffer[:, :, :stop] for buffer in self.buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        if length := self.get_seq_length():
            self._copy(indices, self.buffers[0], length, self.buffers[0].shape[-2])
            self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)

    def _copy(self, rows: Tensor | slice, like: Tensor, length: int, capacity: int) -> None:
        """New buffers of ``capacity`` columns, with the first ``length`` of the chosen rows in them."""
        heads, size = like.shape[1], like.shape[3]
        held = [buffer[:, :, :length][rows] for buffer in self.buffers]
        count = len(held[0]) if held else len(like)
        self.buffers = tuple(like.new_empty(count, heads, capacity, size) for _ in range(2))
        for buffer, old in zip(self.buffers, held, strict=False):
            buffer[:, :, :length] = old


class ResponseCache(Cache):
    """The responses' own keys and values, nothing at first, of ``longest`` tokens at most."""

    def __init__(self, num_layers: int, longest: int):
        self.states = [ResponseLayer(longest) for _ in range(num_layers)]
        super().__init__(layers=[*self.states])


class SharedPrompts:
    """The keys and values of P prompts, and which of the R rows of the batch answers which.

    ``mask``: (P, S), False at padding. ``of_rows``: (R,) the prompt of each row.
    """

    def __init__(self, cache: PromptCache, mask: Tensor, of_rows: Tensor):
        self.layers: list[tuple[Tensor, Tensor]] = [_held(layer) for layer in cache.states]
        self.mask, self.of_rows = mask, of_rows
        self._arrange()

    def select(self, rows: Tensor) -> None:
        """Only ``rows`` of the batch stay. Prompts that none of them answers are dropped when they are many."""
        self.of_rows = self.of_rows[rows]
        answered, places = self.of_rows.unique(return_inverse=True)
        if len(answered) <= COMPACTED_AT * len(self.mask):
            self.mask, self.of_rows = self.mask[answered], places
            self.layers = [(keys[answered], values[answered]) for keys, values in self.layers]
        self._arrange()

    def _arrange(self) -> None:
        """The rows as a table (P, J) of prompts and their answers, its empty cells holding any row."""
        counts = torch.bincount(self.of_rows, minlength=len(self.mask))
        order = self.of_rows.argsort(stable=True)
        first = counts.cumsum(0) - counts
        column = torch.empty_like(order)
        column[order] = torch.arange(len(order), device=order.device) - first[self.of_rows[order]]
        width = int(counts.max())
        self._cell = self.of_rows * width + column  # (R,) of each row in the table
        self._table = order.new_zeros(len(self.mask) * width).index_put(
            (self._cell,), torch.arange(len(order), device=order.device)
        )
        self._bias = torch.zeros(self.mask.shape, device=self.mask.device).masked_fill(~self.mask, -torch.inf)[:, None, None]

    def scores(self, query: Tensor, layer: int) -> Tensor:
        """(R, heads, groups, S) of queries (R, heads, groups, size) with the keys of each row's prompt."""
        keys = self.layers[layer][0]
        return self._of_rows(self._by_prompt(query) @ keys.transpose(2, 3) + self._bias.to(keys.dtype), query.shape)

    def mixed(self, weights: Tensor, layer: int) -> Tensor:
        """(R, heads, groups, size): values of each row's prompt, weighted by (R, heads, groups, S)."""
        return self._of_rows(self._by_prompt(weights) @ self.layers[layer][1], weights.shape)

    def with_response(self, row: int, responses: ResponseCache, count: int) -> list[tuple[Tensor, Tensor]]:
        """Copies of each layer's keys and values (heads, count, size): ``row``'s prompt, then its response."""
        prompt = self.of_rows[row]
        columns = self.mask[prompt]
        layers = []
        for read, layer in zip(self.layers, responses.states, strict=True):
            parts = [[states[prompt][:, columns]] for states in read]
            if layer.is_initialized:
                parts = [[*part, states[row]] for part, states in zip(parts, _held(layer), strict=True)]
            keys, values = (torch.cat(part, dim=1)[:, :count] for part in parts)
            layers.append((keys, values))
        return layers

    def _by_prompt(self, rows: Tensor) -> Tensor:
        """(R, heads, groups, X) as (P, heads, J * groups, X)."""
        heads, groups, size = rows.shape[1:]
        table = rows[self._table].view(len(self.mask), -1, heads, groups, size)
        return table.transpose(1, 2).reshape(len(self.mask), heads, -1, size)

    def _of_rows(self, table: Tensor, shape: torch.Size) -> Tensor:
        """The other way, for rows of ``shape``; the last dimension is that of ``table``."""
        heads, groups = shape[1:3]
        cells = table.view(len(self.mask), heads, -1, groups, table.shape[-1]).transpose(1, 2)
        return cells.reshape(-1, heads, groups, table.shape[-1])[self._cell]


def _held(layer: DynamicLayer) -> tuple[Tensor, Tensor]:
    assert layer.keys is not None and layer.values is not None, "nothing was read yet"
    return layer.keys, layer.values


def shared_prompts(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Within, ``model`` reads one token a row: attention spans the row's prompt (``prompts=`` in the call) and its cache.

    Raises ValueError for a model that is no Llama: another may attend to less than all that came before.
    """
    return attending_by(model, _NAME, "responses are sampled from")


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    scaling: float,
    prompts: SharedPrompts,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """Queries (R, heads * groups, 1, size), keys and values (R, heads, T, size) of the responses. Returns (R, 1, ..., size)."""
    layer = module.layer_idx
    assert isinstance(layer, int)
    rows, heads, _, size = key.shape
    query = query.view(rows, heads, -1, size) * scaling
    shared = prompts.scores(query, layer)
    scores = torch.cat([shared, query @ key.transpose(2, 3)], dim=-1)
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
    of_prompt, own = nn.functional.dropout(weights, dropout).split([shared.shape[-1], key.shape[2]], dim=-1)
    mixed = own @ value + prompts.mixed(of_prompt, layer)
    return mixed.view(rows, 1, -1, size), None


class Prefixes:
    """What was read of dialogues, kept for their next turn: ``max_tokens`` at most; what finds no room is not kept."""

    def __init__(self, max_tokens: int):
        self.max_tokens = max_tokens
        self._held: dict[str, Prefix] = {}
        self._num_tokens = 0

    def take(self, prompt: Messages, ids: list[int]) -> Prefix:
        """What was read of the turns before the last of ``prompt``, which encodes to ``ids``. It is not held any more."""
        prefix = self._held.pop(messages_id(prompt[:-2]), Prefix([], []))
        self._num_tokens -= len(prefix.ids)
        return prefix.shared_with(ids)

    def keep(self, prompt: Messages, ids: list[int], row: int, shared: SharedPrompts, responses: ResponseCache) -> None:
        """Hold what is known of ``ids``: the prompt of ``row`` and the response to it."""
        key = messages_id(prompt)
        if key in self._held or self._num_tokens + len(ids) > self.max_tokens:  # equal dialogues need holding once
            return
        self._held[key] = Prefix(ids, shared.with_response(row, responses, len(ids)))
        self._num_tokens += len(ids)

    def save(self, folder: Path) -> None:
        """Write all that is held into ``folder``: a file for each layer, so that no more than one is copied at a time."""
        (folder / "prefixes.json").write_text(json.dumps({key: prefix.ids for key, prefix in self._held.items()}))
        for layer in range(max((len(prefix.layers) for prefix in self._held.values()), default=0)):
            states = {key: prefix.layers[layer] for key, prefix in self._held.items()}
            flat = {f"{key}/{part}": tensor.contiguous() for key, pair in states.items() for part, tensor in enumerate(pair)}
            save_file(flat, folder / f"prefixes-{layer}.safetensors")

    def load(self, folder: Path, device: torch.device) -> None:
        """Hold on ``device`` what ``save`` wrote into ``folder``, and nothing else."""
        ids: dict[str, list[int]] = json.loads((folder / "prefixes.json").read_text())
        layers: list[dict[str, torch.Tensor]] = []
        while (path := folder / f"prefixes-{len(layers)}.safetensors").is_file():
            layers.append(load_file(path, device=str(device)))
        self._held = {key: Prefix(ids[key], [(layer[f"{key}/0"], layer[f"{key}/1"]) for layer in layers]) for key in ids}
        self._num_tokens = sum(len(row) for row in ids.values())


AttentionInterface.register(_NAME, _attend)
