"""A Llama-style tokenizer: BPE with byte fallback, digits split, ``<unk>`` 0, ``<s>`` 1, ``</s>`` 2 (paper section 2.2).

As in Llama, ids 3 to 258 are the 256 bytes, a space becomes ``▁`` in front of the word it precedes, and the text gets one
such space in front. Ours differs in one point: the tags of the chat format are split off before merging, so that each
becomes a single token; in Llama 2's own tokenizer they fall into three to five pieces.

Padding uses ``<unk>``, which byte fallback never produces. It is never EOS, and no embedding is resized for it.
"""

import json
from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from preference_data.messages import B_INST, B_SYS, BOS, E_INST, E_SYS, EOS, UNK

PAD_ID, BOS_ID, EOS_ID = 0, 1, 2
_NUM_BYTES = 256
_SPACE = "▁"
# A tag, a word, one digit, one mark, or what is left of white space; each with the space before it.
_PIECE = rf"{_SPACE}?(?:\[/?INST\]|<</?SYS>>|[\p{{L}}\p{{M}}']+|[^\s\d{_SPACE}])|\d|{_SPACE}|\s"


def train_tokenizer(texts: Iterable[str], vocab_size: int, chat_template: str) -> PreTrainedTokenizerFast:
    """Train on ``texts``; the chat tags are added to what it sees, so that they are always learnt."""
    texts = list(texts)
    tags = f"{B_INST} {B_SYS}\n{E_SYS}\n {E_INST}"
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - _NUM_BYTES, special_tokens=[UNK, BOS, EOS], show_progress=False, min_frequency=2
    )
    learner = _pipeline(models.BPE(unk_token=UNK))
    learner.train_from_iterator([*texts, *[tags] * (10 + len(texts) // 10)], trainer)
    learnt = json.loads(learner.to_str())["model"]
    ranked = sorted(learnt["vocab"], key=learnt["vocab"].get)
    vocabulary = ranked[:3] + [f"<0x{byte:02X}>" for byte in range(_NUM_BYTES)] + ranked[3:]
    merges = [tuple(merge) for merge in learnt["merges"]]
    model = models.BPE(
        vocab={piece: i for i, piece in enumerate(vocabulary)}, merges=merges, unk_token=UNK, byte_fallback=True, fuse_unk=True
    )
    tokenizer = _pipeline(model)
    tokenizer.add_special_tokens([UNK, BOS, EOS])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNK,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=UNK,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        chat_template=chat_template,
    )


def longest_text(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> str:
    """The text that has the most tokens, which need not have the most characters; "" of none."""
    if not texts:
        return ""
    ids = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return texts[max(range(len(texts)), key=lambda place: len(ids[place]))]


def _pipeline(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECE), behavior="isolated")
    return tokenizer
