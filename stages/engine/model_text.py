"""Text as a model takes it in: its tokenizer, and which tokens of a dialogue would be trained or scored."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerBase

from policy.chat import encode_dialogue
from policy.checkpoint import check_special_tokens, load_tokenizer
from preference_data.measuring.statistics import CountTokens
from preference_data.messages import Messages
from preference_data.prompt import TrainOn
from registry.errors import WrongKind
from registry.store import Registry
from reward_model.batch import encode_for_scoring
from reward_model.model import is_external

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class ModelText:
    """A tokenizer, whose it is, and what it serves."""

    name: str
    kind: Literal["policy", "reward_model"]
    tokenizer: PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class SeenText:
    """A dialogue in the chat format. ``parts``: its text in pieces, with whether their tokens are marked.

    Marked are the tokens that are trained or, for a reward model, the one at which the score is read.
    """

    num_tokens: int
    num_marked: int
    parts: list[tuple[str, bool]]


def open_model(registry: Registry, text: str) -> ModelText:
    """The tokenizer of a policy or a reward model, by reference or Hugging Face folder. No weights are read.

    Raises RegistryError, WrongKind for an artifact of another kind, CheckpointError for a folder without a usable tokenizer.
    """
    folder = Path(text).expanduser()
    if text.startswith(("/", ".", "~")) or any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return ModelText(text, _kind_of(folder), load_tokenizer(folder))
    artifact = registry.resolve(text)
    name, kind = str(artifact.reference), artifact.reference.kind
    if kind not in ("policy", "reward_model"):
        raise WrongKind(f"--model is {name}, of kind {kind}; give a policy, a reward model, or a Hugging Face folder")
    if kind == "reward_model" and is_external(artifact.path):
        raise WrongKind(
            f"--model is {name}, an external reward model, which has its own chat format; "
            "give a policy, or a reward model that was trained here"
        )
    return ModelText(name, "policy" if kind == "policy" else "reward_model", load_tokenizer(artifact.path))


def _kind_of(folder: Path) -> Literal["policy", "reward_model"]:
    config = folder / "config.json"
    architectures = json.loads(config.read_text(encoding="utf-8")).get("architectures") if config.is_file() else None
    return "reward_model" if any("SequenceClassification" in name for name in architectures or []) else "policy"


def token_counter(tokenizer: PreTrainedTokenizerBase) -> CountTokens:
    """Counts the tokens of texts, each on its own, without special tokens."""

    def count(texts: list[str]) -> Sequence[int]:
        if not texts:
            return []
        encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False)
        return [len(ids) for ids in encoded["input_ids"]]

    return count


def seen_text(model: ModelText, dialogue: Messages, train_on: TrainOn) -> SeenText:
    """What the model takes in; marked is what fine-tuning trains or, for a reward model, where the score is read.

    Raises ChatFormatError, CheckpointError for a tokenizer that does not fit the chat format.
    """
    check_special_tokens(model.name, model.tokenizer)
    if model.kind == "reward_model":
        (ids,) = encode_for_scoring(model.tokenizer, [dialogue])
        mask = [place == len(ids) - 1 for place in range(len(ids))]
    else:
        encoded = encode_dialogue(model.tokenizer, dialogue, train_on)
        ids, mask = encoded.ids, encoded.loss_mask
    return SeenText(len(ids), sum(mask), _parts(model.tokenizer, ids, mask))


def _parts(tokenizer: PreTrainedTokenizerBase, ids: list[int], mask: list[bool]) -> list[tuple[str, bool]]:
    """The text of ``ids`` cut where the mask changes; together it is their decoded text."""
    parts: list[tuple[str, bool]] = []
    end, before = 0, ""
    for marked, run in groupby(mask):
        end += len(list(run))
        text = str(tokenizer.decode(ids[:end], skip_special_tokens=False))
        parts.append((text[len(before) :], marked))
        before = text
    return parts
