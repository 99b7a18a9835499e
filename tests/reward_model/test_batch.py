from functools import partial

import pytest
import torch
from fakes import tiny_tokenizer
from reward_fakes import unchecked

from policy.chat import encode_dialogue
from preference_data.messages import MessagesError, assistant
from reward_model.batch import collate_pairs, encode_for_scoring, encode_pairs

comparison = partial(unchecked, 0)
PROMPT = comparison("", "").prompt


def test_pairs_are_encoded_as_dialogues_that_end_with_eos():
    (pair,), dropped = encode_pairs(tiny_tokenizer(), [comparison("The owl.", "The fox is.")], "large", 100)
    assert pair.chosen_ids == encode_dialogue(tiny_tokenizer(), [*PROMPT, assistant("The owl.")]).ids
    assert pair.rejected_ids == encode_dialogue(tiny_tokenizer(), [*PROMPT, assistant("The fox is.")]).ids
    assert pair.chosen_ids[-1] == pair.rejected_ids[-1] == 2
    assert pair.margin == 2.0 and dropped == {}


def test_what_is_left_out_is_counted_by_reason():
    long = "The fox is brown. " * 20
    comparisons = [
        comparison("The owl.", "The fox."),
        comparison(long, "The fox."),
        comparison("The owl.", long),
        comparison("The owl.", " The owl. "),  # equal once the chat format has stripped both
        comparison("Sure!", "The fox."),
    ]
    limit = len(encode_dialogue(tiny_tokenizer(), comparisons[1].chosen_dialogue).ids) - 1
    kept, dropped = encode_pairs(tiny_tokenizer(), comparisons, "none", limit)
    assert [pair.chosen_ids for pair in kept] == [
        encode_dialogue(tiny_tokenizer(), comparisons[index].chosen_dialogue).ids for index in (0, 4)
    ]
    assert dropped == {"too_long": 2, "identical": 1}
    assert encode_pairs(tiny_tokenizer(), comparisons, "none", limit + 1)[1] == {"identical": 1}


def test_a_batch_has_the_chosen_rows_first_and_its_labels_beside_them():
    comparisons = [
        comparison("The owl.", "I cannot help with that, because.", "significantly_better", True, False),
        comparison("Sure!", "The fox.", "slightly_better", None, False),
        comparison("The sea is blue.", "The sea.", "unrated"),
    ]
    pairs, _ = encode_pairs(tiny_tokenizer(), comparisons, "small", 100)
    batch = collate_pairs(pairs)
    rows = [pair.chosen_ids for pair in pairs] + [pair.rejected_ids for pair in pairs]
    assert batch.rows == rows
    torch.testing.assert_close(batch.margin, torch.tensor([1.0, 1 / 3, 0.0]))
    assert batch.is_safe.tolist() == [True, False, False, False, False, False]
    assert batch.is_labelled.tolist() == [True, False, False, True, True, False]
    assert [pair.num_labels for pair in pairs] == [2, 1, 0]


def test_an_empty_response_is_eos_right_after_the_prompt():
    whole, ids = encode_for_scoring(tiny_tokenizer(), [[*PROMPT, assistant("The owl.")], [*PROMPT, assistant("")]])
    assert ids[-1] == 2 and ids[:-1] == whole[: len(ids) - 1]


def test_padding_and_unk_never_occur_inside_a_row():
    (ids,) = encode_for_scoring(tiny_tokenizer(), [[*PROMPT, assistant("Œuvre ☃ 漢字 <unk> </s>")]])
    assert 0 not in ids and ids.count(2) == 1


def test_a_prompt_is_no_dialogue():
    with pytest.raises(MessagesError, match="must end with an assistant message"):
        encode_for_scoring(tiny_tokenizer(), [PROMPT])
