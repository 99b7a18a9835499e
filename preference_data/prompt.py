"""Prompts and dialogues as records: what artifacts of the kinds ``prompts`` and ``dialogues`` hold."""

from dataclasses import dataclass
from typing import Literal

from preference_data.messages import Messages, check_dialogue, check_prompt, messages_id

Split = Literal["train", "validation", "test"]
TrainOn = Literal["all", "last"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages that end with the user's, and what is known about them.

    ``is_safety``: tagged as potentially eliciting an unsafe response (paper 3.2.3); ``risk_category`` and ``attack_vector``:
    paper 4.2.1; ``family``: the kind of task; ``source``: who wrote it.
    """

    id: str
    messages: Messages
    is_safety: bool
    risk_category: str | None
    attack_vector: str | None
    family: str
    split: Split
    source: str


def make_prompt(
    messages: Messages,
    *,
    family: str,
    split: Split,
    source: str,
    is_safety: bool = False,
    risk_category: str | None = None,
    attack_vector: str | None = None,
) -> Prompt:
    """A checked Prompt whose id is the hash of its messages. Raises MessagesError."""
    check_prompt(messages)
    return Prompt(messages_id(messages), messages, is_safety, risk_category, attack_vector, family, split, source)


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Messages that end with the assistant's: something to fine-tune on.

    ``prompt_id`` is the id of the messages before the last response. ``train_on``: the loss counts on ``all`` assistant
    messages, or only on the ``last`` one (Ghost Attention, paper 3.3).
    """

    messages: Messages
    prompt_id: str
    is_safety: bool
    family: str
    source: str
    train_on: TrainOn = "all"


def make_dialogue(
    messages: Messages, *, family: str, source: str, is_safety: bool = False, train_on: TrainOn = "all"
) -> Dialogue:
    """A checked Dialogue. Raises MessagesError."""
    check_dialogue(messages)
    return Dialogue(messages, messages_id(messages[:-1]), is_safety, family, source, train_on)


@dataclass(frozen=True, slots=True)
class Document:
    """Something to pretrain on: plain ``text``, or a dialogue (``messages``); the other one is None."""

    text: str | None
    messages: Messages | None
