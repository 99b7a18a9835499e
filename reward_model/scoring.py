"""Scoring dialogues with a reward model.

``Scorer`` is the protocol that the combined reward, rejection sampling, PPO and evaluation know: messages in, raw logits
out. A scorer owns its tokenizer and chat format, so a policy with another tokenizer can be scored; ids never travel.

A dialogue's score does not depend on what else is in the batch, on its place in it, or on how much padding it gets
(within float32's rounding: 1e-5; exact in float64). ``sigmoid`` of the score is what people are shown.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from policy.batch import pad
from preference_data.messages import Messages, MessagesError
from reward_model.batch import encode_for_scoring
from reward_model.model import RewardModelError, last_token_scores, load_reward_model


class TooLong(RewardModelError):
    """Dialogues of more tokens than a scorer takes. ``lengths``: the tokens of each, by its position among those given."""

    def __init__(self, lengths: Mapping[int, int], max_length: int):
        position, length = next(iter(lengths.items()))
        others = f" ({len(lengths) - 1} more are too long)" if len(lengths) > 1 else ""
        super().__init__(
            f"dialogue {position} has {length} tokens, and this scorer takes {max_length} at most{others}; "
            "shorten it, or leave it out and say so"
        )
        self.lengths, self.max_length = lengths, max_length


class Scorer(Protocol):
    """Anything that scores dialogues."""

    def score(self, dialogues: Sequence[Messages]) -> Tensor:
        """(N,) float32 raw logits on the CPU, in the order of ``dialogues``."""
        ...


class RewardScorer:
    """A reward model as a Scorer.

    Args:
        batch_size: rows per forward pass.
        max_length: tokens of a dialogue at most; the model's context when not given.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 64, max_length: int | None = None
    ):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.max_length = max_length or model.config.max_position_embeddings

    @classmethod
    def load(cls, path: Path, batch_size: int = 64, dtype: torch.dtype = torch.float32) -> "RewardScorer":
        """Open a saved reward model. Raises RewardModelError (see ``load_reward_model``)."""
        model, tokenizer = load_reward_model(path, dtype)
        return cls(model, tokenizer, batch_size)

    def score(self, dialogues: Sequence[Messages]) -> Tensor:
        """(N,) float32 raw logits on the CPU, in the order of ``dialogues``.

        Raises MessagesError for messages that are no dialogue, TooLong for those longer than ``max_length``, RewardModelError
        for a score that is not finite.
        """
        scores = torch.empty(len(dialogues), dtype=torch.float32)
        for indices, batch in self.score_batches(dialogues):
            scores[indices] = batch
        return scores

    def score_batches(self, dialogues: Sequence[Messages]) -> Iterator[tuple[list[int], Tensor]]:
        """Score batch by batch, longest dialogues first: yields (indices into ``dialogues``, their scores).

        Every dialogue is checked and encoded before the first batch is scored. Sorted by length a batch has little
        padding, and whatever does not fit into memory shows at once.
        """
        rows = [self._encode(position, dialogue) for position, dialogue in enumerate(dialogues)]
        if long := {position: len(row) for position, row in enumerate(rows) if len(row) > self.max_length}:
            raise TooLong(long, self.max_length)
        order = sorted(range(len(rows)), key=lambda position: -len(rows[position]))
        for start in range(0, len(order), self.batch_size):
            indices = order[start : start + self.batch_size]
            yield indices, self._score_rows([rows[position] for position in indices])

    @torch.inference_mode()
    def _score_rows(self, rows: list[list[int]]) -> Tensor:
        device = self.model.device
        lengths = torch.tensor([len(row) for row in rows], device=device)
        scores = last_token_scores(self.model, pad(rows).to(device), lengths).float().cpu()
        if not scores.isfinite().all():
            raise RewardModelError(
                f"{int((~scores.isfinite()).sum())} of {len(rows)} scores are not finite numbers; "
                "the reward model's weights are damaged, or its numbers overflow in this precision"
            )
        return scores

    def _encode(self, position: int, dialogue: Messages) -> list[int]:
        try:
            return encode_for_scoring(self.tokenizer, dialogue)
        except MessagesError as error:
            raise MessagesError(error.reason, f"dialogue {position} cannot be scored: {error}") from error
