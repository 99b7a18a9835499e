"""Dialogues as the ids of an external reward model: by its own tokenizer and its own chat template.

The template writes the special tokens, BOS among them, so the tokenizer adds none. Where the text of a message spells a special
token, a zero-width space breaks the spelling: a response that says ``<|eot_id|>`` ends nothing. Only there does the encoding
differ from that of ``tokenizer(text of the template, add_special_tokens=False)``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from preference_data.messages import Messages, MessagesError, check_dialogue, check_prompt


class TemplateRefusal(MessagesError):
    """Dialogues that a chat template cannot write. ``reasons``: why, by the position of each dialogue."""

    def __init__(self, reasons: Mapping[int, str]):
        position, reason = next(iter(reasons.items()))
        others = f" ({len(reasons) - 1} more cannot be written either)" if len(reasons) > 1 else ""
        super().__init__("template", f"dialogue {position} cannot be scored: {reason}{others}; leave such dialogues out")
        self.reasons = reasons


def encode_by_template(tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Messages]) -> list[list[int]]:
    """The ids of each dialogue as ``tokenizer.chat_template`` writes it. An empty last response is written as it is.

    Raises MessagesError for messages that are no dialogue, TemplateRefusal for those that the template refuses.
    """
    for position, dialogue in enumerate(dialogues):
        _check(position, dialogue)
    rows: list[list[int]] = []
    reasons: dict[int, str] = {}
    for position, dialogue in enumerate(dialogues):
        try:
            rows.append(_ids(tokenizer, dialogue))
        except (TemplateError, TypeError, ValueError) as error:
            reasons[position] = f"the reward model's own chat template refuses it: {error}"
    if reasons:
        raise TemplateRefusal(reasons)
    return rows


def _check(position: int, dialogue: Messages) -> None:
    try:
        if dialogue and dialogue[-1]["role"] == "assistant" and not dialogue[-1]["content"].strip():
            check_prompt(dialogue[:-1])  # an empty response, which no data file may hold, but a policy can sample
        else:
            check_dialogue(dialogue)
    except MessagesError as error:
        raise MessagesError(error.reason, f"dialogue {position} cannot be scored: {error}") from error


def _ids(tokenizer: PreTrainedTokenizerBase, dialogue: Messages) -> list[int]:
    tokens = [token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip()]
    messages = [{"role": message["role"], "content": _unspelt(message["content"], tokens)} for message in dialogue]
    ids: Any = tokenizer.apply_chat_template(messages, return_dict=False)
    if not ids:
        raise ValueError("it writes nothing")
    return list(ids)


def _unspelt(text: str, tokens: Sequence[str]) -> str:
    for token in tokens:
        text = text.replace(token, f"{token[:1]}\u200b{token[1:]}")
    return text
