"""What is in a set of comparisons: the columns of paper Tables 6 and 26, rating shares (Figure 25), safety bins, length.

Tokens are counted by whoever knows a tokenizer, through ``count_tokens``; without it words are counted. As in the paper an
*example* is the whole dialogue with one response, and the *prompt* column counts the last user message alone (with 3.0
turns and 251.5 tokens an example, 17.7 tokens cannot be the whole prompt). Examples and responses are averaged over both
sides of a pair.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from preference_data.comparison import RATINGS, Comparison
from preference_data.messages import Messages, assistant, num_turns

CountTokens = Callable[[Messages], int]
Key = Literal["source", "batch", "axis", "rating", "annotator", "risk_category"]
KEYS: tuple[Key, ...] = get_args(Key)
SAFETY_BINS = ("chosen_safe_rejected_unsafe", "both_safe", "both_unsafe")
Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal


def wilson(share: float, n: int) -> tuple[float, float]:
    """The ends of Wilson's 95 % score interval for a ``share`` in [0, 1] of ``n`` > 0 independent observations (1927)."""
    spread = Z_95**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    # at the ends the formula gives 0 and 1 but for rounding
    return 0.0 if share == 0 else centre - half, 1.0 if share == 1 else centre + half


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``total``, with its 95 % Wilson interval; NaN of nothing."""

    count: int
    total: int

    @property
    def share(self) -> float:
        return self.count / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high) in [0, 1] (Wilson 1927)."""
        return wilson(self.share, self.total) if self.total else (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Statistics:
    """One row of Table 6 and what goes with it. Token columns are means; ``unit`` says of what.

    ``ratings``: share of each rating among the rated, with ``unrated`` among all. ``safety``: share of each bin among the
    pairs labelled on both sides. ``length_difference``: mean of chosen - rejected. ``longer_chosen``: how often the longer
    response is the chosen one, where the lengths differ; the accuracy of length alone.
    """

    comparisons: int
    prompts: int
    turns_per_dialogue: float
    tokens_per_example: float
    tokens_per_prompt: float
    tokens_per_response: float
    unit: Literal["tokens", "words"]
    ratings: dict[str, Share]
    safety: dict[str, Share]
    length_difference: float
    longer_chosen: Share


def count_words(messages: Messages) -> int:
    """White-space separated words in all messages."""
    return sum(len(message["content"].split()) for message in messages)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _rating_shares(comparisons: Sequence[Comparison]) -> dict[str, Share]:
    counts = Counter(comparison.rating for comparison in comparisons)
    rated = len(comparisons) - counts["unrated"]
    shares: dict[str, Share] = {rating: Share(counts[rating], rated) for rating in RATINGS}
    return shares | {"unrated": Share(counts["unrated"], len(comparisons))}


def _safety_shares(comparisons: Sequence[Comparison]) -> dict[str, Share]:
    labels = [(comparison.chosen_safe, comparison.rejected_safe) for comparison in comparisons]
    counts = Counter(pair for pair in labels if None not in pair)
    bins = dict(zip(SAFETY_BINS, ((True, False), (True, True), (False, False)), strict=True))
    return {name: Share(counts[pair], counts.total()) for name, pair in bins.items()}


def describe(comparisons: Sequence[Comparison], count_tokens: CountTokens | None = None) -> Statistics:
    """Statistics of all ``comparisons`` together; means of nothing are NaN.

    ``count_tokens`` must count the tokens of the texts of any list of messages, a lone assistant message included,
    without the tags of the chat format.
    """
    count = count_tokens or count_words
    examples, prompts, responses, differences = [], [], [], []
    for comparison in comparisons:
        chosen, rejected = (count([assistant(text)]) for text in (comparison.chosen, comparison.rejected))
        response = (chosen + rejected) / 2
        responses.append(response)
        examples.append(count(comparison.prompt) + response)
        prompts.append(count(comparison.prompt[-1:]))
        differences.append(chosen - rejected)
    return Statistics(
        comparisons=len(comparisons),
        prompts=len({comparison.prompt_id for comparison in comparisons}),
        turns_per_dialogue=_mean([num_turns(comparison.prompt) for comparison in comparisons]),
        tokens_per_example=_mean(examples),
        tokens_per_prompt=_mean(prompts),
        tokens_per_response=_mean(responses),
        unit="tokens" if count_tokens else "words",
        ratings=_rating_shares(comparisons),
        safety=_safety_shares(comparisons),
        length_difference=_mean(differences),
        longer_chosen=Share(sum(d > 0 for d in differences), sum(d != 0 for d in differences)),
    )


def describe_by(comparisons: Iterable[Comparison], key: Key, count_tokens: CountTokens | None = None) -> dict[str, Statistics]:
    """Statistics for each value of ``key``, in sorted order; ``(none)`` where a comparison has no value. Raises ValueError."""
    if key not in KEYS:
        raise ValueError(f"comparisons cannot be grouped by {key!r}; use one of {', '.join(KEYS)}")
    groups: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault(getattr(comparison, key) or "(none)", []).append(comparison)
    return {name: describe(groups[name], count_tokens) for name in sorted(groups)}
