"""The keys and values of sampled rows: written in place while a response grows, and kept from one turn to the next."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Cache, DynamicLayer

from preference_data.messages import Messages, messages_id


class RoomyLayer(DynamicLayer):
    """A layer of a cache with room for ``room`` more tokens than it was first given.

    A token more is one column written into the buffer, where transformers' own layer copies all that it holds.
    """

    def __init__(self, room: int):
        super().__init__()
        self.room = room
        self.buffers: tuple[torch.Tensor, ...] = ()  # keys and values (rows, heads, capacity, size)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values (rows, heads, new, size); returns all that are held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        if not self.buffers or stop > self.buffers[0].shape[-2]:
            rows, heads, _, size = key_states.shape
            held = self.buffers
            self.buffers = tuple(key_states.new_empty(rows, heads, stop + self.room, size) for _ in range(2))
            for buffer, old in zip(self.buffers, held, strict=False):
                buffer[:, :, :start] = old[:, :, :start]
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:stop] = new
        return self._show(stop)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.buffers = tuple(buffer.repeat_interleave(repeats, dim=0) for buffer in self.buffers)
        self._show(self.get_seq_length())

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self.buffers = tuple(buffer[indices] for buffer in self.buffers)
        self._show(self.get_seq_length())

    def _show(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = (buffer[:, :, :length] for buffer in self.buffers)
        self.keys, self.values = keys, values
        return keys, values


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


class RoomyCache(Cache):
    """A cache of RoomyLayers, which can start with what was read before."""

    def __init__(self, num_layers: int, room: int):
        self._layers = [RoomyLayer(room) for _ in range(num_layers)]
        super().__init__(layers=[*self._layers])

    def fill(self, prefixes: Sequence[Prefix]) -> torch.Tensor:
        """Put one prefix a row into the empty cache, left-padded; returns the mask (rows, columns) of what is no padding."""
        lengths = torch.tensor([len(prefix.ids) for prefix in prefixes])
        width = int(lengths.max())
        if width:
            like = next(prefix for prefix in prefixes if prefix.ids).layers
            for index, layer in enumerate(self._layers):
                filled = [states.new_zeros(len(prefixes), states.shape[0], width, states.shape[2]) for states in like[index]]
                for row, prefix in enumerate(prefixes):
                    if prefix.ids:
                        for states, held in zip(filled, prefix.layers[index], strict=True):
                            states[row, :, width - len(prefix.ids) :] = held
                layer.update(*filled)
        return torch.arange(width)[None, :] >= (width - lengths)[:, None]

    def columns_of(self, row: int, columns: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Copies of each layer's keys and values (heads, columns, size) of a row."""
        return [(keys[row][:, columns], values[row][:, columns]) for keys, values in (layer.buffers for layer in self._layers)]


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

    def keep(self, prompt: Messages, ids: list[int], cache: RoomyCache, row: int, mask: torch.Tensor) -> None:
        """Hold what ``row`` of ``cache`` knows of ``ids``; ``mask`` (columns,) says which columns are the row's own."""
        key = messages_id(prompt)
        if key in self._held or self._num_tokens + len(ids) > self.max_tokens:  # equal dialogues need holding once
            return
        columns = mask.nonzero().squeeze(-1)[: len(ids)]
        self._held[key] = Prefix(ids, cache.columns_of(row, columns))
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
        self._num_tokens = sum(len(each) for each in ids.values())
