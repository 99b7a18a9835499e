"""From sampled responses to rewards and advantages."""

import math
from itertools import islice

import pytest
import torch
from fakes import LengthScorer, ScriptedPolicy, make_prompts, tiny_policy
from ppo_fakes import value_model

from reward_model.combined_reward import CombinedReward
from rlhf.config import PPOConfig
from rlhf.rollout import PPOError, Rollout, microbatches, prompt_batches, response_rewards, rollout

QUESTIONS = ["What is the sea?", "The fox?", "Which one is older, the fox or the owl?", "Take the pot."]
PROMPTS = make_prompts(QUESTIONS)
CONFIG = PPOConfig(batch_size=4, minibatch_size=4, microbatch_size=2, max_new_tokens=8, kl_coef=0.5)


REWARD = CombinedReward(LengthScorer(), LengthScorer())


def scripted(*texts: str, unfinished: tuple[str, ...] = ()) -> ScriptedPolicy:
    answers = dict(zip(QUESTIONS, texts, strict=True))
    return ScriptedPolicy(lambda messages, position: answers[messages[-1]["content"]], unfinished)


def rolled_out(sampler: ScriptedPolicy) -> Rollout:
    return rollout(sampler, tiny_policy(), value_model(), PROMPTS, REWARD, CONFIG, CONFIG.kl_coef, seed=0)


def test_rewards_hold_the_whitened_score_and_the_kl_penalty() -> None:
    record = rolled_out(scripted("a", "bb", "ccc", "dddd"))
    assert record.scores.combined.tolist() == [1, 2, 3, 4]
    whitened = torch.tensor([-1.5, -0.5, 0.5, 1.5]) / 1.25**0.5
    torch.testing.assert_close(record.rewards.sum(dim=1), whitened - 0.5 * record.kl)
    assert record.response_mask.sum(dim=1).tolist() == [len(response.ids) for response in record.responses]
    assert (record.logprobs[record.response_mask] == -1).all()
    for tensor in (record.logprobs, record.ref_logprobs, record.values, record.rewards, record.advantages, record.returns):
        assert (tensor[~record.response_mask] == 0).all()
        assert not tensor.requires_grad
    assert record.advantages[record.response_mask].mean().abs() < 1e-6


def test_equal_scores_whiten_to_nothing_and_leave_the_penalty_alone() -> None:
    rewards = response_rewards(torch.full((3,), 2.0), torch.tensor([True, False, True]), torch.zeros(3, 2), MASK, 0.1, CONFIG)
    assert rewards.sum(dim=1).tolist() == [0.0, -CONFIG.missing_eos_penalty, 0.0]


SCORES = torch.tensor([1.0, 4.0, -2.0], dtype=torch.float64)
MASK = torch.tensor([[True, True], [True, False], [True, True]])
KL = torch.tensor([[1.0, 2.0], [-0.5, math.nan], [0.0, 1.0]], dtype=torch.float64)  # 3, -0.5 and 1 nats
FINISHED = torch.tensor([True, True, False])


def standard_scores(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    deviation = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
    return [(value - mean) / deviation for value in values]


def test_each_whitening_says_what_a_response_is_worth() -> None:
    def worth(whitening: str) -> torch.Tensor:
        settings = CONFIG.model_copy(update={"whitening": whitening, "missing_eos_penalty": 0.5})
        return response_rewards(SCORES, FINISHED, KL, MASK, 2.0, settings)

    paper, after, raw = worth("scores"), worth("rewards"), worth("none")
    one, two, three = standard_scores([1, 4, -2])
    expected = torch.tensor([[-2, one - 4], [two + 1, 0], [0, three - 2 - 0.5]], dtype=torch.float64)
    torch.testing.assert_close(paper, expected, atol=1e-7, rtol=0)
    one, two, three = standard_scores([1 - 6, 4 + 1, -2 - 2])
    expected = torch.tensor([[0, one], [two, 0], [0, three - 0.5]], dtype=torch.float64)
    torch.testing.assert_close(after, expected, atol=1e-7, rtol=0)
    assert raw.tolist() == [[-2, 1 - 4], [4 + 1, 0], [0, -2 - 2 - 0.5]]


def test_a_response_without_text_takes_the_lowest_score() -> None:
    record = rolled_out(scripted("aaa", "", "bb", "cccc"))
    assert record.scores.combined.tolist() == [3, 2, 2, 4]
    silent = rolled_out(scripted("", "", "", ""))
    assert silent.scores.combined.tolist() == [0, 0, 0, 0]
    assert REWARD.helpfulness.seen and all(dialogue[-1]["content"] for dialogue in REWARD.helpfulness.seen)


def test_microbatches_hold_each_row_once_and_similar_lengths() -> None:
    responses = [group[0] for group in scripted("a", "bb", "ccc", "dddd").sample([p.messages for p in PROMPTS], 1, 1, 1, 8, 0)]
    groups = microbatches(responses, [3, 0, 2], 2)
    assert sorted(row for group in groups for row in group) == [0, 2, 3]
    lengths = [len(responses[row].prompt_ids) + len(responses[row].ids) for group in groups for row in group]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (7, 7), (9, 5), (6, 1)])
def test_prompt_batches_are_epochs_without_replacement(count: int, batch_size: int) -> None:
    prompts = make_prompts([f"question {i}" for i in range(count)])
    batches = list(islice(prompt_batches(prompts, batch_size, seed=1), count * 3))
    assert all(len({prompt.id for prompt in batch}) == batch_size for batch in batches)
    drawn = [prompt.id for batch in batches for prompt in batch]
    epochs = [drawn[start : start + count] for start in range(0, len(drawn) - count + 1, count)]
    assert all(len(set(epoch)) == count for epoch in epochs)
    if count > 6:
        assert epochs[0] != epochs[1]
    assert drawn[:batch_size] == [prompt.id for prompt in next(prompt_batches(prompts, batch_size, seed=1))]


def test_too_few_prompts_are_refused() -> None:
    with pytest.raises(PPOError, match=r"a batch of 8 prompts was asked for, and there are 4.*batch_size to 4"):
        next(prompt_batches(PROMPTS, 8, seed=0))
