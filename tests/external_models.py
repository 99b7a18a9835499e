"""Tiny reward models as other people publish them: other architectures, tokenizers, templates, and ways to say what pads."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from preference_data.messages import Messages

_TEXTS = ["The owl sleeps. Which one is older, the fox or the owl?", "It is Paris, on the Seine, for a very long time."]
_SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 1}
_DECODER = {**_SMALL, "num_key_value_heads": 1, "initializer_range": 0.3}

LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('no system message, please') }}{% endif %}"
    "{{ '<|turn|>' + message['role'] + '\n' + message['content'] + '<|end|>' }}{% endfor %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
)
ENCODER_TEMPLATE = "{{ '[CLS]' }}{% for message in messages %}{{ message['content'] + '[SEP]' }}{% endfor %}"


def written(name: str, dialogue: Messages) -> str:
    """What the template of a model writes, by hand."""
    if name == "llama":
        return "<|begin|>" + "".join(f"<|turn|>{each['role']}\n{each['content']}<|end|>" for each in dialogue)
    if name == "qwen2":
        return "".join(f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in dialogue)
    return "[CLS]" + "".join(f"{each['content']}[SEP]" for each in dialogue)


def tokenizer_of(special: list[str], template: str | None, first: str | None = None, **roles: str) -> PreTrainedTokenizerFast:
    """Bytes and a few merges; ``first`` is what the tokenizer itself would put in front of a text."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(_TEXTS * 5, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=letters))
    if first:
        place = [(first, inner.token_to_id(first))]
        inner.post_processor = processors.TemplateProcessing(single=f"{first} $A", special_tokens=place)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **roles)
    tokenizer.chat_template = template
    return tokenizer


def llama_tokenizer(template: str | None = LLAMA_TEMPLATE, **roles: str) -> PreTrainedTokenizerFast:
    names = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "additional_special_tokens": ["<|turn|>"], **roles}
    return tokenizer_of(["<|begin|>", "<|end|>", "<|turn|>", "<|pad|>"], template, "<|begin|>", **names)


def _encoder_tokenizer() -> PreTrainedTokenizerFast:
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    return tokenizer_of(["[CLS]", "[PAD]", "[SEP]", "[UNK]"], ENCODER_TEMPLATE, "[CLS]", **names)


def _llama() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    tokenizer = llama_tokenizer()  # no padding token, and none in the config either
    config = LlamaConfig(vocab_size=len(tokenizer) + 5, max_position_embeddings=256, **_DECODER)
    return LlamaForSequenceClassification(config), tokenizer


def _qwen2() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = tokenizer_of(special, QWEN_TEMPLATE, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    config = Qwen2Config(vocab_size=len(tokenizer), max_position_embeddings=256, **_DECODER)
    return Qwen2ForSequenceClassification(config), tokenizer


def _encoder(
    model: type[PreTrainedModel], config: type[PretrainedConfig], positions: int, **others: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    tokenizer = _encoder_tokenizer()
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": positions, "pad_token_id": tokenizer.pad_token_id}
    return model(config(**sizes, **_SMALL, initializer_range=0.3, **others)), tokenizer


MAKERS: dict[str, Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerFast]]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "bert": partial(_encoder, BertForSequenceClassification, BertConfig, 131),
    "roberta": partial(_encoder, RobertaForSequenceClassification, RobertaConfig, 133),
    "deberta": partial(
        _encoder, DebertaV2ForSequenceClassification, DebertaV2Config, 256, relative_attention=True, pooler_hidden_size=16,
        pos_att_type=["p2c", "c2p"], position_biased_input=False, type_vocab_size=0,
    ),
}  # fmt: skip


def make(name: str, seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    torch.manual_seed(seed)
    model, tokenizer = MAKERS[name]()
    return model.eval(), tokenizer


def publish(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast | None) -> Path:
    """Write a model as its makers do."""
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder
