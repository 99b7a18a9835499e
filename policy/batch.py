"""Sequences to rectangular batches: right padding, masks from lengths, and batches of similar length."""

from collections.abc import Sequence

import numpy as np
import torch

from policy.tokenizer import PAD_ID


def pad(sequences: Sequence[Sequence[float]], value: float = PAD_ID, multiple_of: int = 8) -> torch.Tensor:
    """Right-pad ``sequences`` to (B, L), L rounded up to ``multiple_of`` so that shapes are few."""
    longest = max(len(sequence) for sequence in sequences)
    width = -(-longest // multiple_of) * multiple_of
    return torch.tensor([[*sequence, *[value] * (width - len(sequence))] for sequence in sequences])


def lengths_mask(lengths: Sequence[int], width: int) -> torch.Tensor:
    """(B, width) bool, True on the first ``lengths[b]`` positions of row b."""
    return torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]


def length_grouped_batches(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """Shuffled batches of indices whose members have similar lengths; every index once.

    Sorted by length within windows of 50 shuffled batches, so that batches stay random in content while padding stays low.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(lengths))
    window = 50 * batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), window):
        block = sorted(order[start : start + window].tolist(), key=lambda index: lengths[index])
        batches += [block[i : i + batch_size] for i in range(0, len(block), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]
