"""The folder of an external reward model: opened, and checked.

What is refused here would otherwise score without a word of warning: a head that was never trained, a classifier with several
classes, a tokenizer that belongs to another model, a template that leaves out the response or writes the day's date. Weights
are never unpickled, and code that lies beside them is never run.

Where the config names no padding id, the library's forward of a decoder reads the last token of a row, and refuses batches.
Such a model is given a padding id that its dialogues do not end with, so that it reads where it did.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from policy.placement import device
from preference_data.messages import Messages, MessagesError, assistant, user
from reward_model.model import RewardModelError
from reward_model.own_template import encode_by_template

PROBES: tuple[Messages, ...] = (
    [user("What is the capital of France?"), assistant("Paris.")],
    [user("What is the capital of France?"), assistant("It is Paris, on the Seine, and has been for a very long time.")],
)
_UNKNOWN_LENGTH = 10**9  # a tokenizer that does not know the context of its model gives a far larger number


def load_external(
    path: Path | str,
    dtype: torch.dtype | Literal["auto"] = torch.float32,
    hub_revision: str | None = None,
    chat_template: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """(model in eval mode, tokenizer) from a folder or a hub name, with a padding id that both know.

    Args:
        dtype: "auto": as the checkpoint has it.
        hub_revision: a commit of a hub name; the newest when None.
        chat_template: in place of the tokenizer's own.

    Raises RewardModelError, naming what does not fit.
    """
    revision = hub_revision or "main"
    _check_config(path, revision)
    tokenizer = _open_tokenizer(path, revision)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    _check_template(path, tokenizer)
    model = _open_model(path, revision, dtype)
    rows = _num_embeddings(model)
    if len(tokenizer) > rows:
        raise RewardModelError(
            f"{path}: the tokenizer has {len(tokenizer)} tokens but the model only {rows} embeddings; they do not belong "
            "together, so give the tokenizer that the model was trained with"
        )
    _settle_padding(path, model, tokenizer)
    context_of(model, tokenizer)
    return model.to(device()).eval(), tokenizer  # type: ignore[arg-type]


def context_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of a dialogue at most: the least of what the config, the tokenizer and a table of learnt positions allow.

    Raises RewardModelError where none of them says.
    """
    allowed = [getattr(model.config.get_text_config(), "max_position_embeddings", None), tokenizer.model_max_length]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            allowed.append(module.num_embeddings - module.padding_idx - 1)  # positions begin after the padding's row (RoBERTa)
    if known := [length for length in allowed if length and 0 < length < _UNKNOWN_LENGTH]:
        return min(known)
    raise RewardModelError(
        f"neither config nor tokenizer of this {type(model).__name__} says how many tokens it takes; "
        "set model_max_length in its tokenizer_config.json"
    )


def pad_id_of(model: PreTrainedModel) -> int:
    """The id by which the model's forward knows padding."""
    return model.config.get_text_config().pad_token_id


def _check_config(path: Path | str, revision: str) -> None:
    """Refuse what the config alone shows to be wrong, before weights are read."""
    try:
        config, _ = PreTrainedConfig.get_config_dict(path, revision=revision)
    except (OSError, ValueError) as error:
        raise RewardModelError(f"{path} is neither the folder of a model nor a hub name that can be opened: {error}") from error
    if not config:
        raise RewardModelError(f"{path} is not a model: it holds no config.json; give a Hugging Face folder or a hub name")
    architectures: list[str] = config.get("architectures") or []
    if architectures and not any(name.endswith("ForSequenceClassification") for name in architectures):
        raise RewardModelError(
            f"{path} is a {', '.join(architectures)}, and a reward model is a sequence classifier with one output; "
            "give the folder of one, or train one from it with rlhf train-reward"
        )
    num_outputs = len(config["id2label"]) if "id2label" in config else config.get("num_labels", 1)
    if num_outputs != 1:
        raise _several_outputs(path, f"its config names {num_outputs}")


def _several_outputs(path: Path | str, evidence: str) -> RewardModelError:
    return RewardModelError(
        f"{path} has a head with several outputs ({evidence}), and a reward model has one; it is another kind of classifier"
    )


def _open_tokenizer(path: Path | str, revision: str) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
    except Exception as error:  # the library raises errors of any class for folders that others wrote
        raise RewardModelError(f"{path}: its tokenizer cannot be opened: {error}") from error


def _check_template(path: Path | str, tokenizer: PreTrainedTokenizerBase) -> None:
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        raise RewardModelError(
            f"{path} has no chat template, so nothing says how it reads a dialogue; write the one it was trained with, special "
            "tokens included, into a file and give --chat-template FILE"
        ) from error
    if "strftime_now" in template:
        raise RewardModelError(
            f"the chat template of {path} writes the day's date, so that scores would change from day to day; copy it into "
            "a file with a fixed date in place of strftime_now, and give --chat-template FILE"
        )
    try:
        short, long = encode_by_template(tokenizer, PROBES)
    except MessagesError as error:
        raise RewardModelError(
            f"the chat template of {path} cannot write a question and its answer: {error}; give another with "
            "--chat-template FILE"
        ) from error
    if short == long:
        raise RewardModelError(
            f"the chat template of {path} leaves out the response, which is what would be scored; give another with "
            "--chat-template FILE (messages have the fields role and content)"
        )


def _open_model(path: Path | str, revision: str, dtype: torch.dtype | Literal["auto"]) -> PreTrainedModel:
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            path, revision=revision, dtype=dtype, num_labels=1, use_safetensors=True, trust_remote_code=False,
            ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # the library raises errors of any class for folders that others wrote
        raise RewardModelError(f"{path} cannot be opened as a sequence classifier with safetensors weights: {error}") from error
    _check_loading(path, loading)
    return model


def _check_loading(path: Path | str, loading: dict[str, Any]) -> None:
    """Raise RewardModelError unless every weight came from the checkpoint."""
    for name, shape, expected in sorted(loading["mismatched_keys"]):
        if expected[0] == 1 and shape[0] > 1:
            raise _several_outputs(path, f"{name} among its weights has {shape[0]}")
        raise RewardModelError(f"{path}: {name} is of shape {list(shape)}, and its config makes it {list(expected)}")
    if missing := sorted(loading["missing_keys"]):
        unused = sorted(loading["unexpected_keys"])
        others = f"; what it holds and nothing uses: {', '.join(unused[:5])}" if unused else ""
        raise RewardModelError(
            f"{path} lacks {len(missing)} tensors ({', '.join(missing[:5])}), which would be random, so its scores would be too"
            f"{others}; give the folder of a whole reward model"
        )


def _num_embeddings(model: PreTrainedModel) -> int:
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return len(weight)


def _settle_padding(path: Path | str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give config and tokenizer one padding id: the config's; where it names none, one that no dialogue ends with."""
    config = model.config.get_text_config()
    if config.pad_token_id is None or not 0 <= config.pad_token_id < _num_embeddings(model):
        ends = {row[-1] for row in encode_by_template(tokenizer, PROBES)}
        special = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id, *tokenizer.all_special_ids)
        free = [token_id for token_id in special if token_id is not None and token_id not in ends]
        if not free:
            raise RewardModelError(
                f"{path} names no padding token, and its tokenizer has no special token to pad with but the one that ends a "
                "dialogue; set pad_token_id in its config.json to an id that no text holds"
            )
        config.pad_token_id = model.config.pad_token_id = free[0]
    token = tokenizer.convert_ids_to_tokens(config.pad_token_id)
    if token in tokenizer.get_added_vocab() and token != tokenizer.pad_token:  # an ordinary token must not become a special one
        tokenizer.pad_token = token
