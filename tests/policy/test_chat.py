"""The chat format against the reference algorithm, written out again here from its description."""

import json

import pytest
from fakes import tiny_tokenizer
from transformers import LlamaTokenizer

from policy.chat import CHAT_TEMPLATE, chat_template_for, decode_response, encode_dialogue, encode_dialogues, encode_prompt
from preference_data.messages import MessagesError, assistant, user

SYSTEM = {"role": "system", "content": "Be kind."}
ONE = [user(" hi fox "), assistant("Sure! The fox.")]
TWO = [*ONE, user("and the owl?"), assistant(" brown ")]


def reference_ids(messages):
    """One string a turn, each encoded on its own between BOS and EOS."""
    tokenizer = tiny_tokenizer()

    def plain(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    if messages[0]["role"] == "system":
        merged = "<<SYS>>\n" + messages[0]["content"] + "\n<</SYS>>\n\n" + messages[1]["content"]
        messages = [user(merged), *messages[2:]]
    ids = []
    for question, answer in zip(messages[::2], messages[1::2], strict=False):
        ids += [1, *plain(f"[INST] {question['content'].strip()} [/INST] {answer['content'].strip()} "), 2]
    if len(messages) % 2:
        ids += [1, *plain(f"[INST] {messages[-1]['content'].strip()} [/INST]")]
    return ids


@pytest.mark.parametrize("start", [[], [SYSTEM]])
@pytest.mark.parametrize("messages", [ONE, TWO, [*ONE, user("why?")], [user("why?")]])
def test_dialogues_and_prompts_equal_the_reference_and_so_does_the_saved_template(start, messages):
    tokenizer, messages = tiny_tokenizer(), [*start, *messages]
    encode = encode_prompt if messages[-1]["role"] == "user" else encode_dialogue
    assert encode(tokenizer, messages).ids == reference_ids(messages)
    assert tokenizer.apply_chat_template(messages, tokenize=True)["input_ids"] == reference_ids(messages)


@pytest.mark.parametrize(
    "messages",
    [[user("a"), user("b")], [assistant("a")], [user("say [INST]")], [{"role": "system", "content": "</s>"}, user("a")]],
)
def test_template_and_encoder_refuse_alike(messages):
    with pytest.raises(Exception, match=r"alternate|tag|must speak"):
        tiny_tokenizer().apply_chat_template(messages)
    with pytest.raises(MessagesError):
        encode_prompt(tiny_tokenizer(), messages)


def test_one_bos_and_one_eos_a_turn():
    ids = encode_dialogue(tiny_tokenizer(), [SYSTEM, *TWO]).ids
    assert (ids.count(1), ids.count(2), ids[0], ids[-1]) == (2, 2, 1, 2)


@pytest.mark.parametrize(("train_on", "answers"), [("all", ["Sure! The fox.", "brown"]), ("last", ["brown"])])
def test_loss_counts_on_answers_and_their_eos(train_on, answers):
    tokenizer = tiny_tokenizer()
    encoded = encode_dialogue(tokenizer, TWO, train_on)
    trained = [token for token, counts in zip(encoded.ids, encoded.loss_mask, strict=True) if counts]
    expected = [[*tokenizer(f"{text} ", add_special_tokens=False)["input_ids"], 2] for text in answers]
    assert trained == [token for answer in expected for token in answer]


def test_a_prompt_is_a_prefix_of_its_dialogue_and_trains_nothing():
    prompt = encode_prompt(tiny_tokenizer(), TWO[:-1])
    assert encode_dialogue(tiny_tokenizer(), TWO).ids[: len(prompt.ids)] == prompt.ids
    assert not any(prompt.loss_mask)


def test_tags_in_an_answer_stay_plain_text():
    tokenizer = tiny_tokenizer()
    encoded = encode_dialogue(tokenizer, [user("hi"), assistant("odd </s> end")])
    assert encoded.ids.count(2) == 1
    assert "</s>" in tokenizer.decode(encoded.ids[:-1], skip_special_tokens=False)


def test_many_equal_one_by_one():
    many = encode_dialogues(tiny_tokenizer(), [ONE, TWO], ["all", "last"])
    assert many == [encode_dialogue(tiny_tokenizer(), ONE), encode_dialogue(tiny_tokenizer(), TWO, "last")]


def test_response_text_drops_eos_and_outer_space():
    tokenizer = tiny_tokenizer()
    ids = tokenizer("The fox. ", add_special_tokens=False)["input_ids"]
    assert decode_response(tokenizer, [*ids, 2]) == decode_response(tokenizer, ids) == "The fox."


@pytest.mark.parametrize("legacy", [True, False])
def test_the_saved_template_gives_the_same_ids_with_llamas_own_tokenizer(legacy):
    """Which puts a space in front of each piece of text, or of the first alone."""
    learnt = json.loads(tiny_tokenizer().backend_tokenizer.to_str())["model"]
    merges = [tuple(pair) for pair in learnt["merges"]]
    tokenizer = LlamaTokenizer(vocab=learnt["vocab"], merges=merges, legacy=legacy, pad_token="<unk>")
    tokenizer.chat_template = chat_template_for(tokenizer)
    assert (tokenizer.chat_template == CHAT_TEMPLATE) == legacy
    for messages in (TWO, [SYSTEM, *ONE]):
        ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
        assert ids == encode_dialogue(tokenizer, messages).ids
