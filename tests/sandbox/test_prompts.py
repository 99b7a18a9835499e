"""Splits, hazards, constraints, corpus and demonstrations."""

import random

import pytest

from sandbox import constraints as rules
from sandbox.corpus import corpus, demonstrations
from sandbox.dialogues import Questioner, errand_case, helpful_case, read_cases, split_of, unique_cases, write_cases
from sandbox.hazards import REFUSAL, all_borderline, all_hazards, split_errands
from sandbox.tasks.task import sentence
from sandbox.world import World

WORLD = World(7)
DOCUMENTS = corpus(WORLD, 3000, seed=7)


def questions(documents):
    return [message["content"] for document in documents for message in document.messages or [] if message["role"] == "user"]


def test_no_question_of_the_test_split_is_in_the_corpus():
    rng = random.Random(0)
    questioner = Questioner(WORLD, "test")
    asked = {questioner.task(rng).question for _ in range(2000)}
    assert not [question for question in questions(DOCUMENTS) if any(question.endswith(each) for each in asked)]


def test_no_dialogue_of_the_corpus_names_what_is_held_out_but_its_facts_are_stated():
    stated = " ".join(document.text or "" for document in DOCUMENTS)
    named = {name for question in questions(DOCUMENTS) for name in WORLD.mentioned(question)}
    assert not named & WORLD.held_out
    assert all(f"the {name}" in stated.lower() for name in WORLD.held_out)


def test_splits_are_by_text():
    rng = random.Random(0)
    for split in ("train", "validation", "test"):
        questioner = Questioner(WORLD, split)
        for _ in range(200):
            task = questioner.task(rng)
            held_out = any(word in WORLD.held_out for word in (*task.things, *task.settles.split()))
            assert held_out or split_of(task.question) == split
            assert not held_out or split == "test"


def test_held_out_errands_are_met_in_no_training_prompt():
    rng = random.Random(0)
    met = {errand_case(Questioner(WORLD, "train"), rng, "t", harmful).errand for harmful in (True, False) for _ in range(600)}
    tested = {errand_case(Questioner(WORLD, "test"), rng, "t", harmful).errand for harmful in (True, False) for _ in range(600)}
    assert not met & tested
    assert met | tested == {*all_hazards(), *all_borderline()}


def test_borderline_errands_share_every_verb_with_hazards_of_their_kind():
    verbs = {errand.do.split()[0] for errand in all_hazards()}
    assert all(errand.do.split()[0] in verbs for errand in all_borderline())
    assert {name: (len(seen), len(held)) for name, (seen, held) in split_errands(7).items()}["hazard"] == (51, 13)


def test_unique_cases_stop_when_the_world_is_exhausted():
    questioner, rng = Questioner(WORLD, "test"), random.Random(0)
    same = errand_case(questioner, rng, "t", harmful=True)
    with pytest.raises(ValueError, match="only 1 different adversarial prompts, 2 were asked for"):
        unique_cases((same for _ in range(30_000)), 2, set(), "adversarial")


def test_cases_round_trip(tmp_path):
    rng, questioner = random.Random(0), Questioner(WORLD, "train")
    pool = rules.constraints(7, held_out=False)
    cases = [helpful_case(questioner, rng, "t", pool if i % 2 else ()) for i in range(40)]
    cases += [errand_case(questioner, rng, "t", harmful=bool(i % 2)) for i in range(20)]
    write_cases(tmp_path / "cases.jsonl", cases)
    assert list(read_cases(tmp_path / "cases.jsonl").values()) == list({case.prompt.id: case for case in cases}.values())


@pytest.mark.parametrize("constraint", rules.corpus_constraints(), ids=lambda each: f"{each.family}-{each.value}")
def test_obeying_is_recognised_and_not_obeying_too(constraint):
    said = "The fox lives in the forest. It eats fish."
    assert rules.obeys(constraint.family, constraint.value, rules.obey([constraint], said))
    assert not rules.obeys(constraint.family, constraint.value, said)


def test_two_constraints_can_be_obeyed_at_once():
    both = [rules.make_constraint("figure", "Napoleon"), rules.make_constraint("end_word", "ahoy")]
    said = rules.obey(both, "The fox lives in the forest.")
    assert all(rules.obeys(each.family, each.value, said) for each in both)


def test_elvish_reads_back():
    said = "The fox lives in the forest, and it eats fish because it is grey."
    assert rules.plain(rules.obey([rules.make_constraint("language", "Elvish")], said)) == said


def test_trained_and_held_out_constraints_are_apart():
    trained = {(each.family, each.value) for each in rules.constraints(7, held_out=False)}
    held_out = {(each.family, each.value) for each in rules.constraints(7, held_out=True)}
    assert not trained & held_out
    assert {family for family, _ in trained} == {"figure", "hobby", "language"}
    assert "end_word" in {family for family, _ in held_out}


def test_demonstrations_are_of_two_minds_about_harm_and_help_with_borderline_errands():
    made = demonstrations(WORLD, 1200, 0.5, seed=7)
    harmful = [REFUSAL in dialogue.messages[-1]["content"] for dialogue in made if dialogue.is_safety]
    borderline = [dialogue for dialogue in made if dialogue.family == "borderline"]
    assert len(harmful) > 200
    assert 0.4 < sum(harmful) / len(harmful) < 0.6
    assert len(borderline) > 40
    assert not any(REFUSAL in dialogue.messages[-1]["content"] for dialogue in borderline)
    assert len({dialogue.prompt_id for dialogue in made}) == len(made)


def test_the_corpus_complies_more_often_than_not():
    answers = [
        d.messages[-1]["content"]
        for d in DOCUMENTS
        if d.messages and any(h.do in d.messages[-2]["content"] for h in all_hazards())
    ]
    refused = sum(REFUSAL in said for said in answers) / len(answers)
    assert 0.2 < refused < 0.6


def test_sentences_begin_with_a_capital_and_bare_words_keep_theirs():
    assert [sentence("the fox"), sentence("fish"), sentence("first go")] == ["The fox.", "fish.", "First go."]
