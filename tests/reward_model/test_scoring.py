import math

import pytest
import torch
from fakes import tiny_policy, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification

from policy.checkpoint import save_checkpoint
from preference_data.messages import MessagesError, assistant, user
from reward_model.batch import encode_for_scoring
from reward_model.model import RewardModelError, build_reward_model, save_reward_model
from reward_model.scoring import RewardScorer

WORDS = ["the", "owl", "is", "older.", "Sure!", "blue", "kitchen", "42", "ünïcode", "[INST]"]
DIALOGUES = [
    [user(f"Question {n}?"), assistant(" ".join(WORDS[(n + i) % 10] for i in range(1 + 5 * n % 37)))] for n in range(13)
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    policy, reward = tmp_path_factory.mktemp("policy"), tmp_path_factory.mktemp("reward")
    save_checkpoint(tiny_policy(), tiny_tokenizer(), policy)
    model, tokenizer = build_reward_model(policy, seed=1)
    with torch.no_grad():
        model.score.weight.mul_(100)  # scores a few units apart, so that a mistaken order shows
    save_reward_model(model, tokenizer, reward)
    return reward


@pytest.fixture(scope="module")
def scorer(path):
    return RewardScorer.load(path, batch_size=4)


def test_scores_are_those_of_a_plain_forward_in_float64(path, scorer, exact_norms):
    plain = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float64).eval()
    with torch.no_grad():
        rows = encode_for_scoring(tiny_tokenizer(), DIALOGUES)
        expected = [plain(input_ids=torch.tensor([row])).logits.item() for row in rows]
    scores = scorer.score(DIALOGUES)
    assert scores.shape == (13,) and scores.dtype == torch.float32 and not scores.requires_grad
    assert max(expected) - min(expected) > 1
    assert scores.tolist() == pytest.approx(expected, abs=2e-5)
    exact = RewardScorer.load(path, batch_size=5, dtype=torch.float64).score(DIALOGUES)
    assert torch.equal(exact, torch.tensor(expected, dtype=torch.float64).float())


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(13)), st.integers(1, 20))
def test_order_and_batch_size_change_nothing(scorer, order, batch_size):
    reference = scorer.score(DIALOGUES)
    other = RewardScorer(scorer.model, scorer.tokenizer, batch_size)
    scores = other.score([DIALOGUES[index] for index in order])
    torch.testing.assert_close(scores, reference[list(order)], atol=1e-5, rtol=1e-5)


def test_batches_cover_every_dialogue_once_longest_first(scorer):
    batches = list(scorer.score_batches(DIALOGUES))
    assert [len(indices) for indices, _ in batches] == [4, 4, 4, 1]
    seen = [index for indices, _ in batches for index in indices]
    lengths = [len(row) for row in encode_for_scoring(tiny_tokenizer(), [DIALOGUES[index] for index in seen])]
    assert sorted(seen) == list(range(13)) and lengths == sorted(lengths, reverse=True)


def test_responses_to_one_prompt_are_scored_together_after_those_of_the_prompt_with_the_longest(scorer):
    dialogues = [[*DIALOGUES[n % 3][:1], assistant("the owl " * (1 + n))] for n in range(12)]
    (first, _), (second, _), (third, _) = scorer.score_batches(dialogues)
    assert [sorted(indices) for indices in (first, second, third)] == [[2, 5, 8, 11], [1, 4, 7, 10], [0, 3, 6, 9]]


def test_an_empty_response_has_a_score_and_no_dialogues_have_none(scorer):
    assert math.isfinite(scorer.score([[user("Question?"), assistant("")]]).item())
    assert scorer.score([]).shape == (0,)


def test_a_prompt_is_refused_with_its_position(scorer):
    with pytest.raises(MessagesError, match=r"dialogue 1 cannot be scored.*must end with an assistant message") as caught:
        scorer.score([DIALOGUES[0], [user("Question?")]])
    assert caught.value.reason == "no_assistant_last"


def test_what_is_longer_than_the_context_is_refused_with_both_lengths(scorer):
    with pytest.raises(RewardModelError, match=r"dialogue 0 has \d{4,} tokens, and this scorer takes 1024 at most"):
        scorer.score([[user("Question?"), assistant("the owl " * 1024)]])
    length = len(encode_for_scoring(tiny_tokenizer(), [DIALOGUES[3]])[0])
    assert RewardScorer(scorer.model, scorer.tokenizer, max_length=length).score([DIALOGUES[3]]).shape == (1,)
    with pytest.raises(RewardModelError, match=f"has {length} tokens, and this scorer takes {length - 1} at most"):
        RewardScorer(scorer.model, scorer.tokenizer, max_length=length - 1).score([DIALOGUES[3]])


def test_scores_that_are_no_numbers_are_refused(path):
    broken = RewardScorer.load(path)
    with torch.no_grad():
        broken.model.score.weight.fill_(math.nan)
    with pytest.raises(RewardModelError, match="2 of 2 scores are not finite"):
        broken.score(DIALOGUES[:2])
