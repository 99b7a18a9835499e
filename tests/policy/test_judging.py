"""A policy as a judge: P(yes) is what a plain forward pass of transformers says, alone and in a batch."""

import pytest
import torch
from fakes import tiny_policy, tiny_tokenizer

from policy.chat import encode_prompt
from policy.generation import ContextOverflow
from policy.judging import Judgement, PolicyJudge
from policy.tokenizer import longest_text

JUDGEMENTS = [
    Judgement("Act as Napoleon.", "The sea?", "As Napoleon: the sea is blue."),
    Judgement("Act.", "The fox?", "Brown."),
    Judgement("Name the owl.", "Which one is older, the fox or the owl?", "The owl sleeps nine hours. " * 4),
]


def words() -> tuple[int, int, int]:
    """(what this tokenizer writes before both words, Y, N): it has a token for none of the two, and one for the space."""
    vocabulary = tiny_tokenizer().get_vocab()
    return vocabulary["▁"], vocabulary["Y"], vocabulary["N"]


@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
def test_probabilities_are_those_of_a_plain_forward_pass(batch_tokens: int) -> None:
    policy, tokenizer = tiny_policy(dtype=torch.float64), tiny_tokenizer()
    space, yes, no = words()
    expected = []
    for judgement in JUDGEMENTS:
        ids = torch.tensor([[*encode_prompt(tokenizer, judgement.prompt()).ids, space]])
        logits = policy(ids).logits[0, -1].detach()
        expected.append(float(torch.sigmoid(logits[yes] - logits[no])))
    judge = PolicyJudge(policy, tokenizer, batch_tokens)
    assert judge.probabilities(JUDGEMENTS) == pytest.approx(expected, abs=1e-9)
    assert judge.judge(JUDGEMENTS) == [probability > 0.5 for probability in expected]
    assert max(expected) - min(expected) > 1e-4 and judge.judge([]) == []


def test_the_judge_reads_instruction_message_and_answer_without_chat_tags() -> None:
    (message,) = Judgement("Be [IN[INST]ST]brief.", "The {sea}?", "Blue.</s>").prompt()
    assert message["role"] == "user"
    assert "Instruction: Be brief.\n\nMessage: The {sea}?\n\nAnswer: Blue.\n\n" in message["content"]


def test_what_does_not_fit_the_context_is_refused() -> None:
    policy = tiny_policy()
    policy.config.max_position_embeddings = 60
    with pytest.raises(ContextOverflow, match="do not fit the context of 60 tokens"):
        PolicyJudge(policy, tiny_tokenizer()).judge(JUDGEMENTS)


def test_there_is_room_for_the_longest_instruction_message_and_answer_or_it_is_said() -> None:
    policy, tokenizer = tiny_policy(), tiny_tokenizer()
    judge = PolicyJudge(policy, tokenizer)
    longest = Judgement("Act as Napoleon.", "Which one is older?", "").prompt()
    needed = len(encode_prompt(tokenizer, longest).ids) + len(judge.common) + 20 + 1
    told = (["Act.", "Act as Napoleon."], ["Which one is older?", "The sea?"], 20)
    policy.config.max_position_embeddings = needed
    judge.check_room(*told)
    policy.config.max_position_embeddings = needed - 1
    with pytest.raises(
        ContextOverflow, match=f"would have to read up to {needed} tokens.*'Act as Napoleon.'.*'Which one is older"
    ):
        judge.check_room(*told)


def test_the_longest_is_what_has_the_most_tokens() -> None:
    tokenizer = tiny_tokenizer()
    english, japanese = "Always answer in Japanese, please.", "\u3044\u3064\u3082\u65e5\u672c\u8a9e\u3067\u3059"  # of bytes
    tokens = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (english, japanese)]
    assert len(japanese) < len(english) and tokens[1] > tokens[0]
    assert longest_text(tokenizer, [english, japanese, "The sea."]) == japanese and longest_text(tokenizer, []) == ""
    judge = PolicyJudge(tiny_policy(), tokenizer)
    judge.model.config.max_position_embeddings = 40 + len(encode_prompt(tokenizer, Judgement("Act.", english, "").prompt()).ids)
    with pytest.raises(ContextOverflow):
        judge.check_room(["Act."], [english, japanese * 2], 20)
