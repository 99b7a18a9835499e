"""Each finding on comparisons with a known verdict, and reversed."""

import dataclasses
import random

import pytest

from eval.findings import reward_models as findings
from eval.findings.claims import CLAIMS, CORE, finding
from eval.findings.reward_models import ScoredPair
from eval.intervals import Estimate
from eval.reward_accuracy import Detection
from preference_data.comparison import RATINGS

LOGIT_95 = 2.9444  # sigmoid of it is 0.94999


def pairs(arm, right, n=400, seed=0, scale=1.0):
    """``n`` comparisons of each rating, two per prompt, the share ``right[rating]`` ranked right; all rejected are unsafe."""
    rng = random.Random(seed)
    comparisons = []
    for rating in RATINGS:
        for number in range(n):
            won = rng.random() < right[rating]
            chosen, rejected = (scale, -scale) if won else (-scale, scale)
            comparisons.append(ScoredPair(arm, f"{rating}-{number // 2}", rating, chosen, rejected, True, False))
    return comparisons


def levels(significantly, better, slightly, negligibly):
    return dict(zip(RATINGS, (significantly, better, slightly, negligibly), strict=True))


STRONG, WEAK = levels(0.9, 0.75, 0.65, 0.55), levels(0.7, 0.6, 0.55, 0.5)


def test_best_on_own_axis():
    good, bad = pairs("one", STRONG), pairs("other", WEAK, seed=1)
    helpfulness_test, safety_test = {"helpfulness": good, "safety": bad}, {"helpfulness": bad, "safety": good}
    finding = findings.best_on_own_axis(helpfulness_test, safety_test)
    assert finding.id == "F1" and finding.verdict == "holds"
    wins = [[pair.chosen > pair.rejected for pair in arm] for arm in (good, bad)]
    expected = sum(wins[0]) / len(wins[0]) - sum(wins[1]) / len(wins[1])
    assert [effect.estimate.value for effect in finding.effects] == pytest.approx([expected, expected])
    assert findings.best_on_own_axis(safety_test, helpfulness_test).verdict == "fails"
    assert [e.verdict for e in findings.best_on_own_axis(helpfulness_test, helpfulness_test).effects] == ["holds", "fails"]


def test_rises_with_rating():
    finding = findings.rises_with_rating({"helpfulness": pairs("", STRONG), "safety": pairs("", levels(0.9, 0.8, 0.6, 0.5))})
    assert finding.verdict == "holds" and len(finding.effects) == 4
    flat = findings.rises_with_rating({"helpfulness": pairs("", levels(0.62, 0.61, 0.58, 0.57))})
    assert [effect.verdict for effect in flat.effects][1] in ("fails", "inconclusive"), "a rise of 5 points is under the 10"
    assert findings.rises_with_rating({"helpfulness": pairs("", levels(0.5, 0.6, 0.7, 0.8))}).verdict == "fails"


def test_the_slope_over_ratings_by_hand():
    exact = []
    for rating, right in zip(RATINGS, (4, 3, 2, 2), strict=True):
        exact += [ScoredPair("", f"{rating}{i}", rating, float(i < right), 0.5, None, None) for i in range(4)]
    slope, rise = findings.rises_with_rating({"helpfulness": exact}).effects
    # accuracies 0.5, 0.5, 0.75, 1 at -1.5, -0.5, 0.5, 1.5: (-0.75 - 0.25 + 0.375 + 1.5) / 5
    assert slope.estimate.value == pytest.approx(0.175) and rise.estimate.value == pytest.approx(0.5)


def test_margin_helps_separable():
    none = pairs("none", levels(0.6, 0.6, 0.6, 0.6))
    helped = pairs("small", levels(0.9, 0.6, 0.6, 0.6), seed=1)
    large = pairs("large", levels(0.9, 0.6, 0.6, 0.4), seed=2)
    assert findings.margin_helps_separable({"none": none, "small": helped, "large": large}).verdict == "holds"
    assert findings.margin_helps_separable({"none": helped, "small": none, "large": large}).verdict == "fails"
    everywhere = pairs("large", levels(0.9, 0.9, 0.9, 0.9), seed=3)
    last = findings.margin_helps_separable({"none": none, "small": helped, "large": everywhere}).effects[2]
    assert (last.side, last.verdict) == ("below", "fails"), "it helped the negligible ones too"


def relabelled(arm, rows, rejected):
    return [dataclasses.replace(pair, arm=arm, chosen=rejected + 1, rejected=rejected) for pair in rows]


def test_safety_loss_lifts_recall():
    rows = pairs("", STRONG)
    high, low = relabelled("without", rows, 0.5), relabelled("with", rows, -0.5)
    finding = findings.safety_loss_lifts_recall({"with": low, "without": high})
    recall, accuracy = finding.effects
    assert recall.estimate.value == 1 and recall.verdict == "holds"
    assert recall.estimate.n == len(rows), "one unsafe response a comparison"
    assert accuracy.estimate.value == 0 and accuracy.verdict == "holds", "no comparison was lost"
    assert findings.safety_loss_lifts_recall({"with": high, "without": low}).verdict == "fails"
    lost = [dataclasses.replace(pair, chosen=-1.0) for pair in low]
    assert findings.safety_loss_lifts_recall({"with": lost, "without": high}).effects[1].verdict == "fails"


def test_grows_with_data():
    curve = {size: pairs("", levels(*[accuracy] * 4), seed=size) for size, accuracy in ((100, 0.5), (200, 0.6), (800, 0.8))}
    (effect,) = (finding := findings.grows_with_data({"policy/sft@1": curve})).effects
    assert finding.verdict == "holds" and effect.estimate.value == pytest.approx(0.1, abs=0.02), "per doubling"
    turned = {900 - size: scored for size, scored in curve.items()}
    assert findings.grows_with_data({"policy/sft@1": turned}).verdict == "fails"


def test_sizes_are_measured_from_three_on():
    small, large = pairs("", levels(0.5, 0.5, 0.5, 0.5)), pairs("", levels(0.7, 0.7, 0.7, 0.7), seed=1)
    assert findings.larger_is_better({10: small, 20: large}).verdict == "not measured"
    assert findings.larger_is_better({1000: large, 10: small, 20: large}).verdict == "holds"
    assert findings.larger_is_better({1000: small, 10: large, 20: large}).verdict == "fails"


def test_margin_spreads_scores():
    inside, outside = pairs("none", STRONG, scale=LOGIT_95 - 0.01), pairs("large", STRONG, scale=LOGIT_95 + 0.01)
    finding = findings.margin_spreads_scores({"none": inside, "large": outside})
    assert (finding.verdict, finding.effects[0].estimate.value) == ("holds", 1.0)
    assert findings.margin_spreads_scores({"none": outside, "large": inside}).verdict == "fails"
    assert findings.share_at_the_ends(inside).value == 0 and findings.share_at_the_ends(outside).value == 1


def test_scores_follow_ratings_and_threshold_is_precise():
    good, poor = Estimate(0.4, 0.3, 0.5, 100), Estimate(0.1, -0.1, 0.3, 100)
    assert findings.scores_follow_ratings({"helpfulness": good, "safety": good}).verdict == "holds"
    assert findings.scores_follow_ratings({"helpfulness": good, "safety": poor}).verdict == "inconclusive"
    sharp, blunt = Estimate(0.9, 0.85, 0.95, 100), Estimate(0.6, 0.5, 0.7, 100)
    assert findings.threshold_is_precise(Detection(0.15, sharp, blunt)).verdict == "holds"
    assert findings.threshold_is_precise(Detection(0.15, blunt, sharp)).verdict == "fails", "recall decides nothing"


def test_accuracy_by_bin_by_hand():
    rows = [
        ScoredPair("", "p", "better", 2.0, 1.0, True, False),
        ScoredPair("", "q", "better", 0.0, 1.0, True, False),
        ScoredPair("", "r", "better", 1.0, 0.0, True, True),
        ScoredPair("", "s", "better", 0.0, 1.0, False, False),
        ScoredPair("", "t", "better", 1.0, 1.0, None, None),
    ]
    by_bin = findings.accuracy_by_bin(rows)
    assert {name: (estimate.value, estimate.n) for name, estimate in by_bin.items()} == {
        "all": (0.5, 5), "chosen_safe_rejected_unsafe": (0.5, 2), "both_safe": (1.0, 1), "both_unsafe": (0.0, 1),
    }  # fmt: skip


def test_detection_leaves_out_what_has_no_label():
    rows = [ScoredPair("", "p", "better", -3.0, -4.0, True, False), ScoredPair("", "q", "better", -9.0, -9.0, None, None)]
    detection = findings.detection(rows, 0.15)
    assert (detection.precision.value, detection.precision.n, detection.recall.value) == (0.5, 2, 1.0)
    assert not findings.detection(rows[1:], 0.15).precision.known


def test_arms_must_have_scored_the_same():
    rows = pairs("", STRONG, n=4)
    with pytest.raises(ValueError, match=r"'a' and 'b' scored different comparisons \(16 and 15\)"):
        findings.accuracy_difference({"a": rows, "b": rows[1:]}, "a", "b")


def test_effects_carry_the_papers_numbers():
    """Computed by hand from its tables; the slope of F2 is over -1.5, -0.5, 0.5, 1.5."""
    some = pairs("", STRONG, n=4)
    arms = dict.fromkeys(("helpfulness", "safety", "none", "small", "large", "with", "without"), some)
    own = dict.fromkeys(("helpfulness", "safety"), some)
    by_hand = {
        "F1": [0.632 - 0.562, 0.645 - 0.628],
        "F2": [
            (1.5 * (0.807 - 0.547) + 0.5 * (0.675 - 0.609)) / 5, 0.807 - 0.547,
            (1.5 * (0.943 - 0.553) + 0.5 * (0.763 - 0.657)) / 5, 0.943 - 0.553,
        ],
        "F3": [0.804 - 0.791, 0.807 - 0.791, 0.543 - 0.545],
        "F4": [0.904 - 0.730, 0.645 - 0.637],
        "F6": [0.024],
        "F26": [0.89],
    }  # fmt: skip
    measured = [
        findings.best_on_own_axis(arms, arms), findings.rises_with_rating(own), findings.margin_helps_separable(arms),
        findings.safety_loss_lifts_recall(arms), findings.larger_is_better({1: some, 2: some, 3: some}),
        findings.threshold_is_precise(findings.detection(some, 0.15)),
    ]  # fmt: skip
    assert {finding.id: [effect.paper for effect in finding.effects] for finding in measured} == {
        name: pytest.approx(numbers) for name, numbers in by_hand.items()
    }


def test_claims_of_the_core_set_are_known_and_named_by_their_numbers():
    assert set(CORE) <= set(CLAIMS)
    assert finding("F4").verdict == "not measured" and finding("F4").source == "Table 29"
    assert all(claim.text and claim.source for claim in CLAIMS.values())
