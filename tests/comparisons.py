"""Comparisons that the tests share."""

from preference_data.comparison import Comparison
from preference_data.judgement import make_comparison
from preference_data.messages import user

EVERY_LABEL = {
    "rating": "better", "is_safety": True, "chosen_safe": True, "rejected_safe": False, "risk_category": "r", "annotator": "7",
    "batch": "w1", "chosen_policy": "p@2", "rejected_policy": "p@1", "chosen_temperature": 0.5, "rejected_temperature": 1.0,
}  # fmt: skip
"""A value of each field that need not be given."""


def comparison(prompt="q", chosen="a", rejected="b", axis="safety", source="s", **labels) -> Comparison:
    """A checked comparison of two responses to ``prompt``, messages or the text of one."""
    messages = [user(prompt)] if isinstance(prompt, str) else prompt
    return make_comparison(prompt=messages, chosen=chosen, rejected=rejected, axis=axis, source=source, **labels)
