"""Comparison: one annotator's choice between two responses, the record that every importer yields (paper 3.2.1)."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from preference_data.messages import Messages, assistant

Rating = Literal["significantly_better", "better", "slightly_better", "negligibly_better", "unrated"]
Axis = Literal["helpfulness", "safety"]
RATINGS: tuple[Rating, ...] = ("significantly_better", "better", "slightly_better", "negligibly_better")
AXES: tuple[Axis, ...] = ("helpfulness", "safety")
SAFETY_BINS: dict[str, tuple[bool, bool]] = {
    "chosen_safe_rejected_unsafe": (True, False),
    "both_safe": (True, True),
    "both_unsafe": (False, False),
}
"""The three bins of a pair, as (chosen is safe, rejected is safe); pairs of the fourth are dropped (paper 3.2.1)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One annotator's choice between two responses to one prompt.

    ``item_id`` identifies the prompt with its unordered pair of responses, so that all annotators of one item share it;
    ``id`` identifies this judgement. ``chosen_safe`` and ``rejected_safe`` are the annotator's safety labels (None:
    not labelled). ``*_policy`` and ``*_temperature`` say where the responses come from (None: unknown).
    """

    id: str
    item_id: str
    prompt_id: str
    source: str
    prompt: Messages
    chosen: str
    rejected: str
    rating: Rating
    axis: Axis
    is_safety: bool
    chosen_safe: bool | None = None
    rejected_safe: bool | None = None
    risk_category: str | None = None
    annotator: str | None = None
    batch: str | None = None
    chosen_policy: str | None = None
    rejected_policy: str | None = None
    chosen_temperature: float | None = None
    rejected_temperature: float | None = None

    @property
    def chosen_dialogue(self) -> Messages:
        return [*self.prompt, assistant(self.chosen)]

    @property
    def rejected_dialogue(self) -> Messages:
        return [*self.prompt, assistant(self.rejected)]


def item_id(prompt_id: str, one: str, other: str) -> str:
    """The id of a prompt with an unordered pair of responses."""
    first, second = sorted((one, other))
    return hashlib.sha256("\x1f".join((prompt_id, first, second)).encode()).hexdigest()[:16]


def comparison_id(item: str, axis: str, annotator: str | None, chosen: str) -> str:
    """The id of one judgement of an item."""
    return hashlib.sha256("\x1f".join((item, axis, annotator or "", chosen)).encode()).hexdigest()[:16]
