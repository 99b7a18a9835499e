"""Statistics of comparisons: the columns of paper Tables 6 and 26, rating shares (Figure 25), safety bins, lengths.

The caller passes a tokenizer's ``count_tokens``; without it words are counted. As in the paper, an *example* is the whole
dialogue with one response, and the *prompt* column counts only the last user message (with 3.0 turns and 251.5 tokens an
example, 17.7 tokens cannot be the whole prompt). Examples and responses are averaged over both sides of a comparison.

A ``Tally`` takes batches of rows, any number of them, and keeps only sums by group and the ids that have occurred.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preference_data.comparison import RATINGS, SAFETY_BINS, Comparison
from preference_data.measuring.columns import UNLABELLED, Names, Numbers, flags, ids, item_ids, labels, sums_by_row
from preference_data.measuring.grouped import Groups
from preference_data.parquet import ROW_GROUP, table_of

CountTokens = Callable[[list[str]], Sequence[int]]
Key = Literal["source", "batch", "axis", "rating", "annotator", "risk_category"]
KEYS: tuple[Key, ...] = get_args(Key)
COLUMNS = (
    "item_id", "prompt_id", "source", "prompt", "chosen", "rejected", "rating", "axis",
    "chosen_safe", "rejected_safe", "risk_category", "annotator", "batch",
)  # fmt: skip
"""The columns of comparisons that a Tally reads."""
_RANKED = (*RATINGS, "unrated")
Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal


def wilson(share: float, n: int) -> tuple[float, float]:
    """The ends of Wilson's 95 % score interval for a ``share`` in [0, 1] of ``n`` > 0 independent observations (1927)."""
    spread = Z_95**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    # at the ends the formula gives exactly 0 and 1, up to rounding
    return 0.0 if share == 0 else centre - half, 1.0 if share == 1 else centre + half


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``total``, with its 95 % Wilson interval; NaN where ``total`` is 0."""

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
    """One row of Table 6, with ratings, safety labels and lengths. Token columns are means, counted in ``unit``.

    ``items``: prompts with a pair of responses, on one axis. ``annotators``: those with a name. ``ratings``: share of each
    rating among rated comparisons, and of ``unrated`` among all. ``safety``: share of each bin among comparisons with both
    labels. ``unsafe``: share of labels that say unsafe. ``length_difference``: mean of chosen - rejected. ``longer_chosen``:
    how often the longer response is the chosen one, where the lengths differ; this is the accuracy of length alone.
    """

    comparisons: int
    prompts: int
    items: int
    annotators: int
    turns_per_dialogue: float
    tokens_per_example: float
    tokens_per_prompt: float
    tokens_per_response: float
    unit: Literal["tokens", "words"]
    ratings: dict[str, Share]
    safety: dict[str, Share]
    unsafe: Share
    length_difference: float
    longer_chosen: Share


def count_words(texts: list[str]) -> list[int]:
    """White-space separated words of each text."""
    return [len(text.split()) for text in texts]


class Tally:
    """Statistics of all batches that are added, and of their groups by each of ``keys``.

    ``count_tokens`` counts the tokens of each text, without the tags of the chat format. Raises ValueError for an unknown key.
    """

    def __init__(self, keys: Iterable[str] = (), count_tokens: CountTokens | None = None):
        self._count: CountTokens = count_tokens or count_words
        self._unit: Literal["tokens", "words"] = "tokens" if count_tokens else "words"
        self._annotators = Names()
        self._all = Groups()
        self._by = {_checked(key): (Names(), Groups()) for key in keys}

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch that has ``COLUMNS``, or more."""
        measures = _measures(batch, self._count)
        is_named = flags(batch["annotator"].is_valid())
        all_rows = np.ones(len(batch), np.bool_)
        distinct = {
            "prompts": (ids(batch["prompt_id"]), all_rows),
            "items": (item_ids(batch), all_rows),
            "annotators": (self._annotators.places(batch["annotator"]).astype(np.uint64), is_named),
        }
        self._all.add(np.zeros(len(batch), np.int64), 1, measures, distinct)
        for key, (names, groups) in self._by.items():
            places = names.places(batch[key])
            groups.add(places, len(names), measures, distinct)

    def total(self) -> Statistics:
        """Statistics of all together; means of nothing are NaN."""
        return self._statistics(self._all, 0)

    def by(self, key: str) -> dict[str, Statistics]:
        """Statistics for each value of ``key``, in the order of ``place_of``; ``(none)`` where comparisons have no value."""
        names, groups = self._by[_checked(key)]
        by_name = {name: self._statistics(groups, place) for place, name in enumerate(names.names())}
        return {name: by_name[name] for name in sorted(by_name, key=place_of)}

    def _statistics(self, groups: Groups, place: int) -> Statistics:
        return _statistics(groups.sums(place), groups.distinct(place), self._unit)


def _checked(key: str) -> str:
    if key not in KEYS:
        raise ValueError(f"comparisons cannot be grouped by {key!r}; use one of {', '.join(KEYS)}")
    return key


def place_of(name: str) -> tuple[int, str]:
    """A sort key for the values of a key: ratings from the strongest, then other values, week-2 before week-10."""
    rank = _RANKED.index(name) if name in _RANKED else len(_RANKED)
    return rank, re.sub(r"\d+", lambda number: number[0].zfill(12), name)


def _measures(batch: pa.RecordBatch, count_tokens: CountTokens) -> dict[str, Numbers]:
    """The quantities to sum, for each row; summed over both sides where the mean is taken over both."""
    roles, contents = batch["prompt"].flatten().flatten()
    lengths = batch["prompt"].value_lengths().to_numpy().astype(np.int64)
    counted, chosen, rejected = (
        np.asarray(count_tokens(texts.to_pylist()), dtype=np.int64) for texts in (contents, batch["chosen"], batch["rejected"])
    )
    difference = chosen - rejected
    measures: dict[str, Numbers] = {
        "comparisons": np.ones(len(batch), np.int64),
        "turns": sums_by_row(flags(pc.equal(roles, "user")), lengths),
        "examples": 2 * sums_by_row(counted, lengths) + chosen + rejected,
        "prompts": counted[np.cumsum(lengths) - 1],
        "responses": chosen + rejected,
        "difference": difference,
        "longer": difference > 0,
        "different": difference != 0,
    }
    for rating in _RANKED:
        measures[rating] = flags(pc.equal(batch["rating"], rating))
    first, second = labels(batch["chosen_safe"]), labels(batch["rejected_safe"])
    for name, (chosen_safe, rejected_safe) in SAFETY_BINS.items():
        measures[name] = (first == chosen_safe) & (second == rejected_safe)
    measures["labelled"] = (first != UNLABELLED) & (second != UNLABELLED)
    measures["labels"] = (first != UNLABELLED).astype(np.int64) + (second != UNLABELLED)
    measures["unsafe"] = (first == 0).astype(np.int64) + (second == 0)
    return measures


def _statistics(sums: Mapping[str, float], distinct: Mapping[str, float], unit: Literal["tokens", "words"]) -> Statistics:
    def share(name: str, total: float) -> Share:
        return Share(int(sums[name]), int(total))

    def mean(name: str, sides: int = 1) -> float:
        return sums[name] / (sides * sums["comparisons"]) if sums["comparisons"] else math.nan

    rated = sums["comparisons"] - sums["unrated"]
    ratings: dict[str, Share] = {rating: share(rating, rated) for rating in RATINGS}
    return Statistics(
        comparisons=int(sums["comparisons"]),
        prompts=int(distinct["prompts"]),
        items=int(distinct["items"]),
        annotators=int(distinct["annotators"]),
        turns_per_dialogue=mean("turns"),
        tokens_per_example=mean("examples", 2),
        tokens_per_prompt=mean("prompts"),
        tokens_per_response=mean("responses", 2),
        unit=unit,
        ratings=ratings | {"unrated": share("unrated", sums["comparisons"])},
        safety={name: share(name, sums["labelled"]) for name in SAFETY_BINS},
        unsafe=share("unsafe", sums["labels"]),
        length_difference=mean("difference"),
        longer_chosen=share("longer", sums["different"]),
    )


def describe(comparisons: Sequence[Comparison], count_tokens: CountTokens | None = None) -> Statistics:
    """Statistics of all ``comparisons`` together; means of nothing are NaN."""
    tally = Tally(count_tokens=count_tokens)
    for batch in table_of(comparisons, Comparison).to_batches(ROW_GROUP):
        tally.add(batch)
    return tally.total()
