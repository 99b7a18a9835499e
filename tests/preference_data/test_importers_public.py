import itertools
import json

import pytest
from fuzzed_rows import CORPORA
from hypothesis import given, settings
from hypothesis import strategies as st
from import_checks import num_judgements
from importer_rows import broken, import_as_csv_and_parquet, import_rows, outcomes
from public_rows import OPEN, QUESTION, RECORDS, SAMPLES, SUMMARIES, answer, said

from preference_data.comparison import AXES, Comparison
from preference_data.formats import IMPORTERS
from preference_data.importers import stack_exchange
from preference_data.judgement import RowError
from preference_data.messages import user

EACH = [pytest.param(name, row, id=f"{name}-{number}") for name, rows in SAMPLES.items() for number, row in enumerate(rows)]
PUBLIC = [row for name, rows in SAMPLES.items() for row in rows if name not in ("native", "anthropic_hh")]


def imported(name, row):
    """What a row becomes: comparisons, and reasons of what is refused."""
    found = outcomes(IMPORTERS[name], row, "helpfulness")
    return [each.reason if isinstance(each, RowError) else each for each in found]


def the_one(name, row):
    (kept,) = imported(name, row)
    assert isinstance(kept, Comparison), kept
    return kept


def sides(kept):
    return kept.prompt, kept.chosen, kept.rejected


@pytest.mark.parametrize(("name", "row"), EACH)
def test_a_row_is_recognised_by_its_own_importer_alone_and_its_columns_are_known(name, row):
    assert [other for other, importer in IMPORTERS.items() if importer.misfit(row) is None] == [name]
    assert set(row) <= set(IMPORTERS[name].FIELDS)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("row", [*PUBLIC, *(rows[0] for name, rows in CORPORA if name in ("helpsteer", "pku_saferlhf"))])
def test_csv_and_parquet_hold_the_same_comparisons_as_a_json_list(tmp_path, row, axis):
    expected = import_rows(tmp_path, [row], axis).comparisons
    assert len(expected) == 1 and import_as_csv_and_parquet(tmp_path, [row], axis) == [expected] * 2


def test_summaries():
    reddit, news = (the_one("openai_summarize", row) for row in SAMPLES["openai_summarize"])
    text = "My cat sleeps all day and eats at night. What should I do?"
    post = f"SUBREDDIT: r/cats\n\nTITLE: Cat awake at night\n\nPOST: {text}\n\nTL;DR:"
    assert sides(reddit) == ([user(post)], "My cat is awake at night, what should I do?", "Cats.")
    assert (reddit.chosen_policy, reddit.rejected_policy, reddit.annotator, reddit.batch) == ("sup2", "ref", "w-7", "batch9")
    article = "It rained on Monday, and the fair was put off."
    assert sides(news) == ([user(f"{article}\n\nTL;DR:")], "It rained.", "The fair was put off.")
    assert (news.chosen_policy, news.rejected_policy) == ("b", "a")
    row = SAMPLES["openai_summarize"][0]
    without_nulls = row | {"info": {name: value for name, value in row["info"].items() if value is not None}}
    assert the_one("openai_summarize", without_nulls) == reddit


def test_webgpt_prefers_the_answer_whose_score_is_above_0():
    row = SAMPLES["webgpt"][0]
    assert sides(the_one("webgpt", row)) == ([user("Why is snow white?")], "It scatters all light [1].", "It is frozen.")
    assert sides(the_one("webgpt", row | {"question": "Why?", "score_0": 0.1, "score_1": -0.1}))[1] == "It is frozen."


def test_webgpt_reads_a_list_of_two_records_as_one_row():
    assert [name for name, importer in IMPORTERS.items() if importer.misfit({"records": RECORDS}) is None] == ["webgpt"]
    assert sides(the_one("webgpt", {"records": RECORDS})) == ([user("Why is the sky blue?")], "It scatters.", "The sea.")
    assert sides(the_one("webgpt", {"records": RECORDS[::-1]}))[1] == "It scatters."
    other = RECORDS[1] | {"question": QUESTION | {"full_text": "How?"}}
    assert imported("webgpt", {"records": [RECORDS[0], other]}) == ["different_prompts"]
    assert imported("webgpt", {"records": RECORDS[:1]}) == ["malformed"]


def test_shp_label_1_means_a():
    row = SAMPLES["shp"][0]
    better = "In a linen bag, cut side down, never in the fridge."
    assert sides(the_one("shp", row)) == ([user("How do I keep bread fresh? I bake on Sundays.")], better, "In a bag.")
    assert sides(the_one("shp", row | {"labels": 1}))[1:] == ("In a bag.", better)


def question(*scores):
    return {"qid": 1, "question": "q", "answers": [answer(f"answer {place}", score) for place, score in enumerate(scores)]}


def test_a_stack_exchange_question_holds_a_judgement_for_each_pair_of_unequal_scores():
    pairs = [(kept.chosen, kept.rejected) for kept in imported("stack_exchange", question(1, 5, 1, 3))]
    assert pairs == [(f"answer {better}", f"answer {worse}") for better, worse in ((1, 0), (1, 2), (1, 3), (3, 0), (3, 2))]
    assert imported("stack_exchange", question(2, 2, 2)) == imported("stack_exchange", question(2)) == ["tie"]
    same_text = question(3, 1) | {"answers": [answer("x", 3), answer("x ", 1), answer("y", 0)]}
    far, alike, near = imported("stack_exchange", same_text)
    assert (far.chosen, alike, near.chosen) == ("x", "identical_responses", "x ")


@given(scores=st.lists(st.integers(-3, 9), max_size=30))
def test_the_pairs_farthest_apart_are_those_that_sorting_every_pair_finds(scores):
    every = itertools.permutations(range(len(scores)), 2)
    apart = [(scores[worse] - scores[better], better, worse) for better, worse in every if scores[better] > scores[worse]]
    assert stack_exchange.farthest_apart(scores) == [pair[1:] for pair in sorted(apart)[:10]]


def test_a_question_with_very_many_answers_is_read_at_once():
    pairs = stack_exchange.farthest_apart([float(place % 1000) for place in range(200_000)])
    assert pairs == [(999, 1000 * each) for each in range(10)]


def test_ultrafeedback():
    one, other = SAMPLES["ultrafeedback"]
    assert sides(the_one("ultrafeedback", one)) == ([user("Explain tides.")], "The moon pulls at the sea.", "Waves.")
    kept = the_one("ultrafeedback", other)
    assert (kept.chosen_policy, kept.rejected_policy, kept.source) == ("big", "small", "s")
    plain = {"prompt": "hi?", "chosen": "Hello.", "rejected": "No.", "score_chosen": 2, "score_rejected": 1}
    assert sides(the_one("ultrafeedback", plain)) == sides(kept)


def test_dahoas_transcripts_are_the_comparisons_that_anthropic_hh_makes():
    whole = the_one("anthropic_hh", SAMPLES["anthropic_hh"][0])
    assert the_one("dahoas", SAMPLES["dahoas"][0]) == whole
    assert whole.prompt == said("Hi", "Hello.", "A colour?")
    plain = SAMPLES["trl"][0]
    assert the_one("dahoas", plain) == the_one("trl", plain)
    assert imported("dahoas", SAMPLES["dahoas"][0] | {"prompt": f"{OPEN} I think"}) == ["no_user_last"]


REFUSED = [
    ("openai_summarize", 0, {"summaries": SUMMARIES[:1]}, "malformed"),
    ("openai_summarize", 0, {"summaries": ["one", "two"]}, "malformed"),
    ("openai_summarize", 0, {"choice": 2}, "malformed"),
    ("openai_summarize", 0, {"choice": True}, "malformed"),
    ("openai_summarize", 0, {"choice": None}, "missing_field"),
    ("openai_summarize", 0, {"info": {"title": "t"}}, "missing_field"),
    ("openai_summarize", 0, {"summaries": [SUMMARIES[0], SUMMARIES[0]]}, "identical_responses"),
    ("webgpt", 0, {"score_0": 0, "score_1": 0.0}, "tie"),
    ("webgpt", 0, {"score_0": 0.5}, "malformed"),
    ("webgpt", 0, {"score_0": "0.5"}, "malformed"),
    ("webgpt", 0, {"score_0": 10**400}, "malformed"),
    ("webgpt", 0, {"answer_1": " "}, "empty"),
    ("webgpt", 0, {"question": {"id": "x"}}, "missing_field"),
    ("webgpt", 0, {"question": "{'dataset': 'eli5', 'full_text': 'Why?'}"}, "malformed"),
    ("shp", 0, {"labels": 2}, "malformed"),
    ("shp", 0, {"history": ""}, "empty"),
    ("stack_exchange", 0, {"answers": {}}, "malformed"),
    ("stack_exchange", 0, {"answers": [answer("x", float("nan")), answer("y", 1)]}, "malformed"),
    ("stack_exchange", 0, {"answers": [answer("x", 1), {"text": "y"}]}, "missing_field"),
    ("ultrafeedback", 0, {"score_chosen": 3.0}, "tie"),
    ("ultrafeedback", 0, {"score_chosen": 1.0}, "malformed"),
    ("ultrafeedback", 0, {"score_chosen": None}, "missing_field"),
    ("ultrafeedback", 0, {"rejected": said("ho?", "No.")}, "different_prompts"),
    ("dahoas", 0, {"chosen": 7}, "malformed"),
    ("dahoas", 0, {"chosen": "half \ud800"}, "invalid_text"),
    ("dahoas", 0, {"rejected": " Blue. "}, "identical_responses"),
]


@pytest.mark.parametrize(("name", "number", "changes", "reason"), REFUSED)
def test_what_holds_no_preference_is_refused_with_its_reason(name, number, changes, reason):
    assert imported(name, SAMPLES[name][number] | changes) == [reason]


WHOLE = [(name, row) for name, rows in CORPORA if name in IMPORTERS for row in rows if isinstance(row, dict)]


@settings(max_examples=900, deadline=None)
@given(data=st.data(), sample=st.sampled_from([*WHOLE, ("webgpt", {"records": RECORDS})]), axis=st.sampled_from(AXES))
def test_whatever_a_row_holds_it_becomes_as_many_comparisons_or_reasons_as_it_has_judgements(data, sample, axis):
    name, whole = sample
    row = data.draw(broken(whole))
    before = repr(row)
    found = outcomes(IMPORTERS[name], row, axis)
    assert found and num_judgements(name, "list", json.dumps([row]).encode()) in (None, len(found))
    assert all(isinstance(each, Comparison | RowError) for each in found)
    assert all(misfit is None or misfit for misfit in (importer.misfit(row) for importer in IMPORTERS.values()))
    assert repr(row) == before
