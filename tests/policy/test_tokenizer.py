import pytest
from fakes import tiny_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from policy.tokenizer import PAD_ID


def pieces(text):
    tokenizer = tiny_tokenizer()
    return tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_llama_places_of_the_special_tokens_and_bytes():
    assert tiny_tokenizer().convert_ids_to_tokens([0, 1, 2, 3, 258]) == ["<unk>", "<s>", "</s>", "<0x00>", "<0xFF>"]
    assert tiny_tokenizer().pad_token_id == PAD_ID != tiny_tokenizer().eos_token_id


@pytest.mark.parametrize("tag", ["[INST]", "[/INST]", "<<SYS>>"])
def test_tags_are_single_tokens(tag):
    assert pieces(f"{tag} fox") == [f"▁{tag}", "▁fox"]


def test_closing_system_tag_is_a_single_token_after_its_newline():
    assert "<</SYS>>" in pieces("[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nhi [/INST]")


def test_digits_are_split():
    assert [piece for piece in pieces("fox 2307") if piece != "▁"][1:] == ["<0x32>", "<0x33>", "<0x30>", "<0x37>"]


def test_words_keep_marks_apart():
    assert pieces("fox.") == ["▁fox", "."]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30))
def test_byte_fallback_round_trips_any_text_and_never_makes_the_pad_id(text):
    tokenizer = tiny_tokenizer()
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert PAD_ID not in ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text.replace("▁", " ")
