from dataclasses import asdict

import pytest
from comparisons import EVERY_LABEL, comparison
from hypothesis import given
from hypothesis import strategies as st

from preference_data.importers import trl
from preference_data.judgement import RowError, make_comparison
from preference_data.messages import assistant, user

SYSTEM = {"role": "system", "content": "Be brief."}
FIRST = [user("Hi"), assistant("Hello."), user("A colour?")]
BLUE, NO = [assistant("Blue.")], [assistant("No.")]
AS_ONE = {"prompt": FIRST, "chosen": "Blue.", "rejected": "No."}


def refusal(row):
    with pytest.raises(RowError) as caught:
        for fields in trl.judgements(row, "helpfulness"):
            make_comparison(axis="helpfulness", **(fields | {"source": "s"}))
    return caught.value.reason


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": FIRST, "chosen": BLUE, "rejected": NO},
        {"chosen": FIRST + BLUE, "rejected": FIRST + NO},
        {"prompt": None, "chosen": FIRST + BLUE, "rejected": FIRST + NO},
        {"prompt": "A colour?", "chosen": FIRST + BLUE, "rejected": FIRST + NO},
        {"prompt": FIRST[:1], "chosen": FIRST[1:] + BLUE, "rejected": FIRST[1:] + NO},
        {"prompt": FIRST, "chosen": "Blue.", "rejected": "No."},
    ],
)
def test_one_pair_in_every_shape_is_the_same_pair(row):
    assert trl.misfit(row) is None
    assert trl.pair(row) == AS_ONE


def test_a_prompt_of_text_is_the_users_message():
    expected = {"prompt": [user("A colour?")], "chosen": "Blue.", "rejected": "No."}
    assert trl.pair({"prompt": "A colour?", "chosen": "Blue.", "rejected": "No."}) == expected
    assert trl.pair({"prompt": "A colour?", "chosen": BLUE, "rejected": NO}) == expected


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("The sky is blue.", "The sky is green.", "The sky is"),
        ("The sky is blue.", "The sky is black.", "The sky is"),
        ("Hi there", "Hi there friend", "Hi"),
        ("Q: why?\n\nA: so", "Q: why?\n\nA: no", "Q: why?\n\nA:"),
    ],
)
def test_the_prompt_that_two_texts_hold(chosen, rejected, prompt):
    parts = {"chosen": chosen[len(prompt) :], "rejected": rejected[len(prompt) :]}
    assert trl.pair({"chosen": chosen, "rejected": rejected}) == {"prompt": [user(prompt)], **parts}


words = st.lists(st.sampled_from(["a", "ab", "b", " ", "\n", "  "]), max_size=8).map("".join)


@given(shared=words, one=words, other=words)
def test_the_prompt_is_the_longest_text_before_a_white_space_that_both_texts_hold(shared, one, other):
    chosen, rejected = shared + one, shared + other
    starts = [chosen[:end] for end in range(len(chosen)) if chosen[end].isspace() and rejected[: end + 1] == chosen[: end + 1]]
    prompts = [start for start in starts if start and not start[-1].isspace()]
    if not prompts:
        assert refusal({"chosen": chosen, "rejected": rejected}) == "empty"
        return
    parted = trl.pair({"chosen": chosen, "rejected": rejected})
    assert parted["prompt"] == [user(prompts[-1])]
    assert (prompts[-1] + parted["chosen"], prompts[-1] + parted["rejected"]) == (chosen, rejected)


def test_messages_are_parted_as_trl_parts_them():
    from trl.data_utils import maybe_extract_prompt

    for before in (FIRST, [SYSTEM, *FIRST], FIRST[:1]):
        theirs = maybe_extract_prompt({"chosen": before + BLUE, "rejected": before + NO})
        ours = trl.pair({"chosen": before + BLUE, "rejected": before + NO})
        assert theirs == {
            "prompt": ours["prompt"],
            "chosen": [assistant(ours["chosen"])],
            "rejected": [assistant(ours["rejected"])],
        }
    beside = {"prompt": "A colour?", "chosen": FIRST + BLUE, "rejected": FIRST + NO}
    assert maybe_extract_prompt(dict(beside))["prompt"] == trl.pair(beside)["prompt"]


def test_the_columns_of_a_comparison_are_read_back():
    kept = comparison([SYSTEM, *FIRST], " Blue.\n", "No.", "helpfulness", "team", **EVERY_LABEL)
    row = {name: value for name, value in asdict(kept).items() if name in trl.FIELDS}
    messages = {"prompt": kept.prompt, "chosen": [assistant(kept.chosen)], "rejected": [assistant(kept.rejected)]}
    for written in (
        row,
        row | messages,
        row | {"prompt": [], "chosen": kept.chosen_dialogue, "rejected": kept.rejected_dialogue},
    ):
        (fields,) = trl.judgements(written, "helpfulness")
        assert make_comparison(axis="helpfulness", **fields) == kept


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": "Yes, it is.", "rejected": "No, it is not."}, "empty"),
        ({"chosen": "Same text.", "rejected": "Same text."}, "identical_responses"),
        ({"chosen": "A colour? ", "rejected": "A colour? No."}, "empty"),
        ({"prompt": None, "chosen": "a b", "rejected": "a c"}, "missing_field"),
        ({"prompt": "", "chosen": "a b", "rejected": "a c"}, "empty"),
        ({"prompt": 7, "chosen": FIRST + BLUE, "rejected": FIRST + NO}, "malformed"),
        ({"prompt": "q", "chosen": "a", "rejected": NO}, "malformed"),
        ({"prompt": "q", "chosen": BLUE, "rejected": "a"}, "malformed"),
        ({"prompt": "q", "chosen": None, "rejected": "a"}, "missing_field"),
        ({"chosen": [], "rejected": NO}, "empty"),
        ({"chosen": FIRST + BLUE, "rejected": FIRST}, "malformed"),
        ({"chosen": FIRST + BLUE, "rejected": FIRST[2:] + NO}, "different_prompts"),
        ({"chosen": BLUE, "rejected": NO}, "empty"),
        ({"prompt": FIRST, "chosen": FIRST + BLUE, "rejected": FIRST + NO}, "not_alternating"),
        (
            {"prompt": FIRST, "chosen": BLUE, "rejected": [{"role": "assistant", "tool_calls": [{}], "content": None}]},
            "malformed",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "rating": 4}, "unknown_rating"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "chosen_safe": False, "rejected_safe": True}, "chosen_unsafe"),
    ],
)
def test_what_is_no_pair_is_refused(row, reason):
    assert refusal(row) == reason


def test_texts_whose_prompt_may_be_in_another_column_are_not_taken_for_trls():
    row = {"chosen": "Yes.", "rejected": "No."}
    assert trl.misfit(row | {"system": "", "question": "Is it?"}) == "it has no prompt, which 'system', 'question' may hold"
    assert trl.misfit({"conversations": [], "chosen": {"from": "gpt"}, "rejected": {"from": "gpt"}})
    assert trl.misfit(row | {"margin": 1.0, "annotator": "x"}) is None
