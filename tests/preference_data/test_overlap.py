import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preference_data.messages import assistant, user
from preference_data.overlap import EvaluationPrompts, Overlap

LONG = "how many of the brown foxes that jumped over the lazy dog were ever seen again"


def found(prompts, *messages, n=10, share=0.8):
    return EvaluationPrompts(prompts, n, share).in_messages(list(messages))


def test_a_prompt_that_is_in_a_row_is_found_whatever_case_and_punctuation():
    prompts = {"fox": [user(LONG)], "other": [user(LONG.replace("foxes", "cats"))]}
    row = user(f"Tell me: {LONG.upper()}?! Thanks")
    assert found(prompts, row) == [Overlap("fox", 1.0)]
    assert found(prompts, user("x"), assistant(LONG), user("and?"))[0].prompt_id == "fox"
    assert found(prompts, user("how many foxes")) == []


def test_short_prompts_overlap_with_the_same_words_alone():
    prompts = {"short": [user("Why is the sky blue?")]}
    assert found(prompts, user("why is the sky blue"))
    assert not found(prompts, user("why is the sky blue today"))
    assert not found({"empty": [user("?!")]}, user("?!"))


def test_wrong_settings_are_refused():
    for n, share in ((0, 0.5), (3, 0.0), (3, 1.1)):
        with pytest.raises(ValueError, match="give n from 1"):
            EvaluationPrompts({}, n, share)


words = st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join)


@settings(deadline=None, max_examples=200)
@given(words.filter(str.strip), words.filter(str.strip), st.integers(1, 4), st.sampled_from([0.3, 0.8, 1.0]))
def test_the_share_is_that_of_a_plain_count(prompt, row, n, share):
    def runs(text):
        parts = text.split()
        return {tuple(parts)} if len(parts) < n else {tuple(parts[i : i + n]) for i in range(len(parts) - n + 1)}

    expected = len(runs(prompt) & runs(row)) / len(runs(prompt))
    overlaps = found({"p": [user(prompt)]}, user(row), n=n, share=share)
    assert overlaps == ([Overlap("p", expected)] if expected >= share else [])
