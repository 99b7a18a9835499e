"""An external reward model as a Scorer: any Hugging Face sequence classifier with one output.

It keeps what it was trained with: its tokenizer, its chat template, its head, its way to find the token at which the score is
read (the library's own forward of its architecture). A decoder's forward reads at the last id that is not the padding id; so
rows are padded with the id that the model's config names (``reward_model/external_checkpoint.py`` makes sure that there is
one), whatever the tokenizer would pad with.

The score is the raw logit, on the model's own scale. Its sigmoid need not be a probability of anything.
"""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from policy.batch import lengths_mask, pad
from policy.checkpoint import save_checkpoint
from preference_data.messages import Messages
from reward_model.external_checkpoint import PROBES, context_of, load_external, pad_id_of
from reward_model.model import MARKER, OWN_TEMPLATE, RewardModelError
from reward_model.own_template import encode_by_template
from reward_model.scoring import BatchScorer


class ExternalScorer(BatchScorer):
    """A sequence classifier with one output, its own tokenizer and its own chat template, as a Scorer.

    ``max_length``: the model's context when not given.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 64, max_length: int | None = None
    ):
        super().__init__(model, tokenizer, batch_size, max_length or context_of(model, tokenizer))
        has_cache = "use_cache" in inspect.signature(model.forward).parameters
        self._options = {"use_cache": False} if has_cache else {}

    @classmethod
    def load(cls, path: Path, batch_size: int = 64, dtype: torch.dtype = torch.float32) -> Self:
        """Open a registered one. Raises RewardModelError (see ``load_external``)."""
        return cls(*load_external(path, dtype), batch_size)

    def encode(self, dialogues: Sequence[Messages]) -> list[list[int]]:
        return encode_by_template(self.tokenizer, dialogues)

    def score_rows(self, rows: list[list[int]]) -> Tensor:
        # no longer than the longest row: learnt positions may end there
        ids = pad(rows, pad_id_of(self.model), multiple_of=1).to(self.model.device)
        mask = lengths_mask([len(row) for row in rows], ids.shape[1]).to(self.model.device)
        return self.model(input_ids=ids, attention_mask=mask.long(), **self._options).logits[:, 0]


def save_external(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Write weights (safetensors), config, tokenizer with its template and the marker; then open them and compare scores.

    Raises RewardModelError when the reloaded model scores two fixed dialogues differently.
    """
    before = ExternalScorer(model, tokenizer).score(PROBES)
    save_checkpoint(model, tokenizer, path)
    (path / MARKER).write_text(json.dumps({"encoding": OWN_TEMPLATE}) + "\n", encoding="utf-8")
    after = ExternalScorer.load(path, dtype=model.dtype).score(PROBES)
    if not torch.allclose(before, after, rtol=1e-5, atol=1e-5):
        raise RewardModelError(
            f"the reward model saved to {path} does not score as it did in memory: {before.tolist()} became {after.tolist()}; "
            "do not use the folder"
        )
