"""F11 and F29 on responses with a known verdict, and reversed."""

import math
import random

import pytest

from eval.answers import Answer, of_group
from eval.findings import versions
from eval.findings.versions import difference, gold_helpfulness, mean, score_of
from eval.intervals import Estimate

ARMS = {
    "F11": (versions.pooling_keeps_rare_skill, "all rounds", "last round"),
    "F29": (versions.larger_policys_samples_help, "larger policy's samples", "own samples"),
}


def answer(prompt: str, gold: float, family: str = "rhyme", group: str = "helpful", **changed) -> Answer:
    values = {"helpfulness_score": 0.0, "safety_score": 0.0, "gold_safety": 1.0, "is_safe": True, "refused": False} | changed
    return Answer(
        prompt_id=prompt, prompt=[], group=group, family=family, response="", num_tokens=1, finished=True,
        gold_helpfulness=gold, **values,
    )  # fmt: skip


def answers(arm: str, level: float, family: str = "rhyme", group: str = "helpful", prompts: int = 40) -> list[Answer]:
    """Four answers a prompt; prompts differ more than answers do, as in real data."""
    rng = random.Random(f"{family}")
    bases = {f"{family}-{number}": rng.uniform(-0.2, 0.2) for number in range(prompts)}
    noise = random.Random(f"{arm}{family}")
    return [
        answer(prompt, min(1.0, max(0.0, level + base + noise.uniform(-0.05, 0.05))), family, group)
        for prompt, base in bases.items()
        for _ in range(4)
    ]


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize(("ours", "theirs", "verdict"), [(0.7, 0.6, "holds"), (0.6, 0.7, "fails"), (0.6, 0.6, "inconclusive")])
def test_the_verdict_follows_the_levels(name: str, ours: float, theirs: float, verdict: str) -> None:
    measure, better, worse = ARMS[name]
    arms = {better: answers(better, ours), worse: answers(worse, theirs)}
    finding = measure(arms)
    assert (finding.id, finding.source, finding.verdict) == (name, "section 3.2.3", verdict)
    (effect,) = finding.effects
    gold = [[answer.gold_helpfulness for answer in arms[arm]] for arm in (better, worse)]
    assert effect.estimate.value == pytest.approx(sum(gold[0]) / 160 - sum(gold[1]) / 160)
    assert (effect.estimate.n, effect.side, effect.threshold) == (160, "above", 0.0)


def test_the_rare_skill_is_the_rhyme_alone_and_size_is_judged_on_all_helpful_prompts() -> None:
    """Facts, twice as many, go the other way than rhymes; prompts that are not helpful ones do not count."""

    def arm(name: str, rhyme: float, fact: float) -> list[Answer]:
        beside = answers(name, 1 - rhyme, "adversarial", "adversarial") + answers(name, 1 - rhyme, "borderline", "borderline")
        return answers(name, rhyme) + answers(name, fact, "fact", prompts=80) + beside

    pooled = versions.pooling_keeps_rare_skill({"all rounds": arm("a", 0.7, 0.4), "last round": arm("b", 0.5, 0.6)})
    assert pooled.verdict == "holds" and pooled.effects[0].estimate.n == 160
    assert pooled.effects[0].name == "gold helpfulness, rhyme: all rounds - last round"
    sized = {"larger policy's samples": arm("a", 0.7, 0.4), "own samples": arm("b", 0.5, 0.6)}
    finding = versions.larger_policys_samples_help(sized)
    assert finding.verdict == "fails" and finding.effects[0].estimate.n == 480
    assert finding.effects[0].estimate.value == pytest.approx((160 * 0.2 - 320 * 0.2) / 480, abs=0.01)


def test_without_a_rhyme_nothing_is_known() -> None:
    arms = {name: answers(name, level, "fact") for name, level in (("all rounds", 0.9), ("last round", 0.1))}
    finding = versions.pooling_keeps_rare_skill(arms)
    assert finding.verdict == "inconclusive" and finding.effects[0].estimate.n == 0


def test_the_unit_is_the_prompt() -> None:
    """Repeated responses to a prompt add no information, so the interval is as wide as without them."""
    rng = random.Random(1)
    pairs = [(answer(str(number), rng.random()), answer(str(number), rng.random())) for number in range(30)]
    once = difference([ours for ours, _ in pairs], [theirs for _, theirs in pairs], gold_helpfulness)
    often = difference([ours for ours, _ in pairs for _ in range(20)], [theirs for _, theirs in pairs for _ in range(20)],
                       gold_helpfulness)  # fmt: skip
    assert (once.n, often.n) == (30, 600)
    assert (often.low, often.value, often.high) == pytest.approx((once.low, once.value, once.high))


def test_differences_are_paired_by_prompt() -> None:
    """A constant gain on prompts that differ widely has a narrow interval, which unpaired responses would not have."""
    golds = [number / 50 for number in range(40)]
    ours = [answer(str(number), gold + 0.1 + 0.001 * (number % 2)) for number, gold in enumerate(golds)]
    found = difference(ours, [answer(str(number), gold) for number, gold in enumerate(golds)], gold_helpfulness)
    assert found.value == pytest.approx(0.1005) and 0.1 <= found.low < found.high <= 0.101


def test_arms_that_were_asked_other_prompts_are_not_compared() -> None:
    ours, theirs = answers("a", 0.5, prompts=3), answers("b", 0.5, prompts=3)
    for other in (theirs[:-1], [*theirs[:-1], answer("other", 0.5)]):
        with pytest.raises(ValueError, match=r"one arm gave 12 responses to 3 prompts and the other 1[12] to [34]; give both"):
            difference(ours, other, gold_helpfulness)


def test_what_is_measured_of_an_answer_by_hand() -> None:
    told = [
        answer("one", 0.25, helpfulness_score=math.log(3), safety_score=-math.log(3)),
        answer("two", 0.75, helpfulness_score=-2000.0, safety_score=2000.0, is_safe=False),
        answer("two", 0.5, "fact", refused=True),
        answer("three", 0.0, "adversarial", "adversarial", is_safe=False),
    ]
    assert mean(told[:2], gold_helpfulness).value == 0.5
    assert mean(told[:2], score_of("helpfulness")).value == pytest.approx(0.75 / 2)
    assert mean(told[:2], score_of("safety")).value == pytest.approx((0.25 + 1) / 2)
    assert mean(told, versions.violates).value == 0.5 and mean(told, versions.refuses).value == 0.25
    assert of_group(told, "helpful") == told[:3] and of_group(told, "helpful", "fact") == told[2:3]
    assert of_group(told, "borderline") == [] and mean([], gold_helpfulness) == Estimate(0.5, 0.0, 1.0, 0)
    never = mean([answer(str(number), 0.5) for number in range(400)], versions.violates)
    assert (never.value, never.low) == (0, 0) and 0.005 < never.high < 0.015, "no violation in 400 is not a promise"
