"""The Llama 2 chat format: messages to token ids and back to the mask of what is trained, in one place.

The reference code writes each completed turn, separately encoded, as

    BOS "[INST] {user} [/INST] {assistant} " EOS

and the open last turn as BOS "[INST] {user} [/INST]", without EOS. The system text is wrapped as
"<<SYS>>\\n{system}\\n<</SYS>>\\n\\n" and put in front of the first user message; user and assistant texts are stripped
(the first user text after the system text was put in front). BOS and EOS are ids, never text.

Training, scoring, sampling, PPO and evaluation all come through here. ``CHAT_TEMPLATE`` says the same in the language of
``tokenizer.chat_template``; a test holds both to the same ids. Where they must differ: an answer that contains a tag, say
"</s>", is encoded here as plain text, which a template cannot do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from preference_data.messages import B_INST, B_SYS, E_INST, E_SYS, TAGS, Messages, check_dialogue, check_prompt
from preference_data.prompt import TrainOn

CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- set system = '" + B_SYS + "\\n' + messages[0]['content'] + '\\n" + E_SYS + "\\n\\n' -%}"
    "{%- set turns = messages[1:] -%}"
    "{%- else -%}{%- set system = '' -%}{%- set turns = messages -%}{%- endif -%}"
    "{%- for message in messages -%}{%- if message['role'] != 'assistant' -%}"
    "{%- for tag in [" + ", ".join(f"'{tag}'" for tag in TAGS) + "] -%}"
    "{%- if tag in message['content'] -%}"
    "{{- raise_exception('user and system texts must not hold the chat-format tag ' + tag) -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}{%- endfor -%}"
    "{%- for message in turns -%}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('after an optional system message, user and assistant must alternate') -}}"
    "{%- endif -%}"
    "{%- if message['role'] == 'user' -%}"
    "{%- set content = (system + message['content']) if loop.first else message['content'] -%}"
    "{{- bos_token + '" + B_INST + " ' + content | trim + ' " + E_INST + "' -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{- ' ' + message['content'] | trim + ' ' + eos_token -}}"
    "{%- else -%}"
    "{{- raise_exception('only the first message may be a system message') -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
)


def chat_template_for(tokenizer: PreTrainedTokenizerBase) -> str:
    """CHAT_TEMPLATE as ``tokenizer`` needs it, to give the ids of this module.

    In the reference each turn is a text of its own, and begins with the space that a text begins with. Llama 2's own
    tokenizer, unless it is set to ``legacy``, puts it in front of the whole text alone: there the template writes it.
    """
    alone = tokenizer(B_INST, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    after_bos = tokenizer(f"{tokenizer.bos_token}{B_INST}", add_special_tokens=False)["input_ids"][1:]
    return CHAT_TEMPLATE if after_bos == alone else CHAT_TEMPLATE.replace(f"'{B_INST} '", f"' {B_INST} '")


class ChatFormatError(ValueError):
    """The tokenizer cannot carry the chat format."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of messages; ``loss_mask`` is True on the answer tokens that are trained, their EOS included."""

    ids: list[int]
    loss_mask: list[bool]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> Encoded:
    """Encode a prompt: the reference format with the last turn left open. Raises MessagesError, ChatFormatError."""
    return encode_prompts(tokenizer, [messages])[0]


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Messages]) -> list[Encoded]:
    """Encode many prompts in one call of the tokenizer."""
    for messages in prompts:
        check_prompt(messages)
    return _encode(tokenizer, prompts, [None] * len(prompts))


def encode_dialogue(tokenizer: PreTrainedTokenizerBase, messages: Messages, train_on: TrainOn = "all") -> Encoded:
    """Encode a dialogue; the loss counts on all answers or, as in Ghost Attention, on the last one alone.

    Raises MessagesError, ChatFormatError.
    """
    return encode_dialogues(tokenizer, [messages], [train_on])[0]


def encode_dialogues(
    tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Messages], train_on: Sequence[TrainOn] | None = None
) -> list[Encoded]:
    """Encode many dialogues in one call of the tokenizer; ``train_on`` for each (all answers, where left out)."""
    for messages in dialogues:
        check_dialogue(messages)
    return _encode(tokenizer, dialogues, train_on or ["all"] * len(dialogues))


def _encode(tokenizer: PreTrainedTokenizerBase, many: Sequence[Messages], train_on: Sequence[TrainOn | None]) -> list[Encoded]:
    turns = [_turns(messages) for messages in many]
    texts = [text for dialogue in turns for opening, whole in dialogue for text in (opening, whole)]
    distinct = list(dict.fromkeys(texts))  # responses to one prompt and turns of one dialogue repeat texts
    distinct_ids = tokenizer(distinct, add_special_tokens=False, split_special_tokens=True)["input_ids"] if distinct else []
    ids_of = dict(zip(distinct, distinct_ids, strict=True))
    encoded = []
    for dialogue, trained_answers in zip(turns, train_on, strict=True):
        dialogue_ids: list[int] = []
        loss_mask: list[bool] = []
        for position, (opening, whole) in enumerate(dialogue):
            opening_ids, turn_ids = ids_of[opening], ids_of[whole]
            if turn_ids[: len(opening_ids)] != opening_ids:
                raise ChatFormatError(
                    f"this tokenizer merges {E_INST!r} with the answer that follows ({whole[len(opening) :][:40]!r}), so a "
                    "prompt is not a prefix of its dialogue; use a tokenizer whose words begin with their space, as Llama's do"
                )
            answered = whole != opening
            answer_ids = [*turn_ids[len(opening_ids) :], *([tokenizer.eos_token_id] if answered else [])]
            trained = trained_answers == "all" or (trained_answers == "last" and position + 1 == len(dialogue))
            dialogue_ids += [tokenizer.bos_token_id, *opening_ids, *answer_ids]
            loss_mask += [False] * (1 + len(opening_ids)) + [trained] * len(answer_ids)
        encoded.append(Encoded(dialogue_ids, loss_mask))
    return encoded


def _turns(messages: Messages) -> list[tuple[str, str]]:
    """Per turn, (its text up to [/INST], its whole text); the two are equal where the turn is open."""
    system, rest = "", messages
    if messages[0]["role"] == "system":
        system, rest = f"{B_SYS}\n{messages[0]['content']}\n{E_SYS}\n\n", messages[1:]
    turns = []
    for start in range(0, len(rest), 2):
        content = (system if start == 0 else "") + rest[start]["content"]
        opening = f"{B_INST} {content.strip()} {E_INST}"
        answer = f" {rest[start + 1]['content'].strip()} " if start + 1 < len(rest) else ""
        turns.append((opening, opening + answer))
    return turns


def decode_response(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of a response's ids, without its EOS and outer white space."""
    body = ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids
    return str(tokenizer.decode(body, skip_special_tokens=False)).strip()
