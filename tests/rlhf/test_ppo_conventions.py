"""What PPO means by its words: where a score lands, in which unit a penalty is, what padding and prompts can change."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from fakes import ScriptedPolicy, make_prompts, talking_policy, tiny_policy, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from ppo_fakes import value_model
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from policy.batch import lengths_mask
from policy.generation import Response, Sampler, TransformersSampler
from policy.logprobs import response_logits, token_logprobs
from policy.tokenizer import EOS_ID, PAD_ID
from preference_data.messages import Messages, assistant, user
from reward_model.combined_reward import CombinedReward
from rlhf.advantage import gae, policy_loss, token_rewards, value_loss, whiten
from rlhf.config import PPOConfig
from rlhf.rollout import Rollout, rollout
from rlhf.value_model import ValueModel

QUESTIONS = ["What is the sea?", "The fox?", "Which one is older, the fox or the owl?", "Take the pot."]
LETTER = 70  # the id of a token that is an ordinary word


class ListScorer:
    """The given scores, in the order of the dialogues."""

    def __init__(self, scores: Sequence[float]):
        self.scores = scores

    def score(self, dialogues: Sequence[Messages]) -> Tensor:
        return torch.tensor(self.scores)


def ref_policy() -> LlamaForCausalLM:
    return tiny_policy(seed=4, dtype=torch.float64)


def scripted(texts: Sequence[str], unfinished: Sequence[str] = ()) -> ScriptedPolicy:
    answers = dict(zip(QUESTIONS, texts, strict=False))
    return ScriptedPolicy(lambda messages, position: answers[messages[-1]["content"]], unfinished)


def roll(
    sampler: Sampler,
    scores: Sequence[float],
    critic: ValueModel | None = None,
    ref: LlamaForCausalLM | None = None,
    policy: LlamaForCausalLM | None = None,
    **changes: float,
) -> Rollout:
    """A rollout in float64 of as many prompts as there are scores."""
    config = PPOConfig.model_validate({"microbatch_size": 2, "max_new_tokens": 8, **changes})
    reward = CombinedReward(ListScorer(scores), ListScorer([5.0] * len(scores)))
    models = ref or ref_policy(), critic or value_model(torch.float64), make_prompts(QUESTIONS[: len(scores)])
    return rollout(sampler, *models, reward, config, kl_coef=config.kl_coef, seed=0, policy=policy)


# Where the score lands

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(0, 3), st.floats(0, 2), st.integers(0, 1000))
def test_the_score_is_on_the_last_token_and_a_response_sums_to_score_less_kl(
    lengths: list[int], padding: int, kl_coef: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths) + padding
    kl = torch.randn(len(lengths), width, dtype=torch.float64, generator=generator)
    scores = torch.randn(len(lengths), dtype=torch.float64, generator=generator)
    rewards = token_rewards(scores, kl, lengths_mask(lengths, width), kl_coef)
    for row, length in enumerate(lengths):
        without_score = [-kl_coef * each for each in kl[row, :length].tolist()] + [0.0] * (width - length)
        score = rewards[row] - torch.tensor(without_score, dtype=torch.float64)
        expected = [0.0] * width
        expected[length - 1] = scores[row].item()
        assert score.tolist() == pytest.approx(expected, abs=1e-12)
        total = scores[row].item() - kl_coef * sum(kl[row, :length].tolist())
        assert rewards[row].sum().item() == pytest.approx(total, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=4, max_size=4))
def test_in_a_rollout_the_score_is_on_the_token_that_was_sampled_last(lengths: list[int]) -> None:
    scores = [1.0, 2.0, 4.0, 9.0]
    record = roll(scripted(["ab " * length for length in lengths]), scores, kl_coef=0)
    mean, deviation = 4.0, math.sqrt((9 + 4 + 0 + 25) / 4)
    for response, rewards, score in zip(record.responses, record.rewards, scores, strict=True):
        expected = [0.0] * len(rewards)
        expected[len(response.ids) - 1] = (score - mean) / deviation
        assert response.ids[-1] == EOS_ID
        assert rewards.tolist() == pytest.approx(expected, abs=1e-7)  # whitening adds 1e-8 to the variance


# In which unit the penalty for a missing EOS is


@settings(max_examples=15, deadline=None)
@given(st.floats(0.5, 20), st.floats(-30, 30))
def test_in_another_unit_of_the_scores_every_reward_is_the_same(unit: float, zero: float) -> None:
    """One response has no EOS. A penalty in the scores' unit, or taken before they are whitened, would not keep its weight."""
    sampler, scores = scripted(["a", "bb", "ccc", "dddd"], unfinished=["ccc"]), [1.0, 2.0, 4.0, 9.0]
    once, again = (
        roll(sampler, numbers, kl_coef=0.5, missing_eos_penalty=1.25)
        for numbers in (scores, [unit * score + zero for score in scores])
    )
    assert (once.rewards - again.rewards).abs().max() < 1e-5  # scores are float32


# What a prompt can change


class Spelled:
    """A sampler that says what another does, with each prompt's third token spelled as ``token``."""

    def __init__(self, sampler: Sampler, token: int):
        self.sampler, self.token = sampler, token

    def sample(
        self,
        prompts: Sequence[Messages],
        k: int,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        seed: int,
        top_k: int = 0,
    ) -> list[list[Response]]:
        groups = self.sampler.sample(prompts, k, temperature, top_p, max_new_tokens, seed, top_k)
        return [[replace(each, prompt_ids=self._spelled(each.prompt_ids)) for each in group] for group in groups]

    def _spelled(self, ids: list[int]) -> list[int]:
        return [*ids[:2], self.token, *ids[3:]]


def test_eos_in_a_prompt_is_a_token_like_any_other() -> None:
    """To models in which EOS and a letter look alike, a prompt with the one or the other gives the same of everything."""
    ref, critic = ref_policy(), value_model(torch.float64)
    with torch.no_grad():
        for backbone in (ref.get_submodule("model"), critic.backbone):
            embeddings = backbone.get_parameter("embed_tokens.weight")
            embeddings[LETTER] = embeddings[EOS_ID]
    answers = scripted(["a", "bb", "ccc", "dddd"], unfinished=["ccc"])
    one, other = (roll(Spelled(answers, token), [1.0, 2.0, 4.0, 9.0], critic, ref, kl_coef=0.5) for token in (EOS_ID, LETTER))
    assert all(EOS_ID in response.prompt_ids for response in one.responses)
    assert not any(EOS_ID in response.prompt_ids for response in other.responses)
    for name in ("response_mask", "logprobs", "ref_logprobs", "values", "rewards", "advantages", "returns"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_a_dialogue_whose_earlier_turns_end_with_eos_is_answered_to_the_end() -> None:
    messages = [user("Napoleon?"), assistant("Sure."), user("The fox?"), assistant("No."), user("The sea?")]
    ((response,),) = TransformersSampler(tiny_policy(), tiny_tokenizer()).sample([messages], 1, 1.0, 1.0, 8, seed=0)
    assert response.prompt_ids.count(EOS_ID) == 2
    assert len(response.ids) == 8 and not response.finished


# The temperature is one and the same


def forgetful(temperature: float) -> LlamaForCausalLM:
    """The talking policy, whose log-probabilities at ``temperature`` are those that it should have at 1."""
    policy = talking_policy(seed=5).double()
    head = nn.Linear(32, policy.config.vocab_size, bias=False)
    head.weight = nn.Parameter(temperature * policy.lm_head.weight.detach())
    policy.lm_head = head
    return policy


@pytest.mark.parametrize("who", ["nobody", "sampler", "policy", "reference"])
def test_at_step_0_the_ratio_is_1_and_kl_0_unless_one_of_three_forgets_the_temperature(who: str) -> None:
    sampling, policy, ref = (forgetful(0.5 if who == name else 1.0) for name in ("sampler", "policy", "reference"))
    sampler = TransformersSampler(sampling, tiny_tokenizer())
    record = roll(sampler, [1.0, 2.0, 4.0, 9.0], ref=ref, policy=policy, temperature=0.5)
    assert record.ratio_error is not None
    assert (record.ratio_error < 1e-5) == (who not in ("sampler", "policy")) == (not record.recomputed)
    assert record.ratio_error < 1e-5 or record.ratio_error > 0.1
    # where the sampler is wrong, what the policy says is used instead
    kl = record.kl.abs().max()
    assert kl < 1e-5 if who in ("nobody", "sampler") else kl > 0.1


# What padding can change


def untied(policy: LlamaForCausalLM) -> LlamaForCausalLM:
    """With a head of its own, so that what stands for padding in the embeddings is nobody's logit."""
    policy.lm_head.weight = nn.Parameter(policy.lm_head.weight.detach().clone())
    return policy.double()


def from_logprobs_to_gradients(garbage: float, padding: float) -> dict[str, Tensor]:
    """All numbers of an update, with ``garbage`` at masked places and ``padding`` all over the embedding of the padding."""
    policy, ref, critic = untied(tiny_policy()), untied(tiny_policy(seed=4)), value_model(torch.float64)
    with torch.no_grad():
        for backbone in (policy.get_submodule("model"), ref.get_submodule("model"), critic.backbone):
            backbone.get_parameter("embed_tokens.weight")[PAD_ID] = padding
    prompt_ids, response_ids = [[1, 9, 12, 30], [1, 8], [1, 40, 9]], [[40, 41, 2], [50, 51, 52, 53, 2], [60]]
    read = [response_logits(model, prompt_ids, response_ids, 0.7) for model in (policy, ref)]
    mask = read[0][2]
    new_logprobs, ref_logprobs = (token_logprobs(logits, ids).masked_fill(~mask, garbage) for logits, ids, _ in read)
    new_values = critic(prompt_ids, response_ids).masked_fill(~mask, garbage)
    logprobs, values = new_logprobs.detach() + 0.1, new_values.detach() + 0.3

    rewards = token_rewards(torch.tensor([1.0, -1.0, 0.5]).double(), logprobs - ref_logprobs.detach(), mask, 0.2)
    advantages, returns = (
        each.masked_fill(~mask, garbage) for each in gae(rewards.masked_fill(~mask, garbage), values, mask, 0.9, 0.8)
    )
    whitened = whiten(advantages, mask).masked_fill(~mask, garbage)
    losses = policy_loss(new_logprobs, logprobs, whitened, mask, 0.2), value_loss(new_values, values, returns, mask, 0.2)
    (losses[0] + losses[1]).backward()
    found = {"rewards": rewards, "policy_loss": losses[0], "value_loss": losses[1]}
    found |= {name: each.masked_fill(~mask, 0.0) for name, each in (("advantages", whitened), ("returns", returns))}
    named = [*policy.named_parameters("policy"), *critic.named_parameters("critic")]
    return {name: each.detach() for name, each in found.items()} | {
        name: each.grad for name, each in named if each.grad is not None
    }


@pytest.mark.parametrize(("garbage", "padding"), [(math.nan, 0.0), (1e6, 0.0), (-math.inf, 0.0), (0.0, 1e6), (math.nan, -3.0)])
def test_garbage_at_masked_places_reaches_no_parameter(garbage: float, padding: float) -> None:
    clean, dirty = from_logprobs_to_gradients(0.0, 0.0), from_logprobs_to_gradients(garbage, padding)
    assert clean["policy.lm_head.weight"].abs().max() > 1e-3 and clean["critic.head.weight"].abs().max() > 1e-3
    for name, tensor in clean.items():
        torch.testing.assert_close(dirty[name], tensor, atol=1e-12, rtol=0, msg=name)
