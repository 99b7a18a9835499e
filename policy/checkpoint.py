"""Policies on disk: Hugging Face folders that any ``from_pretrained`` opens."""

import json
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from policy.placement import device
from policy.tokenizer import BOS_ID, EOS_ID, PAD_ID


class CheckpointError(ValueError):
    """A folder that is not a usable checkpoint."""


def load_policy(
    path: Path | str, dtype: torch.dtype | Literal["auto"] = torch.float32, hub_revision: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """(model in eval mode, tokenizer) from a folder or a hub name, on the device in use. Raises CheckpointError.

    ``dtype`` "auto": as the checkpoint has it. ``hub_revision``: a commit of a hub name; the newest when None.
    """
    tokenizer = load_tokenizer(path, hub_revision)
    try:
        # weights are never unpickled: a folder without safetensors is refused
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, revision=hub_revision or "main", use_safetensors=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be opened as a language model with safetensors weights: {error}") from error
    check_embeddings(path, model, tokenizer)
    return model.to(device()).eval(), tokenizer  # type: ignore[arg-type]


def load_tokenizer(path: Path | str, hub_revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint. Where it has no pad token, ``<unk>`` becomes it. Raises CheckpointError if pad is EOS."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=hub_revision or "main")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} has no tokenizer that can be opened: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise CheckpointError(
            f"{path}: the pad token is EOS, so a model trained with it may never stop; set it to the unk token"
        )
    return tokenizer


def check_embeddings(path: Path | str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise CheckpointError unless the model has an embedding for each token."""
    if len(tokenizer) > model.config.vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {len(tokenizer)} tokens but the model only {model.config.vocab_size} embeddings; "
            "they do not belong together, so give the tokenizer that the model was trained with"
        )


def check_special_tokens(path: Path | str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise CheckpointError unless ``<unk>``, BOS and EOS have the ids of the chat format (0, 1, 2), and ``<unk>`` pads."""
    ids = (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    if ids != (PAD_ID, BOS_ID, EOS_ID, PAD_ID):
        raise CheckpointError(
            f"{path}: its tokenizer has the ids {ids} for unk, BOS, EOS and pad, and Llama 2's chat format needs "
            f"{(PAD_ID, BOS_ID, EOS_ID, PAD_ID)}; use a checkpoint of the Llama 2 family"
        )


def save_checkpoint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path | str) -> None:
    """Write weights (safetensors), configuration and tokenizer with its chat template; and no path that they were loaded from.

    Reward models are written by it as well.
    """
    model.config._name_or_path = ""
    for name in ("is_local", "local_files_only", "name_or_path"):
        tokenizer.init_kwargs.pop(name, None)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of the checkpoint in the folder ``path``; none where it has none."""
    index = Path(path) / "model.safetensors.index.json"
    if index.is_file():
        return [Path(path) / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    return sorted(Path(path).glob("*.safetensors"))
