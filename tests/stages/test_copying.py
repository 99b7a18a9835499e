"""Copying out of the prompt: which words are asked for, and what counts as said back."""

import pytest

from policy.generation import Response
from sandbox.tasks.task import Task
from sandbox.world import World
from stages.measure.copying import copies, questions

WORLD = World(7)


class Parrot:
    """Says the words back, but for every second prompt, where it turns them round."""

    def sample(self, prompts, k, temperature, top_p, max_new_tokens, seed):
        said = [prompt[-1]["content"].rsplit(": ", 1)[1].rstrip(".") for prompt in prompts]
        texts = [words if place % 2 else " ".join(reversed(words.split())) for place, words in enumerate(said)]
        return [[Response(f"Sure! {text}.", [5], [0.0], True, [1])] for text in texts]


def test_words_count_in_their_order_alone():
    found = copies(Parrot(), 7, 20, 0.7, 16, seed=0)
    assert [each.copied for each in found] == [bool(place % 2) or _alike(each.words) for place, each in enumerate(found)]
    assert all(each.words in each.question for each in found)


def test_questions_are_different_and_of_words_that_were_read():
    asked = questions(WORLD, 60, seed=1)
    assert len({task.question for task in asked}) == 60
    assert not any(word in WORLD.held_out for task in asked for word in task.settles.split())
    assert asked[:30] == questions(WORLD, 30, seed=1)


def test_more_questions_than_there_are_is_said(monkeypatch):
    monkeypatch.setattr("stages.measure.copying.Questioner", OneQuestion)
    with pytest.raises(ValueError, match="3 different questions to say words back are more than the 1 found"):
        questions(WORLD, 3, seed=0)


class OneQuestion:
    def __init__(self, world, split):
        pass

    def task(self, rng, family):
        return Task(family, "Say: plum.", settles="plum")


def _alike(words: str) -> bool:
    return len(set(words.split())) == 1
