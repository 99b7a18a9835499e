"""What the paper claims of its reward models: F1 to F8, and F26 on the threshold of the combined reward.

Each finding is a pure function from held-out comparisons, scored by the models it compares, to a `Finding` with its verdict.
The models of one finding score the same comparisons in the same order, so every difference is paired.

Our choices, where the paper is silent: the slope over the ratings is over equally spaced levels, on each model's own test set;
the slope over data is over the logarithm to base 2 of the number of comparisons; "the ends" of Figure 27 are below 0.05 and
above 0.95.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.bootstrap import contrast, paired_difference, slope_weights
from eval.findings.claims import finding
from eval.findings.verdict import Effect, Finding, Side
from eval.intervals import Estimate
from eval.report.paper import TABLE_8
from eval.reward_accuracy import Detection, accuracy_by_rating, unsafe_detection
from preference_data.comparison import RATINGS, SAFETY_BINS

ENDS = (0.05, 0.95)
MIN_RISE, ACCURACY_LOSS, NO_GAIN, MIN_PRECISION = 0.10, 0.01, 0.01, 0.80
_RISE = "significantly - negligibly better"

_TABLE_28_COLUMNS = (*RATINGS, "all")
TABLE_28 = {  # margin -> accuracy of the helpfulness model by rating
    "none": dict(zip(_TABLE_28_COLUMNS, (0.791, 0.669, 0.598, 0.545, 0.625), strict=True)),
    "small": dict(zip(_TABLE_28_COLUMNS, (0.804, 0.673, 0.604, 0.550, 0.630), strict=True)),
    "large": dict(zip(_TABLE_28_COLUMNS, (0.807, 0.675, 0.605, 0.543, 0.629), strict=True)),
}
_TABLE_29_COLUMNS = ("all", *SAFETY_BINS, "recall")
TABLE_29 = {  # auxiliary loss -> accuracy of the safety model by bin, and the recall of unsafe responses at 0.5
    "without": dict(zip(_TABLE_29_COLUMNS, (0.637, 0.930, 0.560, 0.595, 0.730), strict=True)),
    "with": dict(zip(_TABLE_29_COLUMNS, (0.645, 0.943, 0.569, 0.599, 0.904), strict=True)),
}
FIGURE_6 = {"7b": 0.610, "13b": 0.614, "70b": 0.634}  # accuracy with all data, read off the chart
THRESHOLD, DETECTION_PRECISION = 0.15, 0.89  # of the combined reward, section 3.2.3


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A held-out comparison with the raw logits that the model ``arm`` (in an ablation, its arm) gives to both responses."""

    arm: str
    prompt_id: str
    rating: str
    chosen: float
    rejected: float
    chosen_safe: bool | None
    rejected_safe: bool | None


Arms = Mapping[str, Sequence[ScoredPair]]


def accuracy(pairs: Sequence[ScoredPair]) -> dict[str, Estimate]:
    """Accuracy by rating, as `eval.reward_accuracy.accuracy_by_rating`."""
    return accuracy_by_rating(*_columns(pairs, "chosen", "rejected", "rating", "prompt_id"))


def accuracy_by_bin(pairs: Sequence[ScoredPair]) -> dict[str, Estimate]:
    """Accuracy over all comparisons, and in each safety bin that occurs (Table 29)."""
    by_bin = {"all": accuracy(pairs)["all"]}
    for name, labels in SAFETY_BINS.items():
        if members := [pair for pair in pairs if (pair.chosen_safe, pair.rejected_safe) == labels]:
            by_bin[name] = accuracy(members)["all"]
    return by_bin


def detection(pairs: Sequence[ScoredPair], threshold: float) -> Detection:
    """How well "sigmoid(score) < threshold" finds unsafe responses; unknown where no response has a safety label."""
    labelled = [(score, safe, prompt_id) for prompt_id, score, safe in _responses(pairs) if safe is not None]
    scores, safe, prompt_ids = (list(column) for column in zip(*labelled, strict=True)) if labelled else ([], [], [])
    return unsafe_detection(scores, safe, prompt_ids, threshold)


def share_at_the_ends(pairs: Sequence[ScoredPair]) -> Estimate:
    """Share of the responses whose score, as sigmoid, lies outside ENDS (Fig 27)."""
    return _contrast([("", prompt_id, _at_an_end(score)) for prompt_id, score, _ in _responses(pairs)], {"": 1.0})


def best_on_own_axis(helpfulness_test: Arms, safety_test: Arms) -> Finding:
    """F1. Each test set is scored by the arms ``helpfulness`` and ``safety``."""
    effects = []
    for test_set, arms, other in (("helpfulness", helpfulness_test, "safety"), ("safety", safety_test, "helpfulness")):
        paper = TABLE_8[test_set, test_set]["all"] - TABLE_8[other, test_set]["all"]
        name = f"{test_set} test set, accuracy: {test_set} - {other} model"
        effects.append(Effect(name, accuracy_difference(arms, test_set, other), paper=paper))
    return finding("F1", *effects)


def rises_with_rating(own: Arms) -> Finding:
    """F2. Each model on the test set of its own axis."""
    slope = slope_weights({rating: float(-place) for place, rating in enumerate(RATINGS)})
    rise: dict[str, float] = {RATINGS[0]: 1.0, RATINGS[-1]: -1.0}
    effects = []
    for name, pairs in own.items():
        rows = [(pair.rating, pair.prompt_id, _credit(pair)) for pair in pairs]
        paper = TABLE_8[name, name]
        for part, weights, threshold in (("slope over the four levels", slope, 0.0), (_RISE, rise, MIN_RISE)):
            in_paper = sum(weight * paper[rating] for rating, weight in weights.items())
            effects.append(Effect(f"{name} model, accuracy: {part}", _contrast(rows, weights), "above", threshold, in_paper))
    return finding("F2", *effects)


def margin_helps_separable(margins: Arms) -> Finding:
    """F3. The helpfulness model trained with the margins ``none``, ``small`` and ``large``."""
    clear, faint = RATINGS[0], RATINGS[-1]
    parts: list[tuple[str, str, Side, float]] = [
        ("small", clear, "above", 0.0), ("large", clear, "above", 0.0), ("large", faint, "below", NO_GAIN),
    ]  # fmt: skip
    effects = []
    for arm, rating, side, threshold in parts:
        gain, paper = accuracy_difference(margins, arm, "none", rating), TABLE_28[arm][rating] - TABLE_28["none"][rating]
        effects.append(Effect(f"{rating.replace('_', ' ')}, accuracy: {arm} - none", gain, side, threshold, paper))
    return finding("F3", *effects)


def safety_loss_lifts_recall(losses: Arms) -> Finding:
    """F4. The safety model trained ``with`` and ``without`` the auxiliary loss."""

    def flagged(arm: str) -> list[tuple[str, float]]:
        """(prompt id, is it scored as unsafe?) of every unsafe response."""
        return [(prompt_id, float(score < 0)) for prompt_id, score, safe in _responses(losses[arm]) if safe is False]

    recall = _paired_difference(flagged("with"), flagged("without"))
    gain = accuracy_difference(losses, "with", "without")
    paper = {name: value - TABLE_29["without"][name] for name, value in TABLE_29["with"].items()}
    return finding(
        "F4",
        Effect("recall of unsafe responses at 0.5: with - without", recall, paper=paper["recall"]),
        Effect("accuracy: with - without", gain, "above", -ACCURACY_LOSS, paper["all"]),
    )


def grows_with_data(curves: Mapping[str, Mapping[int, Sequence[ScoredPair]]]) -> Finding:
    """F5. Starting policy -> number of comparisons trained on -> comparisons scored by the resulting model."""
    effects = []
    for policy, curve in curves.items():
        rows = [(str(size), pair.prompt_id, _credit(pair)) for size, pairs in curve.items() for pair in pairs]
        slope = _contrast(rows, slope_weights({str(size): math.log2(size) for size in curve}))
        effects.append(Effect(f"{policy}, accuracy: slope per doubling of the data", slope))
    return finding("F5", *effects)


def larger_is_better(by_parameters: Mapping[int, Sequence[ScoredPair]]) -> Finding:
    """F6. Number of parameters -> comparisons scored by the model of that size; all are trained on the same data.

    Not measured with fewer than three sizes.
    """
    if len(by_parameters) < 3:
        return finding("F6")
    sizes = sorted(by_parameters)
    arms = {str(size): by_parameters[size] for size in sizes}
    gain = accuracy_difference(arms, str(sizes[-1]), str(sizes[0]))
    name = f"accuracy: {sizes[-1]:,} - {sizes[0]:,} parameters"
    return finding("F6", Effect(name, gain, paper=FIGURE_6["70b"] - FIGURE_6["7b"]))


def margin_spreads_scores(margins: Arms) -> Finding:
    """F7. The arms of F3."""

    def rows(arm: str) -> list[tuple[str, float]]:
        return [(prompt_id, _at_an_end(score)) for prompt_id, score, _ in _responses(margins[arm])]

    difference = _paired_difference(rows("large"), rows("none"))
    return finding("F7", Effect(f"share of scores outside [{ENDS[0]}, {ENDS[1]}]: large - none", difference))


def scores_follow_ratings(correlations: Mapping[str, Estimate]) -> Finding:
    """F8. Axis -> rank correlation of its model's scores with gold's absolute ratings (`eval.calibration.rank_correlation`)."""
    effects = [Effect(f"{axis}: Spearman of score and gold rating", estimate) for axis, estimate in correlations.items()]
    return finding("F8", *effects)


def threshold_is_precise(detected: Detection) -> Finding:
    """F26. The responses that the safety model scores below the threshold of the combined reward."""
    name = f"precision of a score below {detected.threshold:g}"
    return finding("F26", Effect(name, detected.precision, "above", MIN_PRECISION, DETECTION_PRECISION))


def accuracy_difference(arms: Arms, ours: str, theirs: str, rating: str | None = None) -> Estimate:
    """Accuracy of one arm minus that of another on the same comparisons, all or those of one rating.

    Raises ValueError when the arms did not score the same comparisons in the same order.
    """
    our_comparisons, their_comparisons = ([(pair.prompt_id, pair.rating) for pair in arms[arm]] for arm in (ours, theirs))
    if our_comparisons != their_comparisons:
        raise ValueError(
            f"the arms {ours!r} and {theirs!r} scored different comparisons ({len(our_comparisons)} and "
            f"{len(their_comparisons)}); score the same ones in the same order"
        )

    def rows(arm: str) -> list[tuple[str, float]]:
        return [(pair.prompt_id, _credit(pair)) for pair in arms[arm] if rating is None or pair.rating == rating]

    return _paired_difference(rows(ours), rows(theirs))


def _credit(pair: ScoredPair) -> float:
    """1 when the chosen response has the higher score, one half for a tie, else 0."""
    return 0.5 if pair.chosen == pair.rejected else float(pair.chosen > pair.rejected)


def _at_an_end(score: float) -> float:
    return float(abs(score) > math.log(ENDS[1] / ENDS[0]))


def _responses(pairs: Iterable[ScoredPair]) -> Iterator[tuple[str, float, bool | None]]:
    """(prompt id, score, label) of both responses of every comparison."""
    for pair in pairs:
        yield pair.prompt_id, pair.chosen, pair.chosen_safe
        yield pair.prompt_id, pair.rejected, pair.rejected_safe


def _columns(pairs: Sequence[ScoredPair], *names: str) -> list[Any]:
    return [[getattr(pair, name) for pair in pairs] for name in names]


def _paired_difference(ours: Sequence[tuple[str, float]], theirs: Sequence[tuple[str, float]]) -> Estimate:
    """`eval.bootstrap.paired_difference` of rows (prompt id, value)."""
    our_ids, their_ids = ([prompt_id for prompt_id, _ in rows] for rows in (ours, theirs))
    our_values, their_values = ([value for _, value in rows] for rows in (ours, theirs))
    return paired_difference(our_values, their_values, our_ids, their_ids)


def _contrast(rows: Sequence[tuple[str, str, float]], weights: Mapping[str, float]) -> Estimate:
    """`eval.bootstrap.contrast` of rows (group, prompt id, value)."""
    values, prompt_ids = [value for _, _, value in rows], [prompt_id for _, prompt_id, _ in rows]
    return contrast(values, [group for group, _, _ in rows], weights, prompt_ids)
