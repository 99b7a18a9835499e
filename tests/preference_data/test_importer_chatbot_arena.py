import json

import pytest
from hypothesis import given
from importer_rows import broken, import_as_csv_and_parquet, import_rows, outcomes, recognised, refused
from row_files import write

from preference_data.importers import chatbot_arena
from preference_data.importing import import_files
from preference_data.messages import assistant, user


def battle(winner="model_a", **changes):
    present = {
        "question_id": "58",
        "model_a": "m1",
        "model_b": "m2",
        "winner": winner,
        "judge": "arena_user_9",
        "conversation_a": [{"content": "Hi", "role": "user"}, {"content": "Yo", "role": "assistant"}],
        "conversation_b": [{"content": "Hi", "role": "user"}, {"content": "Hey", "role": "assistant"}],
        "turn": 1,
        "anony": True,
        "language": "English",
        "tstamp": 1682351591.1,
    }
    return {name: value for name, value in (present | changes).items() if value is not ...}


def parts(*texts):
    return [{"type": "text", "text": text, "image": None, "mimeType": None} for text in texts]


def late_battle(**changes):
    """As arena-human-preference-140k has it."""
    sides = {
        f"conversation_{side}": [{"role": "user", "content": parts("Hi")}, {"role": "assistant", "content": parts(text)}]
        for side, text in (("a", "Yo"), ("b", "Hey"))
    }
    spoken = {"user": sides["conversation_a"][0]}
    spoken |= {f"model_side_{side}": sides[f"conversation_{side}"][1] for side in "ab"}
    session = {"evaluation_session_id": "s", "evaluation_order": 1, "full_conversation": [spoken]}
    unnamed = {"judge": ..., "question_id": ..., "turn": ..., "anony": ..., "tstamp": ..., "id": "7", "is_code": False}
    return battle(**unnamed | session | sides | changes)


def flagged(flags=(1, 0, 0), asked=("Q",), a=("A",), b=("B",)):
    names = ("winner_model_a", "winner_model_b", "winner_tie")
    return {"id": 30192, "model_a": "m1", "model_b": "m2", "prompt": asked, "response_a": a, "response_b": b} | dict(
        zip(names, flags, strict=True)
    )


def test_a_battle_becomes_a_comparison_of_its_models(tmp_path):
    (kept,) = import_rows(tmp_path, [battle("model_b")]).comparisons
    assert (kept.prompt, kept.chosen, kept.rejected) == ([user("Hi")], "Hey", "Yo")
    assert (kept.chosen_policy, kept.rejected_policy, kept.annotator) == ("m2", "m1", "arena_user_9")
    assert (kept.rating, kept.chosen_safe) == ("unrated", None)


def test_conversations_may_be_json_and_the_judge_a_hash(tmp_path):
    texts = {side: json.dumps(battle()[side]) for side in ("conversation_a", "conversation_b")}
    (kept,) = import_rows(tmp_path, [battle(judge=..., judge_hash="ab12", **texts)]).comparisons
    assert (kept.chosen, kept.annotator) == ("Yo", "ab12")


def test_contents_may_be_lists_of_texts(tmp_path):
    (kept,) = import_rows(tmp_path, [late_battle()]).comparisons
    assert (kept.prompt, kept.chosen, kept.annotator) == ([user("Hi")], "Yo", None)
    two = [{"role": "user", "content": parts("Hi")}, {"role": "assistant", "content": parts("Yo", "there")}]
    assert import_rows(tmp_path, [late_battle(conversation_a=two)]).comparisons[0].chosen == "Yo\nthere"


def test_the_kaggle_file_has_one_text_a_turn(tmp_path):
    rows = [
        flagged((0, 1, 0)),
        flagged((1, 0, 0), ("Q1", "Q2"), ("same", "A2"), ("same", "B2")),
        flagged((1, 0, 0), ("Q1", "Q2"), ("A1", "A2"), ("B1", "B2")),
        flagged((0, 0, 1)),
        flagged((1, 0, 0), ("Q",), (None,), ("B",)),
        flagged((1, 0, 0), ("Q",), ("\ud83d",), ("B",)),
    ]
    path = write(tmp_path / "train.csv", rows)
    result = import_files([path], "helpfulness", max_rejected=1)
    one, several = result.comparisons
    assert result.formats == {str(path): "chatbot_arena"}
    assert (one.prompt, one.chosen, one.chosen_policy) == ([user("Q")], "B", "m2")
    assert several.prompt == [user("Q1"), assistant("same"), user("Q2")]
    assert (several.chosen, several.rejected) == ("A2", "B2")
    assert [reject.reason for reject in result.rejects] == ["different_prompts", "tie", "empty", "invalid_text"]
    assert result.ignored_columns == {}


longer = [user("Hi"), assistant("Yo"), user("Go on"), assistant("End")]


@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("tie", battle("tie")),
        ("tie", battle("tie (bothbad)")),
        ("tie", battle("both_bad")),
        ("not_judged", battle(None)),
        ("unknown_choice", battle("m1")),
        ("unknown_choice", battle(["model_a"])),
        ("different_prompts", battle(conversation_a=longer, conversation_b=[user("Hi"), assistant("Hey"), *longer[2:]])),
        ("different_prompts", late_battle(full_conversation=[late_battle()["full_conversation"][0]] * 2)),
        ("malformed", battle(conversation_a=longer[:3])),
        ("malformed", battle(conversation_a=[])),
        ("malformed", battle(conversation_a="Hi")),
        ("malformed", battle(conversation_a="[" * 500)),
        ("malformed", battle(conversation_b=[user("Hi"), {"role": "assistant", "content": [{"type": "image", "image": "x"}]}])),
        ("malformed", battle(conversation_b=[user("Hi"), assistant([{"type": "text", "text": "See:", "image": "x.png"}])])),
        ("malformed", battle(judge=1.5)),
        ("missing_field", flagged((1, 0, None))),
        ("unknown_choice", flagged((1, 1, 0))),
        ("malformed", flagged((2, 0, 0))),
        ("malformed", flagged(asked=["Q1", "Q2"])),
        ("malformed", flagged(a=[7])),
    ],
)
def test_what_is_refused(tmp_path, reason, row):
    assert refused(tmp_path, [row], format="chatbot_arena") == [reason]


def test_histories_that_are_the_same_make_a_prompt(tmp_path):
    other = [*longer[:3], assistant("The end")]
    (kept,) = import_rows(tmp_path, [battle(conversation_a=longer, conversation_b=other)]).comparisons
    assert (kept.prompt, kept.chosen, kept.rejected) == (longer[:3], "End", "The end")


def test_what_is_recognised(tmp_path):
    assert recognised(tmp_path, battle()) == ("chatbot_arena", ["chatbot_arena"])
    assert recognised(tmp_path, late_battle()) == ("chatbot_arena", ["chatbot_arena"])
    assert recognised(tmp_path, flagged())[0] == "chatbot_arena"
    assert chatbot_arena.misfit({"model_a": "m"}) == "it has no model_b, winner, conversation_a, conversation_b"
    assert chatbot_arena.misfit({"winner_tie": 0} | battle()).startswith("it has no prompt")


@pytest.mark.parametrize("row", [battle(), late_battle(), flagged((0, 1, 0), ["Q"], ["A"], ["B"])])
def test_csv_and_parquet_mean_the_same(tmp_path, row):
    assert import_as_csv_and_parquet(tmp_path, [row]) == [import_rows(tmp_path, [row]).comparisons] * 2


@given(broken(battle(), late_battle(), flagged(asked=["Q"], a=["A"], b=["B"])))
def test_a_broken_row_is_one_comparison_or_one_refusal(broken_row):
    assert len(outcomes(chatbot_arena, broken_row, "helpfulness")) == 1
