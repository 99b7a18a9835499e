"""From sampled responses to rewards and advantages."""

from itertools import islice

import pytest
import torch
from fakes import ScriptedPolicy, tiny_policy

from preference_data.messages import Messages, user
from preference_data.prompt import Prompt, make_prompt
from reward_model.combined_reward import CombinedReward
from rlhf.config import PPOConfig
from rlhf.rollout import PPOError, microbatches, penalised_scores, prompt_batches, rollout
from rlhf.value_model import ValueModel

QUESTIONS = ["What is the sea?", "The fox?", "Which one is older, the fox or the owl?", "Take the pot."]
PROMPTS = [make_prompt([user(text)], family="fact", split="train", source="test") for text in QUESTIONS]
CONFIG = PPOConfig(batch_size=4, minibatch_size=4, microbatch_size=2, max_new_tokens=8, kl_coef=0.5)


class LengthScorer:
    """The number of characters of the answer, as a score."""

    def score(self, dialogues: list[Messages]) -> torch.Tensor:
        assert all(dialogue[-1]["content"] for dialogue in dialogues)
        return torch.tensor([float(len(dialogue[-1]["content"])) for dialogue in dialogues])


REWARD = CombinedReward(LengthScorer(), LengthScorer())


def value_model() -> ValueModel:
    torch.manual_seed(7)
    return ValueModel(tiny_policy(seed=3).model, torch.nn.Linear(32, 1, bias=False))


def scripted(*texts: str, unfinished: tuple[str, ...] = ()) -> ScriptedPolicy:
    answers = dict(zip(QUESTIONS, texts, strict=True))
    return ScriptedPolicy(lambda messages, position: answers[messages[-1]["content"]], unfinished)


def test_rewards_hold_the_whitened_score_and_the_kl_penalty() -> None:
    record = rollout(scripted("a", "bb", "ccc", "dddd"), tiny_policy(), value_model(), PROMPTS, REWARD, CONFIG, seed=0)
    assert record.scores.combined.tolist() == [1, 2, 3, 4]
    whitened = torch.tensor([-1.5, -0.5, 0.5, 1.5]) / 1.25**0.5
    torch.testing.assert_close(record.rewards.sum(dim=1), whitened - 0.5 * record.kl)
    assert record.response_mask.sum(dim=1).tolist() == [len(response.ids) for response in record.responses]
    assert (record.logprobs[record.response_mask] == -1).all()
    for tensor in (record.logprobs, record.ref_logprobs, record.values, record.rewards, record.advantages, record.returns):
        assert (tensor[~record.response_mask] == 0).all()
        assert not tensor.requires_grad
    assert record.advantages[record.response_mask].mean().abs() < 1e-6


def test_without_eos_the_penalty_is_taken_after_whitening() -> None:
    plain = rollout(scripted("a", "bb", "ccc", "dddd"), tiny_policy(), value_model(), PROMPTS, REWARD, CONFIG, seed=0)
    cut = rollout(
        scripted("a", "bb", "ccc", "dddd", unfinished=("ccc",)), tiny_policy(), value_model(), PROMPTS, REWARD, CONFIG, seed=0
    )
    assert not cut.responses[2].finished and cut.scores.combined.tolist() == [1, 2, 3, 4]
    final = [(record.rewards.sum(dim=1) + 0.5 * record.kl).tolist() for record in (plain, cut)]
    differences = [one - other for one, other in zip(*final, strict=True)]
    assert differences == pytest.approx([0, 0, CONFIG.missing_eos_penalty, 0], abs=1e-5)


def test_penalised_scores_of_equal_scores_are_the_penalties_alone() -> None:
    assert penalised_scores(torch.full((3,), 2.0), [True, False, True], 1.5).tolist() == [0.0, -1.5, 0.0]


def test_a_response_without_text_takes_the_lowest_score() -> None:
    record = rollout(scripted("aaa", "", "bb", "cccc"), tiny_policy(), value_model(), PROMPTS, REWARD, CONFIG, seed=0)
    assert record.scores.combined.tolist() == [3, 2, 2, 4]
    silent = rollout(scripted("", "", "", ""), tiny_policy(), value_model(), PROMPTS, REWARD, CONFIG, seed=0)
    assert silent.scores.combined.tolist() == [0, 0, 0, 0]


def test_microbatches_hold_each_row_once_and_similar_lengths() -> None:
    responses = [group[0] for group in scripted("a", "bb", "ccc", "dddd").sample([p.messages for p in PROMPTS], 1, 1, 1, 8, 0)]
    groups = microbatches(responses, [3, 0, 2], 2)
    assert sorted(row for group in groups for row in group) == [0, 2, 3]
    lengths = [len(responses[row].prompt_ids) + len(responses[row].ids) for group in groups for row in group]
    assert lengths == sorted(lengths)


def numbered_prompts(count: int) -> list[Prompt]:
    return [make_prompt([user(f"question {i}")], family="fact", split="train", source="test") for i in range(count)]


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (7, 7), (9, 5), (6, 1)])
def test_prompt_batches_are_epochs_without_replacement(count: int, batch_size: int) -> None:
    batches = list(islice(prompt_batches(numbered_prompts(count), batch_size, seed=1), count * 3))
    assert all(len({prompt.id for prompt in batch}) == batch_size for batch in batches)
    drawn = [prompt.id for batch in batches for prompt in batch]
    epochs = [drawn[start : start + count] for start in range(0, len(drawn) - count + 1, count)]
    assert all(len(set(epoch)) == count for epoch in epochs)
    if count > 6:
        assert epochs[0] != epochs[1]
    assert drawn[:batch_size] == [prompt.id for prompt in next(prompt_batches(numbered_prompts(count), batch_size, seed=1))]


def test_too_few_prompts_are_refused() -> None:
    with pytest.raises(PPOError, match=r"a batch of 8 prompts was asked for, and there are 4.*batch_size to 4"):
        next(prompt_batches(PROMPTS, 8, seed=0))
