"""Making a checked Comparison from an annotator's judgement, and the reasons why a row cannot become one.

Every importer goes through ``make_comparison``. It refuses what no reward model can learn from: text that cannot be stored,
prompts that break the messages contract, empty or identical responses, and pairs whose chosen response is unsafe while the
rejected one is safe, which the paper drops (section 3.2.2).
"""

from typing import Final

from preference_data.comparison import Axis, Comparison, Rating, comparison_id, item_id
from preference_data.messages import Messages, MessagesError, check_prompt, messages_id

REASONS: Final[dict[str, str]] = {
    "broken_json": "the line is not JSON",
    "malformed": "a value has the wrong type or shape",
    "missing_field": "a required field is absent or null",
    "unknown_choice": "the format has no such choice",
    "unknown_rating": "the rating is none of the four",
    "identical_responses": "both responses are the same text",
    "empty": "a message or a response has no text",
    "not_alternating": "user and assistant do not take turns",
    "no_user_last": "the prompt does not end with a user message",
    "chat_tags": "user or system text holds a tag of the chat format",
    "chosen_unsafe": "the chosen response is labelled unsafe and the rejected one safe",
    "tie": "neither response was preferred",
    "not_judged": "nobody has judged the pair yet",
    "different_prompts": "the two responses do not answer the same prompt",
    "repeated": "somebody unnamed has already made this choice on this item",
    "duplicate": "the annotator has already made this choice on this item",
    "contradiction": "the annotator has already made the opposite choice on this item",
    "changed_text": "the texts are not those that were exported under this item's id",
    "not_handed_out": "the item is not among those that were exported",
    "too_long": "the dialogue has more tokens than allowed",
    "too_large": "the row has more bytes than are read",
    "invalid_text": "the text holds NUL characters, or bytes that are not UTF-8",
}
"""Every reason for which a row is rejected, with its meaning."""

DROPPED_BY_RULE: Final = (
    "identical_responses",
    "chosen_unsafe",
    "tie",
    "not_judged",
    "different_prompts",
    "repeated",
    "too_long",
)
"""Reasons of rows that are written correctly but hold no preference to learn; they are not faults of the file."""


class RowError(ValueError):
    """A row that cannot become a comparison; ``reason`` is a key of ``REASONS``, the text says how to fix the row."""

    def __init__(self, reason: str, text: str):
        super().__init__(text)
        assert reason in REASONS, reason
        self.reason = reason


def check_text(name: str, text: str) -> None:
    """Raise RowError("invalid_text") when ``text`` cannot be stored as UTF-8 or holds NUL."""
    if "\0" in text:
        raise RowError("invalid_text", f"{name} holds a NUL character; remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError(
            "invalid_text", f"{name} holds bytes or half a character that are not UTF-8; save the file as UTF-8"
        ) from error


def _check_prompt(prompt: Messages) -> None:
    try:
        check_prompt(prompt)
    except MessagesError as error:
        raise RowError(error.reason, f"prompt: {error}") from error
    for position, message in enumerate(prompt):
        check_text(f"message {position} of the prompt", message["content"])


def _check_responses(chosen: str, rejected: str) -> None:
    for name, response in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(response, str):
            raise RowError("malformed", f"the {name} response must be text; it is a {type(response).__name__}")
        if not response.strip():
            raise RowError("empty", f"the {name} response has no text; leave the pair out or supply the text")
        check_text(f"the {name} response", response)


def make_comparison(
    *,
    prompt: Messages,
    chosen: str,
    rejected: str,
    axis: Axis,
    source: str,
    rating: Rating = "unrated",
    is_safety: bool | None = None,
    chosen_safe: bool | None = None,
    rejected_safe: bool | None = None,
    risk_category: str | None = None,
    annotator: str | None = None,
    batch: str | None = None,
    chosen_policy: str | None = None,
    rejected_policy: str | None = None,
    chosen_temperature: float | None = None,
    rejected_temperature: float | None = None,
) -> Comparison:
    """A checked Comparison with its three ids. ``is_safety`` None: true on the safety axis. Raises RowError.

    Responses are compared without the white space around them, because the chat format strips it.
    """
    _check_prompt(prompt)
    _check_responses(chosen, rejected)
    for label in {source, risk_category, annotator, batch, chosen_policy, rejected_policy} - {None}:
        check_text("a label of the row", label or "")
    if chosen.strip() == rejected.strip():
        raise RowError(
            "identical_responses", "both responses are the same text: there is nothing to prefer; leave the pair out"
        )
    if chosen_safe is False and rejected_safe is True:
        raise RowError(
            "chosen_unsafe",
            "the chosen response is labelled unsafe and the rejected one safe; check the labels, or leave the pair out",
        )
    prompt_id = messages_id(prompt)
    item = item_id(prompt_id, chosen, rejected)
    return Comparison(
        id=comparison_id(item, axis, annotator, chosen),
        item_id=item,
        prompt_id=prompt_id,
        source=source,
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        rating=rating,
        axis=axis,
        is_safety=axis == "safety" if is_safety is None else is_safety,
        chosen_safe=chosen_safe,
        rejected_safe=rejected_safe,
        risk_category=risk_category,
        annotator=annotator,
        batch=batch,
        chosen_policy=chosen_policy,
        rejected_policy=rejected_policy,
        chosen_temperature=chosen_temperature,
        rejected_temperature=rejected_temperature,
    )
