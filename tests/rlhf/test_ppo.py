"""PPO: one iteration against a straight-line recomputation, step 0, and a known answer."""

import copy
import math
import random

import pytest
import torch
from fakes import tiny_policy, tiny_tokenizer
from ppo_fakes import PROMPTS, QUESTIONS, REWARD, config, value_model

from policy.config import LoraConfig
from policy.generation import Response, TransformersSampler
from policy.lora import Adapters
from policy.shared_base import on_base
from preference_data.messages import user
from preference_data.prompt import make_prompt
from rlhf.config import PPOConfig
from rlhf.ppo import ppo
from rlhf.ppo_stats import PPOStats
from rlhf.rollout import PPOError, prompt_batches
from rlhf.value_model import ValueModel


def test_at_step_0_the_ratio_is_1_and_the_kl_is_0() -> None:
    run = ppo(tiny_policy(), tiny_policy(), value_model(), tiny_tokenizer(), PROMPTS, REWARD, config(temperature=0.7), seed=0)
    stats = next(run)
    assert stats.kl == pytest.approx(0, abs=1e-4)
    assert stats.approx_kl == pytest.approx(0, abs=1e-6)
    assert stats.clip_fraction == 0


def test_the_first_log_probabilities_agree_exactly_enough_in_float64() -> None:
    """The sampler decodes with a cache and left padding, the update reads whole right-padded rows: they must agree."""
    models = tiny_policy(dtype=torch.float64), tiny_policy(dtype=torch.float64), value_model(torch.float64)
    stats = next(ppo(*models, tiny_tokenizer(), PROMPTS, REWARD, config(), seed=0))
    assert abs(stats.kl) < 1e-5  # the sampler records log-probabilities in float32


def straight_line_iteration(
    policy: torch.nn.Module,
    ref: torch.nn.Module,
    critic: ValueModel,
    responses: list[Response],
    scores: list[float],
    settings: PPOConfig,
) -> dict[str, float]:
    """One iteration in the plainest way: a row at a time, no padding, no masks, python sums; changes ``policy``, ``critic``."""

    def row_logits(model: torch.nn.Module, response: Response) -> torch.Tensor:
        start = len(response.prompt_ids)
        logits = model(torch.tensor([response.prompt_ids + response.ids])).logits[0]
        return logits[start - 1 : start - 1 + len(response.ids)] / settings.temperature

    def row_logprobs(model: torch.nn.Module, response: Response) -> torch.Tensor:
        return row_logits(model, response).log_softmax(-1)[range(len(response.ids)), response.ids]

    def row_values(response: Response) -> torch.Tensor:
        start = len(response.prompt_ids)
        hidden = critic.backbone(torch.tensor([response.prompt_ids + response.ids])).last_hidden_state[0]
        return critic.head(hidden)[start - 1 : start - 1 + len(response.ids), 0]

    mean = sum(scores) / len(scores)
    deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores) + 1e-8)
    rows = []
    for response, score in zip(responses, scores, strict=True):
        logprobs = response.logprobs
        ref_logprobs, values = row_logprobs(ref, response).tolist(), row_values(response).tolist()
        rewards = [-settings.kl_coef * (one - other) for one, other in zip(logprobs, ref_logprobs, strict=True)]
        rewards[-1] += (score - mean) / deviation - (0 if response.finished else settings.missing_eos_penalty)
        v = [*values, 0.0]
        deltas = [rewards[t] + settings.gamma * v[t + 1] - v[t] for t in range(len(rewards))]
        decay = settings.gamma * settings.gae_lambda
        advantages = [sum(decay ** (s - t) * deltas[s] for s in range(t, len(deltas))) for t in range(len(deltas))]
        rows.append((response, logprobs, values, advantages, [a + b for a, b in zip(advantages, values, strict=True)]))
    every = [advantage for row in rows for advantage in row[3]]
    centre = sum(every) / len(every)
    spread = math.sqrt(sum((advantage - centre) ** 2 for advantage in every) / len(every) + 1e-8)

    arguments = {"betas": (settings.adam_beta1, settings.adam_beta2), "eps": settings.adam_epsilon, "fused": False}
    optimizers = [
        torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=settings.weight_decay, **arguments)
        for model, rate in ((policy, settings.learning_rate), (critic, settings.value_learning_rate))
    ]
    epochs = []
    for _ in range(settings.ppo_epochs):
        policy_terms, value_terms, entropies, num_clipped = [], [], [], 0
        for response, logprobs, values, advantages, returns in rows:
            new_logprobs, new_values = row_logprobs(policy, response), row_values(response)
            distribution = row_logits(policy, response).softmax(-1)
            entropies += (-(distribution * distribution.log()).sum(-1)).tolist()
            for t, advantage in enumerate(advantages):
                whitened = (advantage - centre) / spread
                ratio = (new_logprobs[t] - logprobs[t]).exp()
                low, high = 1 - settings.clip_range, 1 + settings.clip_range
                num_clipped += not low <= ratio.item() <= high
                policy_terms.append(-torch.min(ratio * whitened, ratio.clamp(low, high) * whitened))
                near = values[t] + (new_values[t] - values[t]).clamp(-settings.value_clip_range, settings.value_clip_range)
                value_terms.append(0.5 * torch.max((new_values[t] - returns[t]) ** 2, (near - returns[t]) ** 2))
        losses = torch.stack(policy_terms).mean(), torch.stack(value_terms).mean()
        epochs.append((losses[0].item(), losses[1].item(), sum(entropies) / len(entropies), num_clipped / len(every)))
        for model, loss, optimizer in zip((policy, critic), losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters() if p.grad is not None))
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad *= min(1.0, settings.max_grad_norm / (norm + 1e-6))
            optimizer.step()
    names = ("policy_loss", "value_loss", "entropy", "clip_fraction")
    return {name: sum(column) / len(column) for name, column in zip(names, zip(*epochs, strict=True), strict=True)}


def test_one_iteration_is_the_straight_line_computation() -> None:
    settings = config(
        ppo_epochs=3, kl_coef=0.3, gamma=0.97, temperature=0.8, clip_range=0.02, value_clip_range=0.02, max_grad_norm=0.05
    )
    policy, critic = tiny_policy(dtype=torch.float64), value_model(torch.float64)
    other_policy, other_critic = copy.deepcopy(policy), copy.deepcopy(critic)
    tokenizer = tiny_tokenizer()

    # The rollout is drawn again as ppo draws it, and scored by hand; the reference policy is another one, so that KL is not 0.
    sampler = TransformersSampler(other_policy, tokenizer)
    messages = [prompt.messages for prompt in next(prompt_batches(PROMPTS, 6, seed=11))]
    groups = sampler.sample(messages, 1, 0.8, 1.0, 7, seed=random.Random("11/1").getrandbits(63))
    responses = [group[0] for group in groups]
    scores = [float(response.text.count("e")) for response in responses]
    assert not all(response.finished for response in responses) and len(set(scores)) > 1

    ref = tiny_policy(seed=5, dtype=torch.float64)
    expected = straight_line_iteration(other_policy, ref, other_critic, responses, scores, settings)
    stats = next(ppo(policy, ref, critic, tokenizer, PROMPTS, REWARD, settings, seed=11))

    assert stats.score == pytest.approx(sum(scores) / 6)
    assert stats.num_tokens == sum(len(response.ids) for response in responses)
    assert stats.eos_fraction == sum(response.finished for response in responses) / 6
    for name, value in expected.items():
        assert getattr(stats, name) == pytest.approx(value, abs=1e-8), name
    assert expected["clip_fraction"] > 0
    for ours, theirs in ((policy, other_policy), (critic, other_critic)):
        for (name, mine), yours in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert (mine - yours).abs().max() < 1e-8, name


def trained(settings: PPOConfig) -> torch.Tensor:
    policy = tiny_policy(dtype=torch.float64)
    for _ in ppo(
        policy, tiny_policy(dtype=torch.float64), value_model(torch.float64), tiny_tokenizer(), PROMPTS, REWARD, settings, 3
    ):
        pass
    return torch.cat([parameter.flatten() for parameter in policy.parameters()]).detach()


def test_microbatches_change_nothing_and_minibatches_do() -> None:
    whole = trained(config(iterations=2, microbatch_size=6))
    assert (trained(config(iterations=2, microbatch_size=1)) - whole).abs().max() < 1e-8
    assert torch.equal(trained(config(iterations=2, microbatch_size=6)), whole)
    assert (trained(config(iterations=2, minibatch_size=2)) - whole).abs().max() > 1e-4


def test_the_policy_and_the_critic_move_and_the_reference_does_not() -> None:
    policy, ref_policy, critic = tiny_policy(), tiny_policy(), value_model()
    before = [copy.deepcopy(model.state_dict()) for model in (policy, ref_policy, critic)]
    policy.get_parameter("lm_head.weight").grad = torch.full((policy.config.vocab_size, 32), 1e6)  # left by an earlier stage
    list(ppo(policy, ref_policy, critic, tiny_tokenizer(), PROMPTS, REWARD, config(), seed=0))
    moved = [
        [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, old[name])]
        for model, old in zip((policy, ref_policy, critic), before, strict=True)
    ]
    assert moved[1] == []
    assert {"lm_head.weight", "model.layers.0.mlp.up_proj.weight"} <= set(moved[0])
    assert {"head.weight", "backbone.layers.0.mlp.up_proj.weight"} <= set(moved[2])
    assert (policy.lm_head.weight - before[0]["lm_head.weight"]).abs().max() < 5e-3


def learn(iterations: int, kl_coef: float) -> list[PPOStats]:
    sizes = {"batch_size": 48, "minibatch_size": 24, "microbatch_size": 24, "ppo_epochs": 2}
    rates = {"learning_rate": 1e-2, "value_learning_rate": 1e-2}
    prompts = [
        make_prompt([user(f"{text} {i}")], family="fact", split="train", source="test") for text in QUESTIONS for i in range(8)
    ]
    settings = config(iterations=iterations, kl_coef=kl_coef, **sizes, **rates)
    return list(ppo(tiny_policy(), tiny_policy(), value_model(), tiny_tokenizer(), prompts, REWARD, settings, seed=0))


def test_ppo_raises_the_score_and_the_kl_penalty_holds_it_back() -> None:
    free, held = learn(10, kl_coef=0.001), learn(8, kl_coef=1.0)
    assert [stats.iteration for stats in free] == list(range(1, 11))
    first, last = free[0], free[-1]
    assert last.score > first.score + 3
    assert last.kl > 5 > 1 > abs(first.kl)
    assert last.entropy < first.entropy - 1
    assert last.explained_variance > first.explained_variance
    assert held[-1].kl < 0.3 * free[7].kl


def test_the_reference_must_be_another_model() -> None:
    policy = tiny_policy()
    with pytest.raises(PPOError, match="ref_policy is the policy itself"):
        next(ppo(policy, policy, value_model(), tiny_tokenizer(), PROMPTS, REWARD, config(), seed=0))


def test_adapters_that_were_asked_for_must_be_there() -> None:
    with pytest.raises(PPOError, match="lora was asked for, and the policy has no adapters"):
        next(ppo(tiny_policy(), tiny_policy(), value_model(), tiny_tokenizer(), PROMPTS, REWARD, config(lora={}), seed=0))


def test_weights_in_half_precision_are_not_trained() -> None:
    models = tiny_policy(dtype=torch.bfloat16), tiny_policy(dtype=torch.bfloat16), value_model()
    with pytest.raises(PPOError, match=r"of LlamaForCausalLM that are trained are torch.bfloat16, in which steps of 0.001 are"):
        next(ppo(*models, tiny_tokenizer(), PROMPTS, REWARD, config(), seed=0))


def test_adapters_train_in_float32_on_weights_in_half_precision() -> None:
    base = tiny_policy(dtype=torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in base.named_parameters()}
    policy, critic = on_base(base, type(base), {}), on_base(base, type(base), {})
    Adapters(policy, LoraConfig(rank=2), seed=0)
    Adapters(critic, LoraConfig(rank=2), seed=1)
    value = ValueModel(critic.model, torch.nn.Linear(32, 1, bias=False))
    list(ppo(policy, base, value, tiny_tokenizer(), PROMPTS, REWARD, config(iterations=2, lora={"rank": 2}), seed=0))
    trained = {name: parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert {parameter.dtype for parameter in trained.values()} == {torch.float32}
    assert all(parameter.abs().max() > 0 for name, parameter in trained.items() if "lora_B" in name)  # they begin at 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.named_parameters())


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_step() -> None:
    critic = value_model()
    critic.head.weight.data.fill_(1e30)
    with pytest.raises(PPOError, match=r"gradient norm of ValueModel is .* lower the learning rate \(0.001\)"):
        next(ppo(tiny_policy(), tiny_policy(), critic, tiny_tokenizer(), PROMPTS, REWARD, config(), seed=0))
    assert (critic.head.weight == 1e30).all()
