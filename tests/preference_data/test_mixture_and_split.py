from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preference_data.judgement import make_comparison
from preference_data.messages import user
from preference_data.mixture import helpfulness_mixture, safety_mixture
from preference_data.prompt import make_dialogue
from preference_data.split import SHARES, split_by_prompt, split_of


def judged(count, source, axis="helpfulness", prompts=None):
    """``count`` comparisons of ``source``, over ``prompts`` prompts."""
    return [
        make_comparison(
            prompt=[user(f"{source} {number % (prompts or count)}")],
            chosen=f"good {number}",
            rejected="bad",
            axis=axis,
            source=source,
        )
        for number in range(count)
    ]


sizes = st.integers(0, 30)


@settings(deadline=None, max_examples=50)
@given(sizes, sizes, sizes, st.integers(0, 5))
def test_the_helpfulness_mix_is_all_helpfulness_and_as_many_again(helpful, safe, open_source, seed):
    own, rest = judged(helpful, "meta"), [*judged(safe, "meta-safety", "safety"), *judged(open_source, "shp")]
    mixture = helpfulness_mixture(own, rest[:safe], rest[safe:], seed=seed)
    ids = [comparison.id for comparison in mixture.comparisons]
    assert len(ids) == len(set(ids)) == helpful + min(helpful, safe + open_source)
    assert {comparison.id for comparison in own} <= set(ids) <= {comparison.id for comparison in [*own, *rest]}
    assert (mixture.core, mixture.drawn, mixture.asked, mixture.repeated) == (helpful, min(helpful, len(rest)), helpful, 0)
    if 0 < helpful <= len(rest):
        assert mixture.drawn_share == 0.5


@settings(deadline=None, max_examples=50)
@given(sizes, sizes, st.integers(0, 5))
def test_the_safety_mix_is_nine_tenths_safety(safe, helpful, seed):
    mixture = safety_mixture(
        judged(safe, "s", "safety"), judged(helpful, "h"), judged(9, "harmless", "safety"), judged(1, "open"), seed=seed
    )
    drawn = min(round((safe + 9) / 9), helpful + 1)
    assert (mixture.core, mixture.drawn) == (safe + 9, drawn)
    assert mixture.by_axis == {"helpfulness": drawn, "safety": safe + 9}
    if drawn == mixture.asked and safe % 9 == 0:
        assert mixture.drawn_share == pytest.approx(0.1)


def test_mixtures_are_deterministic_shuffled_and_drawn_over_comparisons():
    own, rest = judged(400, "meta"), judged(900, "big", "safety")
    small = judged(100, "small")
    mixtures = [helpfulness_mixture(own, rest, small, seed=seed) for seed in (0, 0, 1)]
    assert mixtures[0] == mixtures[1] != mixtures[2]
    # 400 of 1000 drawn: about 40 of the small source; 5 standard deviations of the hypergeometric are 23.
    assert abs(mixtures[0].by_source["small"] - 40) < 23
    first_half = Counter(comparison.source for comparison in mixtures[0].comparisons[:400])
    assert 150 < first_half["meta"] < 250


def test_a_judgement_that_comes_twice_is_in_once():
    own = judged(3, "meta")
    mixture = helpfulness_mixture([*own, own[0]], own[1:], judged(9, "shp"), seed=0)
    assert len({comparison.id for comparison in mixture.comparisons}) == len(mixture.comparisons) == 6
    assert mixture.repeated == 3 and mixture.by_source == {"meta": 3, "shp": 3}


def test_an_empty_mix_has_no_share():
    assert helpfulness_mixture([], [], seed=0).drawn_share == 0


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 40), st.integers(1, 10), st.integers(0, 9))
def test_no_prompt_is_on_both_sides_and_nothing_is_lost(count, prompts, seed):
    records = judged(count, "s", prompts=prompts)
    sides = split_by_prompt(records, seed, {"train": 0.5, "test": 0.5})
    assert set(sides) == {"train", "test"}
    assert {record.prompt_id for record in sides["train"]}.isdisjoint(record.prompt_id for record in sides["test"])
    assert sorted(record.id for side in sides.values() for record in side) == sorted(record.id for record in records)
    for side in sides.values():
        assert side == [record for record in records if record in side]


def test_shares_hold_on_average_and_sides_never_move():
    sides = Counter(split_of(f"prompt {number}", seed=3) for number in range(20_000))
    for side, share in SHARES.items():
        assert sides[side] / 20_000 == pytest.approx(share, abs=0.01)
    # printf '0\x1f0123456789abcdef' | sha256sum starts with d2bd, and 0xd2bd / 0x10000 = 0.8232.
    assert split_of("0123456789abcdef", 0, {"train": 0.823, "validation": 0.001, "test": 0.176}) == "validation"
    seeds = {tuple(split_of(f"prompt {number}", seed) for number in range(100)) for seed in range(3)}
    assert len(seeds) == 3


def test_dialogues_fall_with_their_prompt():
    dialogue = make_dialogue([user("q"), {"role": "assistant", "content": "a"}], family="f", source="s")
    (side,) = [side for side, records in split_by_prompt([dialogue], 0).items() if records]
    assert side == split_of(dialogue.prompt_id, 0)


def test_a_share_of_nothing_takes_nothing_and_wrong_shares_are_refused():
    assert {split_of(str(number), 0, {"train": 1.0, "test": 0.0}) for number in range(50)} == {"train"}
    for shares in ({"train": 0.5}, {"train": 1.5, "test": -0.5}):
        with pytest.raises(ValueError, match="sum to"):
            split_of("x", 0, shares)
