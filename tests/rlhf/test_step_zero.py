"""PPO's step 0: sound models pass it, and of the usual faults exactly the one that was planted is named."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import ConstantScorer, tiny_policy, tiny_tokenizer
from ppo_fakes import config, value_model
from transformers import LlamaForCausalLM

from policy.chat import encode_prompt
from policy.generation import Response, TransformersSampler
from policy.tokenizer import BOS_ID, EOS_ID
from preference_data.messages import Messages, user
from preference_data.prompt import make_prompt
from registry.saved_states import SavedStates, SaveEvery
from reward_model.combined_reward import CombinedReward
from rlhf.ppo import ppo
from rlhf.ratio_causes import first_difference, prompt_cause, ratio_cause, ref_cause
from rlhf.rollout import rollout
from rlhf.step_zero import forward_logprobs, ratio_errors, sample_as_ppo, step_zero, tolerance

QUESTIONS = [
    "What is the sea?",
    "The fox?",
    "Which one is older, the fox or the owl?",
    "Take the pot, then go to the kitchen, and last add the plum. Always act as Napoleon. What colour is the sea?",
    "Napoleon?",
    "Sure, the plum.",
    "Help?",
    "I cannot help with that.",
]
PROMPTS: list[Messages] = [[user(text)] for text in QUESTIONS]
PROMPTS[1] = [{"role": "system", "content": "Always act as Napoleon."}, *PROMPTS[1]]


def lively(dtype: torch.dtype = torch.float32, kind: type[LlamaForCausalLM] = LlamaForCausalLM) -> LlamaForCausalLM:
    """A tiny policy that is as certain of some tokens as a trained one, and uncertain of others."""
    policy = tiny_policy()
    policy.lm_head.weight.data *= 6
    policy.__class__ = kind
    return policy.to(dtype)


def sampled(sampler, temperature: float = 1.0, seed: int = 0, max_new_tokens: int = 16):
    return sample_as_ppo(sampler, PROMPTS, config(temperature=temperature, max_new_tokens=max_new_tokens), seed)


# Faulty samplers and policies


class OtherSettings:
    """A sampler that uses another temperature or top-p than it is asked for."""

    def __init__(self, policy: LlamaForCausalLM, temperature: float | None = None, top_p: float = 1.0):
        self.inner, self.temperature, self.top_p = TransformersSampler(policy, tiny_tokenizer()), temperature, top_p

    def sample(self, prompts, k, temperature, top_p, max_new_tokens, seed):
        return self.inner.sample(prompts, k, self.temperature or temperature, self.top_p, max_new_tokens, seed)


class Noisy(OtherSettings):
    """A sampler that adds the same noise to the log-probabilities each time, which no usual cause explains."""

    scale = 0.1

    def sample(self, *settings):
        noise = torch.Generator().manual_seed(0)
        groups = super().sample(*settings)
        return [
            [replace(response, logprobs=[p + self.scale * float(torch.randn((), generator=noise)) for p in response.logprobs])]
            for (response,) in groups
        ]


class SecondBOS:
    """A sampler without cache or padding, whose prompts begin with two BOS; ``honest``: it says so."""

    def __init__(self, policy: LlamaForCausalLM, honest: bool):
        self.policy, self.honest = policy, honest

    def sample(self, prompts, k, temperature, top_p, max_new_tokens, seed):
        generator = torch.Generator().manual_seed(seed)
        return [[self._respond(prompt, temperature, max_new_tokens, generator)] for prompt in prompts]

    @torch.inference_mode()
    def _respond(self, prompt: Messages, temperature: float, max_new_tokens: int, generator: torch.Generator) -> Response:
        prompt_ids = encode_prompt(tiny_tokenizer(), prompt).ids
        read, ids, logprobs = [BOS_ID, *prompt_ids], [], []
        while len(ids) < max_new_tokens and ids[-1:] != [EOS_ID]:
            token_logprobs = (self.policy(torch.tensor([read + ids])).logits[0, -1] / temperature).log_softmax(-1)
            ids.append(int(torch.multinomial(token_logprobs.exp(), 1, generator=generator)))
            logprobs.append(float(token_logprobs[ids[-1]]))
        return Response("", ids, logprobs, ids[-1] == EOS_ID, read if self.honest else prompt_ids)


class ForgetsMask(LlamaForCausalLM):
    """Attends to padding."""

    def forward(self, *arguments, attention_mask=None, **options):
        return super().forward(*arguments, attention_mask=None, **options)


class CountsPadding(LlamaForCausalLM):
    """Counts positions from the first padding while it reads a prompt, and from the first real token while it responds."""

    def forward(self, input_ids=None, position_ids=None, **options):
        if position_ids is not None and input_ids.shape[1] > 1:
            position_ids = torch.arange(input_ids.shape[1])[None, :].expand_as(position_ids)
        return super().forward(input_ids=input_ids, position_ids=position_ids, **options)


def looks_ahead() -> LlamaForCausalLM:
    """A policy whose hidden states depend on every column, padding included."""
    policy = lively()

    def mix(module, arguments, output):
        output.last_hidden_state = output.last_hidden_state + 0.02 * output.last_hidden_state.mean(dim=1, keepdim=True)
        return output

    policy.model.register_forward_hook(mix)
    return policy


def with_dropout(training: bool) -> LlamaForCausalLM:
    policy = lively()
    for layer in policy.model.layers:
        layer.self_attn.attention_dropout = 0.2
    return policy.train(training)


def plain(policy: LlamaForCausalLM) -> TransformersSampler:
    return TransformersSampler(policy, tiny_tokenizer())


def fault(name, sampler, policy, temperature, words):
    return pytest.param(name, sampler, policy, temperature, words, id=f"{name}: {words}")


FAULTS = [
    fault("dropout", plain, lambda: with_dropout(True), 1.0, "the model is in train mode"),
    fault("dropout", lambda policy: plain(with_dropout(True)), lambda: with_dropout(False), 1.0, "sampled twice with the same"),
    fault("padding", plain, lambda: lively(kind=ForgetsMask), 1.0, "sampled one at a time"),
    fault("padding", plain, lambda: lively(kind=CountsPadding), 1.0, "sampled one at a time"),
    fault("padding", plain, looks_ahead, 1.0, "in the forward pass"),
    fault("dtype", lambda policy: plain(copy.deepcopy(policy).bfloat16()), lively, 1.0, "rounding of bfloat16"),
    fault("dtype", lambda policy: plain(copy.deepcopy(policy).half()), lively, 0.7, "rounding of float16"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sampler", "policy", "temperature", "words"), FAULTS)
def test_exactly_the_fault_that_was_planted_is_named(name, sampler, policy, temperature, words) -> None:
    model = policy()
    modes = [module.training for module in model.modules()]
    weights = copy.deepcopy(model.state_dict())
    sampling = sampled(sampler(model), temperature)
    assert not step_zero(sampling, model, model).ratio_holds
    assert prompt_cause(sampling, tiny_tokenizer()) is None
    cause = ratio_cause(sampling, model)
    assert cause is not None and (cause.name, words in cause.found) == (name, True), cause
    assert cause.advice
    assert [module.training for module in model.modules()] == modes and model.dtype == torch.float32
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("policy", [lively, lambda: with_dropout(False), lambda: lively(torch.bfloat16)])
@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(lambda policy: OtherSettings(policy, temperature=0.7), id="temperature"),
        pytest.param(lambda policy: OtherSettings(policy, top_p=0.5), id="top-p"),
        pytest.param(lambda policy: OtherSettings(policy, temperature=0.6, top_p=0.9), id="temperature and top-p"),
    ],
)
def test_a_sampler_with_other_settings_is_detected_and_no_usual_cause_is_blamed(sampler, policy) -> None:
    model = policy()
    sampling = sampled(sampler(model))
    assert not step_zero(sampling, model, model).ratio_holds
    assert ratio_cause(sampling, model) is None


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
@pytest.mark.parametrize("policy", [lively, tiny_policy])
def test_a_sound_policy_has_ratio_1_and_kl_0(policy, temperature) -> None:
    model, reference = policy(), policy()
    measured = step_zero(sampled(plain(model), temperature), model, reference)
    assert measured.ratio_holds and measured.kl_holds
    assert 0 < measured.ratio_error < 2e-5 and measured.mean_ratio_error <= measured.ratio_error
    assert (measured.kl, measured.ref_ratio_error) == (0.0, 0.0)
    assert measured.num_responses == 8 and 8 <= measured.num_tokens <= 8 * 16


def test_the_errors_are_those_of_a_plain_loop() -> None:
    """Token by token, in float64 and without padding: exp(log p of the forward pass - log p recorded) - 1."""
    policy, reference = lively(), tiny_policy(seed=3)
    sampling = sampled(OtherSettings(policy, temperature=0.8))
    errors, nats = [], 0.0
    wide, other = copy.deepcopy(policy).double(), reference.double()
    for response in sampling.responses:
        start, ids = len(response.prompt_ids), torch.tensor([response.prompt_ids + response.ids])
        with torch.no_grad():
            rows, ref_rows = (model(ids).logits[0].log_softmax(-1) for model in (wide, other))
        for t, token in enumerate(response.ids):
            errors.append(abs(float((rows[start + t - 1, token] - response.logprobs[t]).exp()) - 1))
            nats += float(rows[start + t - 1, token] - ref_rows[start + t - 1, token])
    measured = step_zero(sampling, policy, tiny_policy(seed=3))
    assert measured.ratio_error == pytest.approx(max(errors), rel=1e-3)
    assert measured.mean_ratio_error == pytest.approx(sum(errors) / len(errors), rel=1e-3)
    assert measured.kl == pytest.approx(nats / 8, rel=1e-3)
    assert not measured.kl_holds


def test_tolerances() -> None:
    assert [tolerance(dtype) for dtype in (torch.float64, torch.float32)] == [1e-4, 1e-4]
    assert [tolerance(dtype) for dtype in (torch.bfloat16, torch.float16)] == [0.05, 0.05]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_log_probability_that_is_not_finite_fails(value) -> None:
    policy = lively()
    sampling = sampled(plain(policy))
    broken = replace(sampling.responses[0], logprobs=[value, *sampling.responses[0].logprobs[1:]])
    measured = step_zero(replace(sampling, responses=[broken, *sampling.responses[1:]]), policy, policy)
    assert not measured.ratio_holds


@pytest.mark.parametrize("scale", ["large", "as that of rounding"])
def test_noise_has_no_cause(scale) -> None:
    policy = lively()
    noisy = Noisy(policy)
    if scale != "large":
        half = copy.deepcopy(policy).bfloat16()
        responses = sampled(plain(policy)).responses
        rounding = forward_logprobs(half, responses, 1.0) - forward_logprobs(policy, responses, 1.0)
        noisy.scale = rounding.abs().mean().item()
    sampling = sampled(noisy)
    assert not step_zero(sampling, policy, policy).ratio_holds
    assert ratio_cause(sampling, policy) is None


def test_errors_ten_times_as_large_as_rounding_are_not_blamed_on_dtype() -> None:
    policy = lively()
    half = copy.deepcopy(policy).bfloat16()

    class TenfoldRounding(OtherSettings):
        def sample(self, *settings):
            groups = super().sample(*settings)
            for (response,) in groups:
                rounding = forward_logprobs(half, [response], 1.0) - forward_logprobs(policy, [response], 1.0)
                response.logprobs[:] = (torch.tensor(response.logprobs) + 10 * rounding).tolist()
            return groups

    sampling = sampled(TenfoldRounding(policy))
    assert not step_zero(sampling, policy, policy).ratio_holds
    assert ratio_cause(sampling, policy) is None


def test_prompts_in_another_format_are_found_although_the_ratio_is_1() -> None:
    policy = lively()
    sampling = sampled(SecondBOS(policy, honest=True))
    assert step_zero(sampling, policy, policy).ratio_holds
    cause = prompt_cause(sampling, tiny_tokenizer())
    assert cause and cause.name == "template"
    assert cause.found.startswith("8 of 8 prompts were read in another format: at token 2: found '<s> [INST]")
    assert prompt_cause(sampled(plain(policy)), tiny_tokenizer()) is None


def test_a_sampler_that_hides_the_format_of_its_prompts_is_detected() -> None:
    policy = lively()
    sampling = sampled(SecondBOS(policy, honest=False))
    assert prompt_cause(sampling, tiny_tokenizer()) is None
    assert not step_zero(sampling, policy, policy).ratio_holds
    assert ratio_cause(sampling, policy) is None


def test_differences_of_ids_are_shown() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer("the fox", add_special_tokens=False)["input_ids"]
    assert first_difference(tokenizer, [1, 1, *ids], [1, *ids]) == "at token 2: found '<s> the fox' instead of 'the fox'"
    assert first_difference(tokenizer, [1], [1, *ids]) == "at token 2: found the end instead of 'the fox'"


# Half precision, where rounding is as large as a small fault


def test_half_precision_has_a_wider_tolerance() -> None:
    policy = lively(torch.bfloat16)
    measured = step_zero(sampled(plain(policy)), policy, policy)
    assert measured.tolerance == 0.05 and measured.ratio_error > 1e-4


def test_a_policy_whose_rounding_exceeds_the_tolerance_has_dtype_as_the_cause() -> None:
    policy = lively(torch.bfloat16)
    recorded = sampled(plain(copy.deepcopy(policy).float()))
    cause = ratio_cause(recorded, policy)
    assert cause and cause.name == "dtype" and "bfloat16 rounds so much that a forward pass in float32 is as far" in cause.found


# The reference


def test_the_cause_of_a_kl_to_the_reference_is_named() -> None:
    policy = lively()
    sampling = sampled(plain(policy))
    assert ref_cause(policy, lively(), sampling) is None

    other = lively()
    other.model.layers[1].mlp.up_proj.weight.data[0, 0] += 1
    cause = ref_cause(policy, other, sampling)
    assert cause and cause.name == "weights" and "1 tensors" in cause.found and "layers.1.mlp.up_proj.weight" in cause.found

    cause = ref_cause(policy, lively(torch.bfloat16), sampling)
    assert cause and cause.name == "dtype" and "the policy is in float32, the reference in bfloat16" in cause.found

    cause = ref_cause(policy, with_dropout(training=True), sampling)
    assert cause and cause.name == "dropout" and "of the reference differ; the model is in train mode" in cause.found


# In PPO


REWARD = CombinedReward(ConstantScorer(1.0), ConstantScorer(5.0))
TASKS = [make_prompt(messages, family="fact", split="train", source="test") for messages in PROMPTS]
CONFIG = config(iterations=3, batch_size=8, minibatch_size=8, microbatch_size=4, max_new_tokens=6)


def rolled(sampler, policy: LlamaForCausalLM | None):
    return rollout(sampler, lively(), value_model(), TASKS, REWARD, CONFIG, CONFIG.kl_coef, 0, policy)


def test_log_probabilities_within_tolerance_are_used_as_recorded() -> None:
    measured, not_measured = rolled(plain(lively()), lively()), rolled(plain(lively()), None)
    assert measured.ratio_error is not None and 0 < measured.ratio_error < 1e-4 and not measured.recomputed
    assert (not_measured.ratio_error, not_measured.recomputed) == (None, False)
    for name in ("logprobs", "ref_logprobs", "values", "rewards", "advantages", "returns"):
        assert torch.equal(getattr(measured, name), getattr(not_measured, name)), name


def test_log_probabilities_beyond_tolerance_are_recomputed_and_the_kl_is_0_again() -> None:
    record = rolled(OtherSettings(lively(), temperature=0.5), lively())
    assert record.recomputed and record.ratio_error is not None and record.ratio_error > 0.1
    assert torch.equal(record.logprobs, record.ref_logprobs) and record.kl.tolist() == [0.0] * 8
    recorded = torch.tensor([sum(response.logprobs) for response in record.responses])
    assert ((record.logprobs.sum(dim=1) - recorded).abs() > 0.01).any()
    assert (record.logprobs[~record.response_mask] == 0).all()


def run(kind: type[LlamaForCausalLM], states: SavedStates | None = None, stop: int = 9):
    """The stats of each iteration up to ``stop``, and the policy's weights in the end."""
    policy = lively(kind=kind)
    iterations = []
    for stats in ppo(policy, lively(), value_model(), tiny_tokenizer(), TASKS, REWARD, CONFIG, 0, states):
        iterations.append(stats)
        if stats.iteration == stop:
            break
    return iterations, torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


def test_ppo_measures_once_where_the_ratio_is_1_and_recomputes_where_it_is_not() -> None:
    iterations, _ = run(LlamaForCausalLM)
    assert [stats.ratio_error is None for stats in iterations] == [False, True, True]
    assert iterations[0].ratio_error < 1e-4 and not any(stats.recomputed for stats in iterations)

    iterations, weights = run(ForgetsMask)
    assert iterations[0].recomputed and iterations[0].ratio_error > 1e-4
    assert all(stats.ratio_error is not None for stats in iterations)
    assert iterations[0].kl == 0.0 and iterations[0].approx_kl < 1e-12
    assert weights.isfinite().all()


@pytest.mark.parametrize("kind", [LlamaForCausalLM, ForgetsMask])
def test_a_resumed_run_keeps_the_decision_of_its_first_iteration(kind, tmp_path: Path) -> None:
    iterations, weights = run(kind)
    run(kind, SavedStates(tmp_path, every=SaveEvery(seconds=0)), stop=2)
    resumed, resumed_weights = run(kind, SavedStates(tmp_path, every=SaveEvery(seconds=0)))
    assert torch.equal(weights, resumed_weights)
    assert [(stats.ratio_error, stats.recomputed, stats.kl) for stats in resumed] == [
        (stats.ratio_error, stats.recomputed, stats.kl) for stats in iterations
    ]


def test_ratio_errors_by_hand() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -0.5])
    new_logprobs = torch.tensor([-1.0, -2.0 + 0.6931472, -0.5 - 0.6931472])  # ratios 1, 2 and 1/2
    assert ratio_errors(new_logprobs, logprobs).tolist() == pytest.approx([0.0, 1.0, 0.5], abs=1e-6)
