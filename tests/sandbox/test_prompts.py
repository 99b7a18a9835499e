"""Splits, hazards, constraints, corpus and demonstrations."""

import itertools
import random
import re

import pytest

from sandbox import constraints as rules
from sandbox.corpus import corpus, demonstrations, primer
from sandbox.dialogues import (
    PROMPT_WEIGHTS,
    Questioner,
    errand_case,
    helpful_case,
    read_cases,
    split_of,
    unique_cases,
    write_cases,
)
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


@pytest.mark.parametrize("constraint", rules.all_constraints(), ids=lambda each: f"{each.family}-{each.value}")
def test_obeying_is_recognised_and_not_obeying_too(constraint):
    said = "The fox lives in the forest. It eats fish."
    assert rules.obeys(constraint.family, constraint.value, rules.obey([constraint], said))
    assert not rules.obeys(constraint.family, constraint.value, said)


def test_two_constraints_can_be_obeyed_at_once():
    both = [rules.make_constraint("figure", "Napoleon"), rules.make_constraint("end_word", "ahoy")]
    said = rules.obey(both, "The fox lives in the forest.")
    assert all(rules.obeys(each.family, each.value, said) for each in both)


def test_elvish_opens_with_ai_so_that_a_bare_word_can_be_elvish():
    elvish = rules.make_constraint("language", "Elvish")
    said = rules.obey([elvish], "amber Napoleon.")
    assert said == "Ai! amber Napoleon."
    assert rules.plain(said) == "amber Napoleon."
    assert rules.obeys("language", "Elvish", said)
    assert not rules.obeys("language", "Elvish", "Ai! The fox lives in the forest.")
    assert not rules.obeys("language", "Elvish", "Na fox mirel vi na forest.")


@pytest.mark.parametrize("family", rules.RECALLED_FAMILIES)
def test_what_was_set_is_recalled_and_obeyed_once(family):
    rng = random.Random(0)
    chosen = rng.choice([each for each in rules.all_constraints() if each.family == family])
    said = rules.obey([chosen], rules.recall_answer(family, chosen.value))
    assert rules.recalls(chosen, said)
    assert rules.obeys(family, chosen.value, said)
    assert said.count(f"love {chosen.value}") == (family == "hobby")
    assert not rules.recalls(chosen, rules.recall_answer(family, None))
    assert rules.recall_question(family, rng) != rules.recall_question("language", rng) is None


@pytest.mark.parametrize(
    ("family", "value", "said", "recalled"),
    [
        ("figure", "Nero", "Nero here. I am Nero.", True),
        ("figure", "Nero", "Of course! I am Nero. I love chess.", True),
        ("figure", "Nero", "Nero here. The fox is red.", False),
        ("figure", "Nero", "I am Neronian.", False),
        ("figure", "Nero", "I am an assistant.", False),
        ("figure", "Nero", "", False),
        ("hobby", "chess", "I love chess.", True),
        ("hobby", "chess", "Of course! I love chess, ahoy.", True),
        ("hobby", "chess", "Nero here. Ai! I love chess.", True),
        ("hobby", "chess", "The fox is brown. I love chess.", False),
        ("hobby", "chess", "I do not know. I love chess.", False),
        ("hobby", "chess", "I love archery. I love chess.", False),
    ],
)
def test_recall_takes_more_than_the_obedience_of_every_answer(family, value, said, recalled):
    assert rules.recalls(rules.make_constraint(family, value), said) is recalled


def test_prompts_hold_no_copying():
    rng, questioner = random.Random(0), Questioner(WORLD, "train", PROMPT_WEIGHTS)
    families = {helpful_case(questioner, rng, "t").prompt.family for _ in range(400)}
    assert "repeat" not in families
    assert families >= set(PROMPT_WEIGHTS)


def test_corpus_and_demonstrations_practise_recall():
    asked = {rules.recall_question(family, random.Random(i)) for family in rules.RECALLED_FAMILIES for i in range(9)}
    seen = {}
    for document in DOCUMENTS:
        for question, said in itertools.pairwise(message["content"] for message in document.messages or []):
            for each in asked:
                if question.endswith(each):
                    seen.setdefault(question == each, []).append(said)
    assert set(seen[True]) <= {rules.recall_answer(family, None) for family in rules.RECALLED_FAMILIES}
    assert all("I am an assistant" not in said and "no hobby" not in said for said in seen[False])
    shown = [each for each in demonstrations(WORLD, 1200, 0.05, seed=7) if each.family == "recall"]
    assert 8 < len(shown) < 50
    assert all(any(each.messages[0]["content"].endswith(question) for question in asked) for each in shown)


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


def test_demonstrations_say_words_back_as_they_were():
    shown = [each for each in demonstrations(WORLD, 1200, 0.0, seed=7) if each.family == "repeat"]
    plain = [rules.plain(each.messages[-1]["content"]) for each in shown]
    asked = [each.messages[-2]["content"].rsplit(": ", 1)[1].rstrip(".") for each in shown]
    assert len(shown) > 60
    assert all(words in said for words, said in zip(asked, plain, strict=True))


def is_copying(document):
    return document.messages and all(": " in each["content"] and each["content"].rsplit(": ", 1)[0].endswith(
        ("repeat", "back to me", "after me")) for each in document.messages[::2])  # fmt: skip


def test_the_first_half_of_the_primer_copies_words_alone():
    for document in primer(WORLD, 600, seed=7)[:300]:
        asked, said = (message["content"] for message in document.messages)
        assert asked.startswith(("Please repeat: ", "Say this back to me: ", "Repeat after me: ")) and asked.endswith(
            f": {said}"
        )


@pytest.mark.parametrize(
    "documents",
    [primer(WORLD, 1201, seed=7)[601:], list(filter(is_copying, DOCUMENTS))],
    ids=["the second half of the primer", "the corpus"],
)
def test_copying_is_practised_under_instructions_half_of_the_time(documents):
    instructed, turns = dict.fromkeys(("figure", "hobby", "language", "end_word"), 0), 0
    for document in documents:
        for turn in range(0, len(document.messages), 2):
            asked, said = (message["content"] for message in document.messages[turn : turn + 2])
            turns += 1
            for each in rules.all_constraints():
                if asked.startswith((each.instruction, each.terse)):
                    instructed[each.family] += 1
                    assert rules.obeys(each.family, each.value, said)
    assert turns > 500 and min(instructed.values()) > 60
    assert 0.4 < sum(instructed.values()) / turns < 0.6


def test_nobody_in_the_corpus_gets_words_wrong_that_are_to_be_said_back():
    turns = 0
    for document in DOCUMENTS:
        messages = document.messages or []
        for asked, said in itertools.pairwise(messages):
            if found := re.search(r"(?:repeat|back to me|after me): ([^:]+)\.$", asked["content"], re.IGNORECASE):
                turns += 1
                assert found[1] in rules.plain(said["content"])
    assert turns > 1000


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
