"""Messages: the one form that text has in this project.

A message is ``{"role": "system" | "user" | "assistant", "content": str}``. A *prompt* ends with a user message, a
*dialogue* with an assistant message; an optional system message comes first; after it user and assistant alternate.
A *turn* is one exchange, a user message and the answer to it, as the paper counts (Tables 6, 26, 30).

The tags of the Llama 2 chat format are defined here, because data is checked for them before any tokenizer is loaded;
``policy/chat.py`` builds the format from the same constants.
"""

import hashlib
import json
from typing import Literal

from typing_extensions import TypedDict  # pydantic reads this one on every Python we admit

Role = Literal["system", "user", "assistant"]


class Message(TypedDict):
    role: Role
    content: str


Messages = list[Message]

B_INST, E_INST = "[INST]", "[/INST]"
B_SYS, E_SYS = "<<SYS>>", "<</SYS>>"
BOS, EOS, UNK = "<s>", "</s>", "<unk>"
TAGS = (B_INST, E_INST, B_SYS, E_SYS, BOS, EOS, UNK)
ROLES = ("system", "user", "assistant")


_CANONICAL = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class MessagesError(ValueError):
    """Messages that break the contract; ``reason`` is a short stable word for counting, the text says how to fix them."""

    def __init__(self, reason: str, text: str):
        super().__init__(text)
        self.reason = reason


def tags_in(text: str) -> list[str]:
    """The chat-format tags that occur in ``text``."""
    return [tag for tag in TAGS if tag in text]


def check_messages(messages: Messages) -> None:
    """Raise MessagesError unless roles alternate after an optional system message and no user or system text holds a tag."""
    if not messages:
        raise MessagesError("empty", "there are no messages; give at least one user message")
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or set(message) != {"role", "content"} or message["role"] not in ROLES:
            raise MessagesError(
                "malformed", f"message {position} is {message!r}; it needs a role ({', '.join(ROLES)}) and a content"
            )
        if not isinstance(message["content"], str) or not message["content"].strip():
            raise MessagesError("empty", f"message {position} ({message['role']}) has no text")
        if message["role"] != "assistant" and (tags := tags_in(message["content"])):
            raise MessagesError(
                "chat_tags",
                f"message {position} ({message['role']}) holds the chat-format tag {tags[0]!r}; remove it from the text",
            )
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    for position, message in enumerate(turns):
        expected = ("user", "assistant")[position % 2]
        if message["role"] != expected:
            raise MessagesError(
                "not_alternating",
                f"message {position + len(messages) - len(turns)} is from {message['role']!r} where {expected!r} must speak; "
                "after an optional system message, user and assistant alternate",
            )
    if not turns:
        raise MessagesError("no_user_last", "there is only a system message; add a user message")


def check_prompt(messages: Messages) -> None:
    """Raise MessagesError unless ``messages`` is a well-formed prompt."""
    check_messages(messages)
    if messages[-1]["role"] != "user":
        raise MessagesError("no_user_last", "a prompt must end with a user message; its last message is the assistant's")


def check_dialogue(messages: Messages) -> None:
    """Raise MessagesError unless ``messages`` is a well-formed dialogue."""
    check_messages(messages)
    if messages[-1]["role"] != "assistant":
        raise MessagesError("no_assistant_last", "a dialogue must end with an assistant message; its last is the user's")


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def num_turns(messages: Messages) -> int:
    """Exchanges in ``messages``; an open last user message counts as one."""
    return sum(message["role"] == "user" for message in messages)


def messages_id(messages: Messages) -> str:
    """A stable id: the first 16 hex digits of the sha256 of the canonical JSON of ``messages``."""
    plain = [[message["role"], message["content"]] for message in messages]
    return hashlib.sha256(_CANONICAL.encode(plain).encode()).hexdigest()[:16]
