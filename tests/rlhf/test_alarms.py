"""Each alarm fires on a run with its fault, and none fires on a healthy one. The limits are worked out by hand."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from ppo_fakes import ppo_stats_of

from rlhf.alarms import alarms, new_alarms
from rlhf.ppo_stats import PPOStats

# What a small run looks like: the critic begins far off, KL wavers around 0, a response in a hundred runs out of room.
HEALTHY: dict[str, Sequence[float]] = {
    "score": [0.16, 0.45, 0.60, 0.91, 0.36, 0.64, 0.70, 0.75, 1.10, 0.80, 0.90, 0.95],
    "score_std": [0.8],
    "length_correlation": [0.30, 0.20, 0.25, 0.30, 0.28, 0.31, 0.30, 0.40, 0.42, 0.45, 0.40, 0.41],
    "kl": [0.000, 0.012, -0.002, 0.010, 0.004, 0.000, 0.03, 0.05, 0.08, 0.10, 0.13, 0.15],
    "entropy": [0.44, 0.47, 0.41, 0.39, 0.46, 0.45, 0.42, 0.41, 0.40, 0.39, 0.37, 0.36],
    "response_length": [14.7, 16.0, 17.1, 16.2, 17.4, 16.9, 17.0, 18.1, 19.0, 19.5, 20.0, 20.2],
    "eos_fraction": [1.0, 0.98, 1.0, 0.99, 1.0, 0.99, 0.98, 1.0, 0.99, 1.0, 0.98, 0.99],
    "clip_fraction": [0.0, 0.02, 0.04, 0.05],
    "explained_variance": [-2.0, -4.0, -0.8, 0.04, 0.07, 0.19, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85],
}


def history(length: int = 12, **changes: Any) -> list[PPOStats]:
    """The healthy run, with other series; one that is too short ends with its last value again and again."""
    series = {name: [*values, *itertools.repeat(values[-1], length)][:length] for name, values in (HEALTHY | changes).items()}
    return [
        ppo_stats_of(iteration=index + 1, **{name: values[index] for name, values in series.items()}) for index in range(length)
    ]


def kinds(run: Sequence[PPOStats]) -> list[str]:
    return [alarm.kind for alarm in alarms(run)]


def test_a_healthy_run_has_no_alarm_at_any_moment() -> None:
    run = history(40)
    assert [kinds(run[:end]) for end in range(41)] == [[]] * 41


BY_TEN = [10.0] * 5
FAULTS = [
    ("length drift", {"response_length": [*BY_TEN, *[15.1] * 7]}, {"response_length": [*BY_TEN, *[14.9] * 7]}),
    ("length drift", {"response_length": [*BY_TEN, *[4.9] * 7]}, {"response_length": [*BY_TEN, *[5.1] * 7]}),
    ("score follows length", {"length_correlation": [0.15] * 5 + [0.51] * 7}, {"length_correlation": [0.15] * 5 + [0.49] * 7}),
    ("score follows length", {"length_correlation": [0.5] * 5 + [0.81] * 7}, {"length_correlation": [0.5] * 5 + [0.79] * 7}),
    ("entropy collapse", {"entropy": [0.6] * 5 + [0.19] * 7}, {"entropy": [0.6] * 5 + [0.21] * 7}),
    ("KL below zero", {"kl": [-0.51]}, {"kl": [-0.49]}),
    ("KL out of range", {"kl": [20.1]}, {"kl": [19.9]}),
    ("responses without end", {"eos_fraction": [0.97]}, {"eos_fraction": [0.985]}),
    ("responses without end", {"eos_fraction": [1.0] * 7 + [0.6]}, {"eos_fraction": [0.6] * 7 + [0.99]}),
    ("scores of an absurd scale", {"score": [51.0]}, {"score": [49.0]}),
    ("scores of an absurd scale", {"score": [-51.0]}, {"score": [-49.0]}),
    ("scores of an absurd scale", {"score_std": [51.0]}, {"score_std": [49.0]}),
    ("all scores equal", {"score_std": [0.8] * 11 + [0.0]}, {"score_std": [1e-3]}),
    ("most tokens clipped", {"clip_fraction": [0.51]}, {"clip_fraction": [0.49]}),
    ("critic misled", {"explained_variance": [-1.01]}, {"explained_variance": [-0.99]}),
]


@pytest.mark.parametrize(("kind", "faulty", "fine"), FAULTS)
def test_each_alarm_fires_at_its_limit_and_alone(kind: str, faulty: dict[str, Any], fine: dict[str, Any]) -> None:
    assert kinds(history(**faulty)) == [kind]
    assert kinds(history(**fine)) == []


def test_a_single_wild_iteration_is_noise_where_means_are_compared() -> None:
    wild = {"kl": [0.0] * 11 + [-2.4], "entropy": [0.6] * 11 + [0.01], "response_length": [10.0] * 11 + [30.0]}
    assert kinds(history(**wild)) == []
    assert kinds(history(**{**wild, "kl": [0.0] * 11 + [-2.6]})) == ["KL below zero"]  # mean of five: -0.52


def test_a_change_needs_ten_iterations_to_be_told() -> None:
    falling = {"entropy": [0.6] * 4 + [0.01], "explained_variance": [-3.0]}
    assert kinds(history(9, **falling)) == []
    assert kinds(history(10, **falling)) == ["entropy collapse", "critic misled"]
    assert kinds(history(4, kl=[-3.0])) == [] and kinds(history(5, kl=[-3.0])) == ["KL below zero"]
    assert kinds(history(1, score_std=[0.0], clip_fraction=[0.9])) == ["all scores equal", "most tokens clipped"]


def test_a_reference_that_is_not_where_training_began_is_told_at_the_first_iteration() -> None:
    assert kinds(history(1, kl=[0.06])) == kinds(history(1, kl=[-0.06])) == ["a reference that is another policy"]
    assert kinds(history(1, kl=[0.04])) == [] and kinds(history(2, kl=[0.06])) == []


def test_correlations_that_are_not_known_are_passed_over() -> None:
    run = history(24, length_correlation=[None, 0.1] * 4 + [None, 0.9] * 8)
    assert kinds(run[:16]) == []  # eight are known: too few to speak of a change
    assert kinds(run[:20]) == ["score follows length"]  # the first five have the mean (0.4 + 0.9) / 5, the last five 0.9


def test_each_kind_is_new_once_until_it_has_cleared() -> None:
    run = history(30, clip_fraction=[0.0] * 5 + [1.0] * 5 + [0.0] * 8 + [1.0])
    told = [(end, [alarm.kind for alarm in new_alarms(run[:end])]) for end in range(1, 31)]
    # the mean of five is above a half from the third clipped iteration on, and again from the third of the second time
    assert [each for each in told if each[1]] == [(8, ["most tokens clipped"]), (21, ["most tokens clipped"])]


def test_an_alarm_says_what_was_found_what_was_expected_and_what_to_do() -> None:
    (drift,) = alarms(history(response_length=[10.0] * 5 + [40.0] * 7))
    assert drift.headline == "length drift: 40.0 tokens a response; expected 5.0 to 15.0, as it began with 10.0"
    assert str(drift).startswith(f"{drift.headline}. The reward likes length") and "raise kl_coef" in str(drift)
    for _, faulty, _ in FAULTS:
        (alarm,) = alarms(history(**faulty))
        assert any(digit.isdigit() for digit in alarm.found) and any(digit.isdigit() for digit in alarm.expected)
        assert "\n" not in str(alarm) and len(alarm.advice.split()) > 8


def test_the_bound_of_the_kl_can_be_stated() -> None:
    run = history(kl=[0.0, 7.0])
    assert [alarm.expected for alarm in alarms(run, kl_limit=5.0)] == ["at most 5"]
    assert alarms(run) == []
    assert [alarm.kind for alarm in new_alarms(run[:4], kl_limit=5.0)] == ["KL out of range"]
