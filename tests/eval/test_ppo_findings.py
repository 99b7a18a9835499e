"""F25 and F30 on checkpoints with a known verdict, and reversed; the figure shows what it is given."""

import numpy as np
import pytest

from eval.findings.ppo import GOLD, SCORE, Checkpoints, correlation, gain, guards_rise, mean_of, no_goodhart
from eval.findings.ppo_figures import reward_and_judges
from eval.intervals import Estimate
from eval.report.figure import drawn

RISING, FALLING = (0.3, 0.4, 0.5, 0.6), (0.6, 0.5, 0.4, 0.3)


def about(means, prompts=60, spread=0.02, seed=0):
    """(C, P): a level for each prompt, the mean of the checkpoint, and a little noise."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(-0.2, 0.2, prompts)
    return np.array(means)[:, None] + base + spread * rng.uniform(-1, 1, (len(means), prompts))


def checkpoints(score, **measures):
    score = np.asarray(score)
    names = {SCORE: score} | {name.replace("_", " "): np.asarray(values) for name, values in measures.items()}
    return Checkpoints(tuple(5 * place for place in range(len(score))), [f"p{row}" for row in range(score.shape[1])], names)


@pytest.mark.parametrize(
    ("gold", "verdict"), [(RISING, "holds"), (FALLING, "fails"), ((0.45, 0.45, 0.45, 0.45), "inconclusive")]
)
def test_gold_rises_with_the_score_or_the_reward_is_fooled(gold, verdict):
    finding = no_goodhart(checkpoints(10 * about(RISING, seed=1), gold=about(gold)))
    assert (finding.id, finding.verdict) == ("F25", verdict)
    assert [effect.name for effect in finding.effects] == [
        "gold: iteration 15 (chosen) - iteration 0", "correlation of mean score and mean gold over 4 checkpoints",
    ]  # fmt: skip
    if verdict != "inconclusive":
        assert [effect.verdict for effect in finding.effects] == [verdict] * 2


def test_the_chosen_checkpoint_is_the_best_by_score_and_not_the_last():
    """Gold is best where the score is; the last checkpoint is the worst by both."""
    ours = checkpoints(about((0.1, 0.9, 0.5, 0.0)), gold=about((0.3, 0.6, 0.5, 0.2)))
    assert ours.iterations[ours.chosen] == 5 and no_goodhart(ours).verdict == "holds"
    equal = np.array([[0.2, 0.4], [0.7, 0.5], [0.5, 0.7]])
    assert checkpoints(equal).chosen == 1, "the earliest of equal ones"


def test_the_effects_by_hand():
    score = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 3.0]])
    gold = np.array([[0.1, 0.3], [0.2, 0.1], [0.9, 0.5]])
    ours = checkpoints(score, gold=gold)
    assert gain(ours, GOLD).value == pytest.approx(0.7 - 0.2)
    estimate = correlation(ours, SCORE, GOLD)
    assert estimate.value == pytest.approx(np.corrcoef([0.5, 1.5, 3.5], [0.2, 0.15, 0.7])[0, 1]) and estimate.n == 6
    assert -1 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert mean_of(ours, SCORE, 2) == Estimate(3.5, pytest.approx(3.0), pytest.approx(4.0), 2)


def test_training_that_never_got_better_is_no_evidence():
    ours = checkpoints(about(FALLING, seed=1), gold=about(FALLING))
    advance, together = no_goodhart(ours).effects
    assert advance.estimate.value == 0 and advance.verdict == "inconclusive" and advance.name.startswith("gold: iteration 0")
    assert together.verdict == "holds"


def test_two_checkpoints_always_lie_on_a_line():
    ours = checkpoints(about((0.1, 0.9)), gold=about((0.3, 0.6)))
    assert not correlation(ours, SCORE, GOLD).known
    assert [effect.verdict for effect in no_goodhart(ours).effects] == ["holds", "inconclusive"]
    flat = checkpoints(about(RISING), gold=np.full((4, 60), 0.5))
    assert not correlation(flat, SCORE, GOLD).known


def test_without_gold_nothing_is_measured_by_it():
    ours = checkpoints(about(RISING), **{"guard_a": about(RISING)})
    assert no_goodhart(ours).verdict == "not measured"
    assert guards_rise(ours, []).verdict == "not measured"


def test_every_guard_decides():
    ours = checkpoints(about(RISING), guard_a=about(RISING), guard_b=about(FALLING))
    assert guards_rise(ours, ["guard a"]).verdict == "holds"
    finding = guards_rise(ours, ["guard a", "guard b"])
    assert (finding.id, finding.verdict) == ("F30", "fails")
    assert [(effect.name, effect.verdict) for effect in finding.effects] == [
        ("guard a: iteration 15 (chosen) - iteration 0", "holds"),
        ("guard b: iteration 15 (chosen) - iteration 0", "fails"),
    ]


def test_prompts_that_a_measure_does_not_apply_to_are_left_out_of_that_measure_only():
    score, guard = about(RISING), about(RISING)
    guard[:, 40:] = np.nan
    ours, some = checkpoints(score, guard=guard), checkpoints(score[:, :40], guard=guard[:, :40])
    assert gain(ours, "guard").value == pytest.approx(gain(some, "guard").value) and gain(ours, "guard").n == 40
    assert correlation(ours, SCORE, "guard").value == pytest.approx(correlation(some, SCORE, "guard").value)
    assert mean_of(ours, SCORE, 0).n == 60 and mean_of(ours, "guard", 0).n == 40
    silent = checkpoints(score, guard=np.full((4, 60), np.nan))
    assert not mean_of(silent, "guard", 0).known and not gain(silent, "guard").known


def test_no_violation_on_three_prompts_is_no_certainty():
    estimate = mean_of(checkpoints(np.ones((3, 3)), violations=np.zeros((3, 3))), "violations", 1)
    assert (estimate.value, estimate.low) == (0, 0) and estimate.high > 0.5


def test_the_figure_shows_both_axes_and_the_kl():
    estimates = [Estimate(value, value - 0.1, value + 0.1, 60) for value in RISING]
    svg = reward_and_judges((0, 5, 10, 15), estimates, {"gold": estimates, "guard x": estimates}, {0: 0.0, 5: 0.314})
    assert drawn(svg) == svg
    for words in ("score of the reward (left)", "gold (right)", "guard x (right)", "0.31", "15"):
        assert words in svg
    assert svg.count("gold (right)") == 1, "once in the legend"
    assert "below it KL" not in reward_and_judges((0, 5), estimates[:2], {"gold": estimates[:2]}, {})
