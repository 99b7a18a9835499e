"""PPO: step 0, what moves and what does not, and a known answer; `test_ppo_golden` holds its numbers."""

import copy

import pytest
import torch
from fakes import make_prompts, tiny_policy, tiny_tokenizer
from ppo_fakes import PROMPTS, QUESTIONS, REWARD, config, value_model

from policy.config import LoraConfig
from policy.lora import Adapters
from policy.shared_base import on_base
from rlhf.config import PPOConfig
from rlhf.ppo import ppo
from rlhf.ppo_stats import PPOStats
from rlhf.rollout import PPOError
from rlhf.value_model import ValueModel


def test_at_step_0_the_ratio_is_1_and_the_kl_is_0() -> None:
    run = ppo(tiny_policy(), tiny_policy(), value_model(), tiny_tokenizer(), PROMPTS, REWARD, config(temperature=0.7), seed=0)
    stats = next(run)
    assert stats.kl == pytest.approx(0, abs=1e-4)
    assert stats.approx_kl == pytest.approx(0, abs=1e-6)
    assert stats.clip_fraction == 0


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
    prompts = make_prompts([f"{text} {i}" for text in QUESTIONS for i in range(8)])
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
