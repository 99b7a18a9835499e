"""Policies on disk: Hugging Face folders that any ``from_pretrained`` opens."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


class CheckpointError(ValueError):
    """A folder that is not a usable checkpoint."""


def load_policy(path: Path | str, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """(model in eval mode, tokenizer) from a folder or a hub name. Raises CheckpointError."""
    tokenizer = load_tokenizer(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    if len(tokenizer) > model.config.vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {len(tokenizer)} tokens but the model only {model.config.vocab_size} embeddings; "
            "they do not belong together"
        )
    return model.eval(), tokenizer


def load_tokenizer(path: Path | str) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint. Where it has no pad token, ``<unk>`` becomes it. Raises CheckpointError if pad is EOS."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise CheckpointError(
            f"{path}: the pad token is EOS, so a model trained with it may never stop; set it to the unk token"
        )
    return tokenizer


def save_checkpoint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path | str) -> None:
    """Write weights (safetensors), configuration and tokenizer with its chat template; nothing of where they came from.

    Reward models are written by it as well: a folder is a folder.
    """
    model.config._name_or_path = ""
    for name in ("is_local", "local_files_only", "name_or_path"):
        tokenizer.init_kwargs.pop(name, None)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
