"""Dialogues and comparisons as ids: encoding, filtering, and batches of pairs.

``encode_for_scoring`` is the one way in which a dialogue becomes ids for a reward model, in training and in scoring alike:
the chat format, with EOS as the last token.

Nothing is truncated: a pair that does not fit is left out and counted, because cutting the end removes the very token
where the score is read, and cutting the start can make two different prompts equal.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from policy.chat import encode_dialogues, encode_prompt
from policy.tokenizer import EOS_ID
from preference_data.comparison import Comparison, Rating
from preference_data.margin import Margins, margin
from preference_data.messages import Messages, MessagesError, check_dialogue

DropReason = Literal["too_long", "identical"]


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """One comparison as ids, ``id`` its own. ``margin`` is m(rating); a safety label is None where there is none."""

    id: str
    chosen_ids: list[int]
    rejected_ids: list[int]
    margin: float
    chosen_safe: bool | None
    rejected_safe: bool | None
    rating: Rating
    source: str

    @property
    def length(self) -> int:
        """Tokens of the longer side: what the pair costs in a batch."""
        return max(len(self.chosen_ids), len(self.rejected_ids))

    @property
    def num_labels(self) -> int:
        """Responses of the pair with a safety label: 0, 1 or 2."""
        return (self.chosen_safe is not None) + (self.rejected_safe is not None)


@dataclass(frozen=True, eq=False, slots=True)
class PairBatch:
    """B pairs as 2B rows of one forward pass: the chosen rows first, then the rejected rows in the same order."""

    rows: list[list[int]]  # 2B of ids
    margin: Tensor  # (B,) float32
    is_safe: Tensor  # (2B,) bool, False where not labelled
    is_labelled: Tensor  # (2B,) bool

    def to(self, device: torch.device) -> "PairBatch":
        return PairBatch(self.rows, self.margin.to(device), self.is_safe.to(device), self.is_labelled.to(device))


def encode_for_scoring(tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Messages]) -> list[list[int]]:
    """The ids a reward model sees of each dialogue: the whole of it in the chat format, EOS last.

    A response that was cut off while sampled is scored as if EOS followed it, since the score is read at EOS. An empty
    response, which no data file may hold but a policy can sample, is EOS right after the prompt.

    Raises MessagesError, naming the dialogue by its position, and ChatFormatError.
    """
    rows: list[list[int]] = [[] for _ in dialogues]
    whole: list[int] = []
    for position, dialogue in enumerate(dialogues):
        try:
            if dialogue and dialogue[-1]["role"] == "assistant" and not dialogue[-1]["content"].strip():
                rows[position] = [*encode_prompt(tokenizer, dialogue[:-1]).ids, EOS_ID]
            else:
                check_dialogue(dialogue)
                whole.append(position)
        except MessagesError as error:
            raise MessagesError(error.reason, f"dialogue {position} cannot be scored: {error}") from error
    for position, encoded in zip(whole, encode_dialogues(tokenizer, [dialogues[position] for position in whole]), strict=True):
        rows[position] = encoded.ids
    return rows


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, comparisons: Sequence[Comparison], margins: Margins, max_length: int
) -> tuple[list[EncodedPair], dict[DropReason, int]]:
    """Encode comparisons; return the pairs kept, in order, and how many were left out for which reason.

    ``too_long``: a side has more than ``max_length`` tokens. ``identical``: both sides have the same ids, so there is
    nothing to rank.
    """
    kept: list[EncodedPair] = []
    dropped: Counter[DropReason] = Counter()
    chosen = encode_for_scoring(tokenizer, [comparison.chosen_dialogue for comparison in comparisons])
    rejected = encode_for_scoring(tokenizer, [comparison.rejected_dialogue for comparison in comparisons])
    for comparison, chosen_ids, rejected_ids in zip(comparisons, chosen, rejected, strict=True):
        pair = EncodedPair(
            id=comparison.id,
            chosen_ids=chosen_ids,
            rejected_ids=rejected_ids,
            margin=margin(comparison.rating, margins),
            chosen_safe=comparison.chosen_safe,
            rejected_safe=comparison.rejected_safe,
            rating=comparison.rating,
            source=comparison.source,
        )
        if pair.length > max_length:
            dropped["too_long"] += 1
        elif pair.chosen_ids == pair.rejected_ids:
            dropped["identical"] += 1
        else:
            kept.append(pair)
    return kept, dict(dropped)


def collate_pairs(pairs: Sequence[EncodedPair]) -> PairBatch:
    """The rows of a batch of pairs, and what is known of them as tensors on the CPU."""
    labels = [pair.chosen_safe for pair in pairs] + [pair.rejected_safe for pair in pairs]
    return PairBatch(
        rows=[pair.chosen_ids for pair in pairs] + [pair.rejected_ids for pair in pairs],
        margin=torch.tensor([pair.margin for pair in pairs], dtype=torch.float32),
        is_safe=torch.tensor([label is True for label in labels]),
        is_labelled=torch.tensor([label is not None for label in labels]),
    )
