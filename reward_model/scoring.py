"""Scoring dialogues with a reward model.

``Scorer`` is the protocol that the combined reward, rejection sampling, PPO and evaluation know: messages in, raw logits
out. A scorer owns its tokenizer and chat format, so a policy with another tokenizer can be scored; ids never travel.

A dialogue's score does not depend on what else is in the batch, on its place in it, or on how much padding it gets
(within float32's rounding: 1e-5; exact in float64). ``sigmoid`` of the score is what people are shown.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from policy.shared_prefixes import lay_out, shared_prefixes
from preference_data.messages import Messages
from reward_model.batch import encode_for_scoring
from reward_model.model import RewardModelError, load_reward_model, row_scores


class TooLong(RewardModelError):
    """Dialogues of more tokens than a scorer takes. ``lengths``: the tokens of each, by its position."""

    def __init__(self, lengths: Mapping[int, int], max_length: int):
        position, length = next(iter(lengths.items()))
        others = f" ({len(lengths) - 1} more are too long)" if len(lengths) > 1 else ""
        super().__init__(
            f"dialogue {position} has {length} tokens, and this scorer takes {max_length} at most{others}; "
            "shorten it, or leave it out"
        )
        self.lengths, self.max_length = lengths, max_length


class Scorer(Protocol):
    """Anything that scores dialogues."""

    def score(self, dialogues: Sequence[Messages]) -> Tensor:
        """(N,) float32 raw logits on the CPU, in the order of ``dialogues``."""
        ...


class BatchScorer(ABC):
    """A model with its tokenizer as a Scorer that scores batch by batch; a subclass defines how dialogues are read.

    Args:
        batch_size: rows per forward pass.
        max_length: most tokens of a dialogue.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, max_length: int):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.max_length = max_length

    @abstractmethod
    def encode(self, dialogues: Sequence[Messages]) -> list[list[int]]:
        """The ids of each dialogue. Raises MessagesError."""

    @abstractmethod
    def score_rows(self, rows: list[list[int]]) -> Tensor:
        """(N,) raw logits of rows of ids, on any device."""

    def score(self, dialogues: Sequence[Messages]) -> Tensor:
        """(N,) float32 raw logits on the CPU, in the order of ``dialogues``.

        Raises MessagesError for messages that are no dialogue or that the model's format cannot write, TooLong for those
        longer than ``max_length``, RewardModelError for a score that is not finite.
        """
        scores = torch.empty(len(dialogues), dtype=torch.float32)
        for indices, batch in self.score_batches(dialogues):
            scores[indices] = batch
        return scores

    def score_batches(self, dialogues: Sequence[Messages]) -> Iterator[tuple[list[int], Tensor]]:
        """Score batch by batch: yields (indices into ``dialogues``, their scores).

        Every dialogue is checked and encoded before the first batch is scored. Responses to one prompt go together, for what
        they have in common need be computed only once; the prompt with the longest dialogue comes first, so that what does not
        fit into memory fails at once, and neighbours are of similar length.
        """
        rows = self.encode(dialogues)
        if long := {position: len(row) for position, row in enumerate(rows) if len(row) > self.max_length}:
            raise TooLong(long, self.max_length)
        prompts = [str(dialogue[:-1]) for dialogue in dialogues]
        longest: dict[str, int] = {}
        for prompt, row in zip(prompts, rows, strict=True):
            longest[prompt] = max(longest.get(prompt, 0), len(row))
        order = sorted(range(len(rows)), key=lambda position: (-longest[prompts[position]], prompts[position], rows[position]))
        for start in range(0, len(order), self.batch_size):
            indices = order[start : start + self.batch_size]
            yield indices, self._finite_scores([rows[position] for position in indices])

    @torch.inference_mode()
    def _finite_scores(self, rows: list[list[int]]) -> Tensor:
        scores = self.score_rows(rows).float().cpu()
        if not scores.isfinite().all():
            raise RewardModelError(
                f"{int((~scores.isfinite()).sum())} of {len(rows)} scores are not finite numbers; "
                "the reward model's weights are damaged, or its numbers overflow in this precision"
            )
        return scores


class RewardScorer(BatchScorer):
    """A reward model that was trained here as a Scorer. ``max_length``: the model's context when not given."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 64, max_length: int | None = None
    ):
        super().__init__(model, tokenizer, batch_size, max_length or model.config.max_position_embeddings)

    @classmethod
    def load(cls, path: Path, batch_size: int = 64, dtype: torch.dtype = torch.float32) -> Self:
        """Open a saved reward model. Raises RewardModelError (see ``load_reward_model``)."""
        return cls(*load_reward_model(path, dtype), batch_size)

    def encode(self, dialogues: Sequence[Messages]) -> list[list[int]]:
        return encode_for_scoring(self.tokenizer, dialogues)

    def score_rows(self, rows: list[list[int]]) -> Tensor:
        with shared_prefixes(self.model):
            return row_scores(self.model, lay_out(rows).to(self.model.device))
