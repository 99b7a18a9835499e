"""Chatbot Arena battles: one person's vote between the dialogues of two models.

Battle rows (lmsys/chatbot_arena_conversations, lmarena-ai/arena-human-preference-100k and -140k): ``{"model_a", "model_b",
"winner", "conversation_a", "conversation_b"}``, the conversations as messages or as their JSON. The Kaggle file
(lmsys-arena-human-preference-55k): ``prompt``, ``response_a`` and ``response_b``, each a JSON list with one text a turn, and
``winner_model_a``, ``winner_model_b``, ``winner_tie``, of which one is 1.

The models are the policies, ``judge`` or ``judge_hash`` is the annotator. Votes for neither model are ties. From the second
turn on each model answers its own history, so such a vote does not compare two responses to one prompt: the reason is
different_prompts, unless the histories are the same. The same holds for a 140k row whose ``full_conversation`` has turns before
the judged ones. There are no ratings and no human safety labels; language, tags and moderation scores are not read.
"""

import json
from collections.abc import Iterator
from typing import Any

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell
from preference_data.judgement import RowError
from preference_data.messages import Messages, assistant, user
from preference_data.values import Row, items, label, lacks, messages_in, needed, shown, whole_number

NAME = "chatbot_arena"
BATTLE = ("model_a", "model_b", "winner", "conversation_a", "conversation_b")
FLAGS = ("winner_model_a", "winner_model_b", "winner_tie")
KAGGLE = ("model_a", "model_b", "prompt", "response_a", "response_b", *FLAGS)
_TEXT = ("model_a", "model_b", "winner", "judge", "judge_hash", "question_id", "id", "evaluation_session_id", "language")
_JSON = (
    *("conversation_a", "conversation_b", "full_conversation", "prompt", "response_a", "response_b", *FLAGS),
    *("turn", "anony", "tstamp", "timestamp", "evaluation_order", "conv_metadata", "category_tag", "occupational_tags"),
    *("is_code", "is_refusal", "dedup_tag", "openai_moderation", "toxic_chat_tag"),
)
FIELDS: dict[str, Cell] = {**dict.fromkeys(_TEXT, "text"), **dict.fromkeys(_JSON, "json")}
WINNERS = {"model_a": "a", "model_b": "b", "tie": None, "tie (bothbad)": None, "both_bad": None}


def misfit(row: Row) -> str | None:
    return lacks(row, KAGGLE if any(name in row for name in FLAGS) else BATTLE)


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any]]:
    is_battle = "conversation_a" in row
    chosen = _winner(row) if is_battle else _flagged(row)
    if chosen is None:
        raise RowError("tie", "the vote is for neither model; leave the row out")
    rejected = "b" if chosen == "a" else "a"
    dialogues = {side: _conversation(row, side) if is_battle else _turns(row, side) for side in "ab"}
    for side, dialogue in dialogues.items():
        if not dialogue or dialogue[-1]["role"] != "assistant":
            raise RowError("malformed", f"the dialogue with model_{side} does not end with an assistant message; complete it")
    if dialogues["a"][:-1] != dialogues["b"][:-1] or _earlier_turns(row, dialogues["a"]):
        raise RowError("different_prompts", "the models answered different histories; leave the row out")
    yield {
        "prompt": dialogues[chosen][:-1],
        "chosen": dialogues[chosen][-1]["content"],
        "rejected": dialogues[rejected][-1]["content"],
        "annotator": label(row, "judge") or label(row, "judge_hash"),
        "chosen_policy": label(row, f"model_{chosen}"),
        "rejected_policy": label(row, f"model_{rejected}"),
    }


def _winner(row: Row) -> str | None:
    """``a``, ``b``, or None for a tie."""
    winner = row.get("winner")
    if winner is None or winner == "":
        raise RowError("not_judged", "winner is empty; leave the row out")
    if not isinstance(winner, str) or winner not in WINNERS:
        raise RowError("unknown_choice", f"winner is {shown(winner)}; it must be one of {', '.join(WINNERS)}")
    return WINNERS[winner]


def _flagged(row: Row) -> str | None:
    needed(row, FLAGS)
    flags = [whole_number(row, name, (0, 1)) for name in FLAGS]
    if sum(flags) != 1:
        raise RowError("unknown_choice", f"{', '.join(FLAGS)} are {flags}; one of them must be 1 and the others 0")
    return ("a", "b", None)[flags.index(1)]


def _list(row: Row, name: str) -> list[Any]:
    """A list, or the JSON of one."""
    needed(row, [name])
    value = row[name]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowError("malformed", f"{name} is text but not JSON ({error}); write a list") from error
    return items({name: value}, name)


def _conversation(row: Row, side: str) -> Messages:
    name = f"conversation_{side}"
    return messages_in([_plain(message) for message in _list(row, name)], name)


def _plain(message: Any) -> Any:
    """``message`` with a list of texts joined to one; a content with pictures stays as it is, to be refused later."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list) or not all(_is_text(part) for part in content):
        return message
    return message | {"content": "\n".join(part["text"] for part in content)}


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str) and not part.get("image")


def _turns(row: Row, side: str) -> Messages:
    """The dialogue of two lists of texts; a turn without a response has null."""
    prompts, responses = _list(row, "prompt"), _list(row, f"response_{side}")
    if len(prompts) != len(responses):
        found = f"prompt has {len(prompts)} texts and response_{side} {len(responses)}"
        raise RowError("malformed", f"{found}; each must have one a turn")
    for content in (*prompts, *responses):
        if not isinstance(content, str | None):
            raise RowError("malformed", f"prompt and response_{side} must be lists of texts; one item is {shown(content)}")
    turns = zip(prompts, responses, strict=True)
    return [message for prompt, response in turns for message in (user(prompt or ""), assistant(response or ""))]


def _earlier_turns(row: Row, dialogue: Messages) -> bool:
    """Whether the session had turns before those of ``dialogue``, which each model answered in its own way."""
    if row.get("full_conversation") in (None, ""):
        return False
    return len(_list(row, "full_conversation")) > sum(message["role"] == "user" for message in dialogue)
