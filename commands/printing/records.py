"""``rlhf data show``: comparisons and dialogues as a person reads them, and as a model would."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from commands.printing.measures import visible
from preference_data.comparison import Comparison
from preference_data.margin import margin
from preference_data.messages import Messages, num_turns
from preference_data.picked_rows import Picked
from preference_data.prompt import Dialogue

if TYPE_CHECKING:
    from stages.engine.model_text import ModelText, SeenText

MARKS = ("«", "»")
_GUTTER = 11
_WIDEST = 100
_STYLES = {"chosen": "green", "rejected": "red", "system": "dim", "user": "bold", "assistant": "bold"}
_MARKED = "bold reverse"
_SAFETY = {True: "safe", False: "unsafe", None: "not labelled"}
Line = tuple[str, str]
_BLANK: Line = ("", "")


def records_json(picked: Sequence[Picked], model: "ModelText | None") -> list[dict[str, Any]]:
    """Records with their fields, where they stand, and what a model sees of them. Raises as ``seen_text``."""
    shown = []
    for row in picked:
        record = {"side": row.side, "row": row.row, **dataclasses.asdict(row.record)}
        if model:
            record["seen"] = {name: _seen_json(seen) for name, seen in _seen(row, model).items()}
        shown.append(record)
    return shown


def _seen_json(seen: "SeenText") -> dict[str, Any]:
    parts = [{"text": text, "marked": marked} for text, marked in seen.parts]
    return {"num_tokens": seen.num_tokens, "num_marked": seen.num_marked, "parts": parts}


def print_records(picked: Sequence[Picked], first_number: int, model: "ModelText | None", console: Console) -> None:
    """Records under ruled headings, numbered, after a line that explains the marks. Raises as ``seen_text``."""
    width = min(console.width, _WIDEST)
    if model:
        console.print(Text(_legend(model, isinstance(picked[0].record, Dialogue), console)), soft_wrap=True)
    for number, row in enumerate(picked, start=first_number):
        heading = f"── {number} · {row.side} row {row.row} "
        console.print(Text(heading.ljust(width, "─"), style="bold"), soft_wrap=True)
        lines = comparison_lines if isinstance(row.record, Comparison) else dialogue_lines
        for label, text in lines(row.record):
            _print_line(label, Text(visible(text)), width, console)
        for name, seen in _seen(row, model).items() if model else ():
            assert model
            console.print(Text(f"\n{name} as {model.name} takes it in: {_counts(seen, model)}"), soft_wrap=True)
            _print_line("", _marked(seen, console), width, console)
        console.print()


def _seen(picked: Picked, model: "ModelText") -> "dict[str, SeenText]":
    """The dialogue as ``model`` takes it in; of a comparison the side that would be trained, or both that are scored."""
    from stages.engine.model_text import seen_text

    record = picked.record
    if isinstance(record, Dialogue):
        return {"dialogue": seen_text(model, record.messages, record.train_on)}
    dialogues = {"chosen": record.chosen_dialogue}
    if model.kind == "reward_model":
        dialogues["rejected"] = record.rejected_dialogue
    return {name: seen_text(model, dialogue, "last") for name, dialogue in dialogues.items()}


def _legend(model: "ModelText", is_dialogues: bool, console: Console) -> str:
    how = "highlighted" if console.is_terminal else f"{MARKS[0]}…{MARKS[1]}"
    if model.kind == "reward_model":
        return f"{how}: the token at which {model.name} reads the score"
    return f"{how}: the tokens that fine-tuning {'' if is_dialogues else 'on the chosen response '}would train"


def comparison_lines(comparison: Comparison) -> Iterator[Line]:
    """What a comparison holds, in the order of reading."""
    yield from _message_lines(comparison.prompt)
    for side, response in (("chosen", comparison.chosen), ("rejected", comparison.rejected)):
        yield _BLANK
        yield side, response
    yield _BLANK
    yield "rating", comparison.rating.replace("_", " ") + _margins(comparison)
    safety = f"chosen {_SAFETY[comparison.chosen_safe]}, rejected {_SAFETY[comparison.rejected_safe]}"
    category = f"; risk category {comparison.risk_category}" if comparison.risk_category else ""
    yield "safety", f"{safety}{category}{'; safety prompt' if comparison.is_safety else ''}"
    batch = f", batch {comparison.batch}" if comparison.batch else ""
    yield "judged", f"for {comparison.axis} by {comparison.annotator or 'an unnamed annotator'}{batch}"
    yield "from", f"{comparison.source}; chosen {_made_by(comparison, 'chosen')}, rejected {_made_by(comparison, 'rejected')}"
    yield "ids", f"comparison {comparison.id}, item {comparison.item_id}, prompt {comparison.prompt_id}"


def _margins(comparison: Comparison) -> str:
    if comparison.rating == "unrated":
        return ""
    return f" (margin {margin(comparison.rating, 'small'):.2g} small, {margin(comparison.rating, 'large'):.2g} large)"


def _made_by(comparison: Comparison, side: str) -> str:
    policy, temperature = getattr(comparison, f"{side}_policy"), getattr(comparison, f"{side}_temperature")
    return f"of {policy or 'an unknown policy'}" + ("" if temperature is None else f" at temperature {temperature:g}")


def dialogue_lines(dialogue: Dialogue) -> Iterator[Line]:
    """What a dialogue holds."""
    yield from _message_lines(dialogue.messages)
    yield _BLANK
    turns = num_turns(dialogue.messages)
    answers = "all answers are trained" if dialogue.train_on == "all" else "the last answer is trained"
    safety = "; safety prompt" if dialogue.is_safety else ""
    yield "about", f"{turns} {'turn' if turns == 1 else 'turns'}, {answers}{safety}"
    yield "from", f"family {dialogue.family}, source {dialogue.source}"
    yield "ids", f"prompt {dialogue.prompt_id}"


def _message_lines(messages: Messages) -> Iterator[Line]:
    for message in messages:
        yield message["role"], message["content"]


def _counts(seen: "SeenText", model: "ModelText") -> str:
    if model.kind == "reward_model":
        return f"{seen.num_tokens} tokens, the score is read at the last"
    return f"{seen.num_tokens} tokens, {seen.num_marked} trained"


def _marked(seen: "SeenText", console: Console) -> Text:
    text = Text()
    for part, marked in seen.parts:
        if marked and not console.is_terminal:
            text.append(f"{MARKS[0]}{visible(part)}{MARKS[1]}")
        else:
            text.append(visible(part), style=_MARKED if marked else "")
    return text


def _print_line(label: str, text: Text, width: int, console: Console) -> None:
    """``text`` folded beside ``label``."""
    style = _STYLES.get(label, "dim")
    for place, line in enumerate(text.wrap(console, width - _GUTTER)):
        gutter = Text((label if place == 0 else "").ljust(_GUTTER), style=style)
        whole = Text.assemble(gutter, line)
        whole.rstrip()
        console.print(whole, soft_wrap=True)
