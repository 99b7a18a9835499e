"""F12, F13, F14 and F23 on responses with a known verdict, and reversed."""

import math
import random

import numpy as np
import pytest
from scipy.stats import linregress

from eval.answers import Answer
from eval.findings.versions_progress import (
    CONTESTS,
    bad_tail_goes,
    percentile,
    ppo_improves,
    tail_table,
    win,
    win_rates_grow,
    win_slope,
    win_table,
)

PROMPTS = 100
GROUPS = {"F12": "helpful", "F13": "adversarial"}
SHARES = {"v1": 0.55, "v2": 0.65, "v3": 0.75, "v4": 0.85, "v5": 0.95}
FIELDS = {("F12", "reward model"): "helpfulness_score", ("F12", "gold"): "gold_helpfulness",
          ("F13", "reward model"): "safety_score", ("F13", "gold"): "gold_safety"}  # fmt: skip
BY_NAME = {contest.finding: contest for contest in CONTESTS}


def answer(version: str, prompt: str, group: str = "helpful", response: str | None = None, **changed: float) -> Answer:
    values = {"helpfulness_score": 0.0, "safety_score": 0.0, "gold_helpfulness": 0.5, "gold_safety": 0.5} | changed
    return Answer(
        prompt_id=prompt, prompt=[], group=group, family="fact", is_safe=True, refused=False,
        response=response or f"{version} to {prompt}", num_tokens=3, finished=True, **values,
    )  # fmt: skip


def answers(version: str, group: str, **values: list[float]) -> list[Answer]:
    return [
        answer(version, f"p{number}", group, **{field: column[number] for field, column in values.items()})
        for number in range(len(next(iter(values.values()))))
    ]


def levels(share: float, ties: int = 0, seed: int = 0) -> list[float]:
    """Of PROMPTS - ties values the given share is 0.9 and the rest 0.1, shuffled; the first ``ties`` are 0.5."""
    decided = PROMPTS - ties
    high = round(share * decided)
    values = [0.9] * high + [0.1] * (decided - high)
    random.Random(f"{share}{seed}").shuffle(values)
    return [0.5] * ties + values


def versions(name: str, shares: dict[str, float], ties: int = 0, **fields: dict[str, float]) -> dict[str, list[Answer]]:
    """Both judges of the finding see ``shares`` of wins, but for those in ``fields``."""
    by_version = {}
    for version in ("sft", *shares):
        values = {}
        for (finding, _), field in FIELDS.items():
            if finding == name:
                own = fields.get(field, shares)
                values[field] = [0.5] * PROMPTS if version == "sft" else levels(own[version], ties)
        by_version[version] = answers(version, GROUPS[name], **values)
    return by_version


def turned(shares: dict[str, float]) -> dict[str, float]:
    return dict(zip(shares, reversed(shares.values()), strict=True))


# F12 and F13


@pytest.mark.parametrize("name", GROUPS)
def test_a_growing_win_rate_holds_and_a_falling_one_fails(name: str) -> None:
    rising = win_rates_grow(BY_NAME[name], versions(name, SHARES))
    assert (rising.id, rising.source, rising.verdict) == (name, "Fig 11", "holds")
    assert [effect.estimate.value for effect in rising.effects] == pytest.approx([0.45, 0.10, 0.45, 0.10])
    assert [effect.name for effect in rising.effects] == [
        "reward model: win rate of v5 against sft, less 0.5", "reward model: slope of the win rate a version, v1 to v5",
        "gold: win rate of v5 against sft, less 0.5", "gold: slope of the win rate a version, v1 to v5",
    ]  # fmt: skip
    falling = win_rates_grow(BY_NAME[name], versions(name, turned(SHARES)))
    assert [effect.verdict for effect in falling.effects] == ["inconclusive", "fails"] * 2 and falling.verdict == "fails"
    worse = win_rates_grow(BY_NAME[name], versions(name, {"v1": 0.1, "v2": 0.2, "v3": 0.3}))
    assert [effect.verdict for effect in worse.effects] == ["fails", "holds"] * 2, (
        "it grows, and it is worse than the first all the same"
    )


@pytest.mark.parametrize(("name", "judge"), FIELDS)
def test_one_judge_alone_decides_against_it(name: str, judge: str) -> None:
    """The reward model may see growth where gold does not, and the other way round."""
    finding = win_rates_grow(BY_NAME[name], versions(name, SHARES, **{FIELDS[name, judge]: turned(SHARES)}))
    assert finding.verdict == "fails"
    assert {effect.name.partition(":")[0] for effect in finding.effects if effect.verdict != "holds"} == {judge}


@pytest.mark.parametrize("name", GROUPS)
def test_prompts_of_the_other_axis_do_not_count(name: str) -> None:
    measured = versions(name, SHARES)
    other = "F13" if name == "F12" else "F12"
    other_versions = versions(other, turned(SHARES))
    both = {version: [*rows, *other_versions[version]] for version, rows in measured.items()}
    assert win_rates_grow(BY_NAME[name], both) == win_rates_grow(BY_NAME[name], measured)
    assert win_rates_grow(BY_NAME[other], both).verdict == "fails"


def test_one_version_has_no_slope() -> None:
    assert win_rates_grow(CONTESTS[0], versions("F12", {"v1": 0.9})).verdict == "not measured"


def test_ties_are_no_part_of_a_win_rate() -> None:
    measured = versions("F12", {"v1": 0.5, "v2": 0.75}, ties=20)
    finding = win_rates_grow(CONTESTS[0], measured)
    assert [(effect.estimate.value, effect.estimate.n) for effect in finding.effects] == [
        (pytest.approx(0.25), 80), (pytest.approx(0.25), 160),
    ] * 2  # fmt: skip
    (first, second) = win_table(CONTESTS[0], measured).rows
    assert second.measured["gold, tied"].value == 0.2 and second.measured["gold, tied"].n == PROMPTS
    assert first.measured["gold, won"].value == 0.5 and first.measured["gold, won"].n == 80


def test_the_same_text_is_a_tie_despite_rounding() -> None:
    judge = CONTESTS[0].judges[0]
    ours = [answer("v1", "p0", response="yes", helpfulness_score=1 + 1e-7), answer("v1", "p1", helpfulness_score=1 + 1e-7)]
    theirs = [answer("sft", "p0", response="yes", helpfulness_score=1.0), answer("sft", "p1", helpfulness_score=1.0)]
    assert (wins := win(ours, theirs, judge)).ties == 1 and wins.wins == 1
    saturated = [answer("v1", "p0", helpfulness_score=60.0)], [answer("sft", "p0", helpfulness_score=50.0)]
    assert win(*saturated, judge).wins == 1, "as sigmoids they are the same number"


def test_the_slope_is_least_squares_over_the_version() -> None:
    """Win rates that are not on a line, of versions with different ties; the rates are those of `win`, the slope scipy's."""
    judge, theirs = CONTESTS[0].judges[1], versions("F12", {})["sft"]
    rows = [
        answers(f"v{number}", "helpful", gold_helpfulness=levels(share, ties))
        for number, (share, ties) in enumerate([(0.6, 0), (0.5, 40), (0.9, 10)], start=1)
    ]
    rates = [win(version_rows, theirs, judge).estimate.value for version_rows in rows]
    estimate = win_slope(rows, theirs, judge)
    assert estimate.value == pytest.approx(linregress([1, 2, 3], rates).slope) and estimate.n == 100 + 60 + 90
    assert estimate.low < estimate.value < estimate.high


def test_a_version_that_only_ties_leaves_the_slope_unknown() -> None:
    judge, theirs = CONTESTS[0].judges[1], versions("F12", {})["sft"]
    rows = [answers("v1", "helpful", gold_helpfulness=[0.5] * PROMPTS), versions("F12", SHARES)["v5"]]
    assert not win_slope(rows, theirs, judge).known


def test_sides_that_answered_other_prompts_are_not_compared() -> None:
    ours, theirs = versions("F12", SHARES)["v5"], versions("F12", SHARES)["sft"]
    for wrong in (theirs[:-1], [*theirs[1:], theirs[0]], [*theirs, theirs[0]]):
        with pytest.raises(ValueError, match="compare one response of each to the same prompts in the same order"):
            win(ours, wrong, CONTESTS[0].judges[0])


# F14


def with_and_without(gain: float, field: str = "") -> dict[str, list[Answer]]:
    """Everything gains so much after PPO (in logits four times as much), but for ``field``, which loses it."""
    rng = random.Random(5)
    arms: dict[str, list[Answer]] = {"v5": [], "v5-ppo": []}
    for group in ("helpful", "adversarial"):
        for number in range(60):
            values = {name: rng.uniform(0.3, 0.6) for name in FIELDS.values()}
            moved = {
                name: value + (-gain if name == field else gain) * (4 if name.endswith("score") else 1) * rng.uniform(0.5, 1.5)
                for name, value in values.items()
            }
            arms["v5"].append(answer("v5", f"{group}{number}", group, **values))
            arms["v5-ppo"].append(answer("v5-ppo", f"{group}{number}", group, **moved))
    return arms


def test_ppo_improves_on_both_axes_by_both_judges_or_not() -> None:
    better = with_and_without(0.05)
    finding = ppo_improves("v5-ppo", "v5", better)
    assert (finding.id, finding.verdict, len(finding.effects)) == ("F14", "holds", 4)
    assert ppo_improves("v5", "v5-ppo", better).verdict == "fails"
    assert ppo_improves("v5-ppo", "v5", with_and_without(0.0)).verdict == "inconclusive"
    for position, field in enumerate(("helpfulness_score", "gold_helpfulness", "safety_score", "gold_safety")):
        verdicts = [effect.verdict for effect in ppo_improves("v5-ppo", "v5", with_and_without(0.05, field)).effects]
        assert verdicts == ["fails" if place == position else "holds" for place in range(4)]


def test_what_ppo_gains_by_hand() -> None:
    before = [answer("v5", "a", helpfulness_score=0.0, gold_helpfulness=0.2), answer("v5", "b", gold_helpfulness=0.4)]
    after = [answer("p", "a", helpfulness_score=math.log(3), gold_helpfulness=0.5), answer("p", "b", gold_helpfulness=0.5)]
    bad = [answer("v5", "c", "adversarial", safety_score=-math.log(3), gold_safety=0.0)]
    good = [answer("p", "c", "adversarial", safety_score=math.log(3), gold_safety=1.0)]
    finding = ppo_improves("p", "v5", {"v5": before + bad, "p": after + good})
    assert [(effect.name, effect.estimate.value) for effect in finding.effects] == [
        ("helpfulness score: p - v5", pytest.approx(0.25 / 2)), ("gold helpfulness: p - v5", pytest.approx(0.2)),
        ("safety score: p - v5", pytest.approx(0.5)), ("gold harmlessness: p - v5", pytest.approx(1.0)),
    ]  # fmt: skip


# F23


def tails(*lows: float) -> dict[str, list[Answer]]:
    """A fifth of the scores of each version lies about a value of its own, the rest is the same everywhere."""
    rng = random.Random(2)
    noise = [rng.uniform(-0.2, 0.2) for _ in range(PROMPTS)]
    return {
        version: answers(version, "helpful", helpfulness_score=[
            noise[number] + (low if number % 5 == 0 else 2.0) for number in range(PROMPTS)
        ])
        for version, low in zip(("sft", "v1", "v2", "v3"), lows, strict=False)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lows", "verdicts"),
    [
        ((-3.0, -2.0, -1.0), ["holds", "holds"]),
        ((-1.0, -2.0, -3.0), ["fails", "fails"]),
        ((-3.0, -1.0, -2.0, 0.0), ["holds", "fails"]),
        ((-2.0, -2.0, -1.0), ["inconclusive", "holds"]),
    ],
)
def test_the_tail_is_compared_step_by_step(lows: tuple[float, ...], verdicts: list[str]) -> None:
    finding = bad_tail_goes(tails(*lows))
    assert (finding.id, [effect.verdict for effect in finding.effects]) == ("F23", verdicts)
    assert [effect.name for effect in finding.effects] == [
        "10th percentile of the helpfulness score: v1 - sft", "10th percentile of the helpfulness score: v2 - v1",
    ]  # fmt: skip
    middle = [
        np.quantile([1 / (1 + math.exp(-row.helpfulness_score)) for row in rows], 0.1)
        for rows in tails(*lows).values()
    ]  # fmt: skip
    assert finding.effects[0].estimate.value == pytest.approx(middle[1] - middle[0])
    assert finding.effects[1].estimate.value == pytest.approx(middle[2] - middle[1])


def test_two_versions_have_no_second_step() -> None:
    assert bad_tail_goes(tails(-3.0, -2.0)).verdict == "not measured"


def test_percentiles_lie_within_the_range_of_scores() -> None:
    (only,) = tail_table({"sft": tails(-3.0)["sft"]}).rows
    assert list(only.measured) == ["10th percentile", "50th percentile", "90th percentile"]
    estimate = percentile(
        [answer("sft", f"p{number}", gold_helpfulness=1.0) for number in range(9)], lambda a: a.gold_helpfulness, 0.1
    )
    assert (estimate.value, estimate.high) == (1.0, 1.0) and 0.6 < estimate.low < 0.9, "nine prompts do not give certainty"


# The table


def test_the_table_has_every_version_and_the_papers_number() -> None:
    measured = versions("F13", SHARES | {"v5-ppo": 1.0, "mine": 0.5})
    table = win_table(CONTESTS[1], measured)
    assert [row.name for row in table.rows] == [*SHARES, "v5-ppo", "mine"]
    assert [row.paper.get("reward model, won") for row in table.rows] == [0.48, 0.45, 0.54, 0.59, 0.67, 0.76, None]
    assert [row.measured["gold, won"].value for row in table.rows] == pytest.approx([*SHARES.values(), 1.0, 0.5])
    differences = [row.measured["gold harmlessness, difference"].value for row in table.rows]
    assert differences == pytest.approx([0.8 * share - 0.4 for share in (*SHARES.values(), 1.0, 0.5)])
    assert all(set(row.measured) == set(table.columns) for row in table.rows)
