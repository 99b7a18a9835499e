import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preference_data.messages import (
    TAGS,
    MessagesError,
    assistant,
    check_dialogue,
    check_messages,
    check_prompt,
    messages_id,
    num_turns,
    user,
)

SYSTEM = {"role": "system", "content": "Be brief."}
texts = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=8)
message_lists = st.lists(
    st.builds(lambda role, text: {"role": role, "content": text}, st.sampled_from(["system", "user", "assistant"]), texts),
    max_size=4,
)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "empty"),
        ([user(" \n")], "empty"),
        ([user("hi"), user("hello?")], "not_alternating"),
        ([assistant("hi")], "not_alternating"),
        ([user("hi"), SYSTEM], "not_alternating"),
        ([SYSTEM], "no_user_last"),
        ([user("hi"), assistant("hello")], "no_user_last"),
        ([{"role": "tool", "content": "x"}], "malformed"),
        ([{"role": "user", "content": "x", "name": "y"}], "malformed"),
        ([3], "malformed"),
        ([{"role": [], "content": "x"}], "malformed"),
        ([{"role": "user", "content": 3}], "empty"),
    ],
)
def test_a_broken_prompt_is_refused_with_its_reason(messages, reason):
    with pytest.raises(MessagesError) as caught:
        check_prompt(messages)
    assert caught.value.reason == reason


@pytest.mark.parametrize("tag", TAGS)
def test_tags_are_refused_in_user_and_system_text_and_allowed_in_assistant_text(tag):
    for broken in ([user(f"a {tag} b")], [{"role": "system", "content": tag}, user("a")]):
        with pytest.raises(MessagesError) as caught:
            check_prompt(broken)
        assert caught.value.reason == "chat_tags"
    check_dialogue([user("a"), assistant(f"b {tag}")])


def test_well_formed_prompts_and_dialogues_pass():
    check_prompt([SYSTEM, user("a"), assistant("b"), user("c")])
    check_dialogue([user("a"), assistant("b")])
    with pytest.raises(MessagesError, match="must end with an assistant"):
        check_dialogue([user("a")])


def test_turns_count_exchanges():
    assert num_turns([SYSTEM, user("a")]) == 1
    assert num_turns([user("a"), assistant("b"), user("c"), assistant("d")]) == 2


def test_the_id_is_fixed_for_all_time():
    # printf '[["user","Grüße"]]' | sha256sum | cut -c1-16; a change here would rename every stored prompt.
    assert messages_id([user("Grüße")]) == "24a40702847d411e"


@given(message_lists, message_lists)
def test_ids_are_equal_exactly_for_equal_messages(one, other):
    reordered = [dict(reversed(list(message.items()))) for message in json.loads(json.dumps(one))]
    assert messages_id(reordered) == messages_id(one)
    assert (messages_id(one) == messages_id(other)) == (one == other)


def test_moving_text_between_messages_changes_the_id():
    assert messages_id([user("ab"), assistant("c")]) != messages_id([user("a"), assistant("bc")])


def test_check_messages_allows_either_end():
    check_messages([user("a")])
    check_messages([user("a"), assistant("b")])
