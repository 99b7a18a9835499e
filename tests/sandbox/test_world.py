import random

import pytest

from sandbox.world import ATTRIBUTES, HELD_OUT_PER_KIND, KINDS, THINGS_PER_KIND, Claim, World

WORLD = World(7)


def test_sizes_are_those_of_the_design():
    assert len(WORLD.kind_of) == len(KINDS) * THINGS_PER_KIND == 150
    assert len(WORLD.facts) == 600
    assert len(WORLD.held_out) == len(KINDS) * HELD_OUT_PER_KIND


def test_names_and_values_are_single_words_and_no_name_is_used_twice():
    names = [name for pool in KINDS.values() for name in pool]
    assert len(names) == len(set(names))
    assert all(name.isalpha() for name in names)
    assert not set(names) & {value for attribute in ATTRIBUTES for value in attribute.values}


def test_the_seed_draws_the_world():
    assert World(7).facts == WORLD.facts
    other = World(8)
    assert other.kinds != WORLD.kinds
    shared = WORLD.facts.keys() & other.facts.keys()
    assert any(WORLD.facts[key] != other.facts[key] for key in shared)


@pytest.mark.parametrize("subject", [None, "it"])
def test_every_fact_reads_back_from_its_statement(subject):
    for (thing, attribute), value in WORLD.facts.items():
        claim = Claim(thing, attribute, value)
        opening = f"Here is the {thing}. " if subject else ""
        assert claim in WORLD.claims(f"{opening}{WORLD.says(claim, subject)}."), claim


def test_steps_speak_of_the_subject():
    place = WORLD.kinds["place"][0]
    sight, ware = WORLD.facts[place, "sight"], WORLD.facts[place, "ware"]
    found = WORLD.claims(f"First see the {sight}, then buy some {ware}.", subject=place)
    assert found == [Claim(place, "sight", sight), Claim(place, "ware", ware)]


def test_false_claims_are_false_and_of_the_same_attribute():
    rng = random.Random(0)
    for thing, attribute in list(WORLD.facts)[:100]:
        claim = WORLD.false_claim(thing, attribute, rng)
        assert not WORLD.is_true(claim)
        assert claim.value in WORLD.attributes[attribute].values
