import pytest
from importer_rows import import_rows, recognised, refused

from preference_data.importers import helpsteer
from preference_data.messages import assistant, user


def second(strength=1, **changes):
    present = {
        "split": "train",
        "prompt": "Hi\n<extra_id_1>Assistant\nHello\n\nthere\n<extra_id_1>User\nA joke?",
        "response_1": "One.",
        "response_2": "Two.",
        "preference_strength": strength,
        "preference_statement": "@Response 2 is better than @Response 1 because it is longer.",
        "preference_elaboration": "",
    }
    return present | changes


def third(strength=-2, **changes):
    present = {
        "domain": "general",
        "language": "english",
        "context": [user("Hi"), assistant("Hello"), user("A joke?")],
        "response1": "One.",
        "response2": "Two.",
        "overall_preference": strength,
        "individual_preference": [{"score": -2, "reasoning": "", "feedback1": "", "feedback2": ""}],
    }
    return present | changes


@pytest.mark.parametrize("shape", [second, third])
@pytest.mark.parametrize(
    ("strength", "chosen", "rating"),
    [
        (-3, "One.", "significantly_better"),
        (-2, "One.", "better"),
        (-1, "One.", "slightly_better"),
        (1, "Two.", "slightly_better"),
        (2, "Two.", "better"),
        (3, "Two.", "significantly_better"),
    ],
)
def test_the_strength_says_which_is_better_and_how_much(tmp_path, shape, strength, chosen, rating):
    (kept,) = import_rows(tmp_path, [shape(strength)]).comparisons
    assert (kept.chosen, kept.rating) == (chosen, rating)
    assert {kept.chosen, kept.rejected} == {"One.", "Two."}


def test_the_marks_part_the_messages_of_a_prompt(tmp_path):
    (kept,) = import_rows(tmp_path, [second()]).comparisons
    assert kept.prompt == [user("Hi"), assistant("Hello\n\nthere"), user("A joke?")]
    assert import_rows(tmp_path, [third()]).comparisons[0].prompt == [user("Hi"), assistant("Hello"), user("A joke?")]
    assert import_rows(tmp_path, [second(prompt="Only\nthis")]).comparisons[0].prompt == [user("Only\nthis")]


@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("tie", second(0)),
        ("tie", third(0)),
        ("malformed", second(4)),
        ("malformed", second("2")),
        ("malformed", third(True)),
        ("missing_field", third(None)),
        ("malformed", second(prompt="Hi <extra_id_1>Assistant\nHello")),
        ("malformed", second(prompt="<extra_id_1>User\nHi")),
        ("malformed", second(prompt="Hi\n<extra_id_1>Assistant\n<extra_id_1>User\nHello")),
        ("no_user_last", second(prompt="Hi\n<extra_id_1>Assistant\nHello")),
        ("not_alternating", second(prompt="Hi\n<extra_id_1>User\nHello")),
        ("malformed", third(context="Hi")),
        ("malformed", third(response1=["One."])),
    ],
)
def test_what_is_refused(tmp_path, reason, row):
    assert refused(tmp_path, [row]) == [reason]


def test_only_preferences_are_recognised(tmp_path):
    assert recognised(tmp_path, second()) == ("helpsteer", ["helpsteer"])
    assert recognised(tmp_path, third()) == ("helpsteer", ["helpsteer"])
    scores = {"prompt": "q", "response": "a", "helpfulness": 4, "correctness": 4}
    assert "single responses" in helpsteer.misfit(scores)
    assert helpsteer.misfit({"overall_preference": 1, "context": [], "response1": ""}) == "it has no response2"
    assert "neither preference_strength nor overall_preference" in helpsteer.misfit({"prompt": "q"})
