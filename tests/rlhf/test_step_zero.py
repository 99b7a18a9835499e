"""PPO's step 0: right models pass it, and of every fault that is put in, exactly that one is named."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import ConstantScorer, ScriptedPolicy, tiny_policy, tiny_tokenizer
from transformers import LlamaForCausalLM

from policy.chat import encode_prompt
from policy.generation import Response, TransformersSampler, sample_token
from preference_data.messages import Messages, user
from preference_data.prompt import make_prompt
from registry.saved_states import SavedStates, SaveEvery
from reward_model.combined_reward import CombinedReward
from rlhf.config import PPOConfig
from rlhf.ppo import ppo
from rlhf.ratio_causes import first_difference, prompt_cause, ratio_cause, ref_cause
from rlhf.ratio_fits import Settings, fitted_temperature, fitted_truncation, kept_mass, logprobs_under
from rlhf.rollout import rollout
from rlhf.step_zero import forward_logprobs, ratio_errors, sample_as_ppo, step_zero, tolerance
from rlhf.value_model import ValueModel

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
    """A tiny policy that is as sure of some tokens as a trained one, and not of others."""
    policy = tiny_policy()
    policy.lm_head.weight.data *= 6
    policy.__class__ = kind
    return policy.to(dtype)


def sampled(sampler, temperature: float = 1.0, seed: int = 0, max_new_tokens: int = 16):
    config = PPOConfig(temperature=temperature, max_new_tokens=max_new_tokens)
    return sample_as_ppo(sampler, PROMPTS, config, seed)


# What a sampler can do wrong


class Otherwise:
    """A sampler that samples with other settings than it is asked for."""

    def __init__(self, policy: LlamaForCausalLM, temperature: float | None = None, top_p: float = 1.0):
        self.inner, self.temperature, self.top_p = TransformersSampler(policy, tiny_tokenizer()), temperature, top_p

    def sample(self, prompts, k, temperature, top_p, max_new_tokens, seed):
        chosen = temperature if self.temperature is None else self.temperature
        return self.inner.sample(prompts, k, chosen, self.top_p, max_new_tokens, seed)


class Noisy(Otherwise):
    """A sampler that records what nothing explains."""

    scale = 0.1

    def sample(self, *settings):
        noise = torch.Generator().manual_seed(0)
        groups = super().sample(*settings)
        return [
            [replace(each, logprobs=[p + self.scale * float(torch.randn((), generator=noise)) for p in each.logprobs])]
            for (each,) in groups
        ]


class Engine:
    """A sampler written in the plainest way: no cache, no padding; ``read`` changes the ids that the model sees."""

    def __init__(self, policy: LlamaForCausalLM, top_k: int | None = None, read: Callable[[list[int]], list[int]] = list):
        self.policy, self.top_k, self.read = policy, top_k, read
        self.honest = False  # whether it tells what it read

    @torch.inference_mode()
    def sample(self, prompts, k, temperature, top_p, max_new_tokens, seed):
        generator = torch.Generator().manual_seed(seed)
        return [
            [self._one(encode_prompt(tiny_tokenizer(), prompt).ids, temperature, max_new_tokens, generator)]
            for prompt in prompts
        ]

    def _one(self, prompt_ids: list[int], temperature: float, max_new_tokens: int, generator: torch.Generator) -> Response:
        seen, ids, logprobs = self.read(prompt_ids), [], []
        while len(ids) < max_new_tokens and ids[-1:] != [2]:
            logits = self.policy(input_ids=torch.tensor([seen + ids])).logits[0, -1] / temperature
            likeliest, tokens = logits.topk(self.top_k or len(logits))
            drawn = int(torch.multinomial(likeliest.softmax(-1), 1, generator=generator))
            ids.append(int(tokens[drawn]))
            logprobs.append(float(likeliest.log_softmax(-1)[drawn]))
        return Response("", ids, logprobs, ids[-1] == 2, seen if self.honest else prompt_ids)


class ForgetsMask(LlamaForCausalLM):
    """Attends to padding."""

    def forward(self, *arguments, attention_mask=None, **options):
        return super().forward(*arguments, attention_mask=None, **options)


class CountsPadding(LlamaForCausalLM):
    """Counts positions from the padding on while it reads a prompt, and from the first real token while it answers."""

    def forward(self, input_ids=None, position_ids=None, **options):
        if position_ids is not None and input_ids.shape[1] > 1:
            position_ids = torch.arange(input_ids.shape[1])[None, :].expand_as(position_ids)
        return super().forward(input_ids=input_ids, position_ids=position_ids, **options)


def looks_ahead() -> LlamaForCausalLM:
    """A policy whose hidden states take in those of every column, padding included."""
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


def case(name, sampler, policy, temperature=1.0, words=""):
    return pytest.param(name, sampler, policy, temperature, words, id=f"{name}: {words}" if words else name)


FAULTS = [
    case("temperature", lambda policy: Otherwise(policy, temperature=0.7), lively, 1.0, "temperature 0.7, and temperature 1"),
    case("temperature", lambda policy: Otherwise(policy, temperature=1.0), lively, 0.6, "temperature 1, and temperature 0.6"),
    case("temperature", lambda policy: Otherwise(policy, temperature=1.01), lively, 1.0, "of temperature 1.01, and"),
    case("top-p", lambda policy: Otherwise(policy, top_p=0.5), lively, 1.0, "top-p 0.5"),
    case("top-p", lambda policy: Otherwise(policy, top_p=0.87), lively, 0.7, "top-p 0.87"),
    case("top-k", lambda policy: Engine(policy, top_k=20), lively, 1.0, "top-k 20"),
    case("top-k", lambda policy: Engine(policy, top_k=7), lively, 1.0, "top-k 7"),
    case("temperature and top-p", lambda policy: Otherwise(policy, 0.6, 0.9), lively, 1.0, "temperature 0.6, top-p 0.9, and"),
    case("dropout", plain, lambda: with_dropout(True), 1.0, "the model is in train mode"),
    case("dropout", lambda policy: plain(with_dropout(True)), lambda: with_dropout(False), 1.0, "repeats itself"),
    case("padding", plain, lambda: lively(kind=ForgetsMask), 1.0, "sampled one at a time"),
    case("padding", plain, lambda: lively(kind=CountsPadding), 1.0, "sampled one at a time"),
    case("padding", plain, looks_ahead, 1.0, "in the forward pass"),
    case("dtype", lambda policy: plain(copy.deepcopy(policy).bfloat16()), lively, 1.0, "rounding of bfloat16"),
    case("dtype", lambda policy: plain(copy.deepcopy(policy).half()), lively, 0.7, "rounding of float16"),
    case("template", lambda policy: Engine(policy, read=lambda ids: [1, *ids]), lively, 1.0, "a second BOS in front"),
    case("template", lambda policy: Engine(policy, read=lambda ids: ids[1:]), lively, 1.0, "without its BOS"),
    case("template", lambda policy: Engine(policy, read=lambda ids: [*ids, 2]), lively, 1.0, "with EOS after it"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sampler", "policy", "temperature", "words"), FAULTS)
def test_exactly_the_fault_that_was_put_in_is_named(name, sampler, policy, temperature, words) -> None:
    model = policy()
    modes = [module.training for module in model.modules()]
    weights = copy.deepcopy(model.state_dict())
    sampling = sampled(sampler(model), temperature)
    assert not step_zero(sampling, model, model).ratio_holds
    cause = ratio_cause(sampling, model, tiny_tokenizer())
    assert cause is not None and (cause.name, words in cause.found) == (name, True), cause
    assert cause.advice
    assert [module.training for module in model.modules()] == modes and model.dtype == torch.float32
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())


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
    """Over tokens, in float64 and without padding: exp(log p of the forward pass - log p recorded) - 1."""
    policy, reference = lively(), tiny_policy(seed=3)
    sampling = sampled(Otherwise(policy, temperature=0.8))
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
    assert [tolerance(each) for each in (torch.float64, torch.float32)] == [1e-4, 1e-4]
    assert [tolerance(each) for each in (torch.bfloat16, torch.float16)] == [0.05, 0.05]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_does_not_hold(value) -> None:
    policy = lively()
    sampling = sampled(plain(policy))
    torn = replace(sampling.responses[0], logprobs=[value, *sampling.responses[0].logprobs[1:]])
    measured = step_zero(replace(sampling, responses=[torn, *sampling.responses[1:]]), policy, policy)
    assert not measured.ratio_holds


@pytest.mark.parametrize("scale", ["large", "as that of rounding"])
def test_no_cause_is_made_up(scale) -> None:
    policy = lively()
    noisy = Noisy(policy)
    if scale != "large":
        half = copy.deepcopy(policy).bfloat16()
        responses = sampled(plain(policy)).responses
        rounding = forward_logprobs(half, responses, 1.0) - forward_logprobs(policy, responses, 1.0)
        noisy.scale = rounding.abs().mean().item()
    sampling = sampled(noisy)
    assert not step_zero(sampling, policy, policy).ratio_holds
    assert ratio_cause(sampling, policy, tiny_tokenizer()) is None


@pytest.mark.parametrize("times", [0.05, 20])
def test_dropout_is_not_blamed_for_what_is_much_less_or_more_than_it_does(times) -> None:
    policy, dropping = with_dropout(False), with_dropout(True)
    responses = sampled(plain(policy)).responses
    noisy = Noisy(policy)
    noisy.scale = (
        times * (forward_logprobs(dropping, responses, 1.0) - forward_logprobs(policy, responses, 1.0)).abs().mean().item()
    )
    assert ratio_cause(sampled(noisy), policy, tiny_tokenizer()) is None


def test_an_honest_sampler_with_another_format_is_found_out_although_the_ratio_is_1() -> None:
    policy = lively()
    engine = Engine(policy, read=lambda ids: [1, *ids])
    engine.honest = True
    sampling = sampled(engine)
    assert step_zero(sampling, policy, policy).ratio_holds
    cause = prompt_cause(sampling, tiny_tokenizer())
    assert (
        cause and cause.name == "template" and cause.found.startswith("8 of 8 prompts were read in another format: at token 2")
    )
    assert ratio_cause(sampling, policy, tiny_tokenizer()) == cause
    assert prompt_cause(sampled(plain(policy)), tiny_tokenizer()) is None


def test_differences_of_ids_are_shown() -> None:
    hello = tiny_tokenizer()("the fox", add_special_tokens=False)["input_ids"]
    assert (
        first_difference(tiny_tokenizer(), [1, 1, *hello], [1, *hello])
        == "at token 2 stands '<s> the fox' instead of 'the fox'"
    )
    assert first_difference(tiny_tokenizer(), [1], [1, *hello]) == "at token 2 stands the end instead of 'the fox'"


# Half precision, where rounding is as large as a small fault


def test_in_half_precision_rounding_is_told_from_faults() -> None:
    policy = lively(torch.bfloat16)
    assert step_zero(sampled(plain(policy)), policy, policy).tolerance == 0.05
    for sampler, name in (
        (Otherwise(policy, temperature=0.5), "temperature"),
        (Otherwise(policy, top_p=0.5), "top-p"),
        (Engine(policy, top_k=5), "top-k"),
    ):
        sampling = sampled(sampler)
        assert not step_zero(sampling, policy, policy).ratio_holds
        cause = ratio_cause(sampling, policy, tiny_tokenizer())
        assert cause and cause.name == name, (name, cause)


def test_a_policy_that_rounds_more_than_it_may_is_told_so() -> None:
    policy = lively(torch.bfloat16)
    recorded = sampled(plain(copy.deepcopy(policy).float()))
    cause = ratio_cause(recorded, policy, tiny_tokenizer())
    assert cause and cause.name == "dtype" and "bfloat16 rounds so much that a forward pass in float32 is as far" in cause.found


# The reference


def test_the_cause_of_a_kl_is_named() -> None:
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


# The fits


def logits_and_tokens(settings: Settings, count: int = 200) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of 50 tokens, tokens drawn from them by the sampler's own function, and what it recorded."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, 50, generator=generator)
    drawn = sample_token(logits, torch.rand(count, generator=generator), settings.temperature, settings.top_p or 1.0)
    return logits, *drawn


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 1.0123, 5.0])
def test_the_temperature_is_read_back(temperature) -> None:
    assert fitted_temperature(*logits_and_tokens(Settings(temperature))) == pytest.approx(temperature, rel=1e-4)


@pytest.mark.parametrize("top_p", [0.3, 0.5, 0.777, 0.95])
def test_the_nucleus_is_that_of_the_sampler_and_is_read_back(top_p) -> None:
    logits, ids, logprobs = logits_and_tokens(Settings(0.8, top_p=top_p))
    torch.testing.assert_close(logprobs_under(Settings(0.8, top_p=top_p), logits, ids).float(), logprobs, atol=1e-5, rtol=0)
    found = fitted_truncation(logits, ids, logprobs, 0.8)
    assert found and found.top_p == pytest.approx(top_p, abs=0.01) and str(found) == f"temperature 0.8, top-p {top_p:.2g}"


def test_the_token_that_crosses_p_is_kept_and_one_more_where_p_is_met() -> None:
    """A token is dropped when the probability of those before it exceeds p."""
    cumulative = torch.tensor([[0.5, 0.75, 1.0], [0.25, 0.5, 1.0]])
    for top_p, kept in ((0.4, [0.5, 0.5]), (0.5, [0.75, 1.0]), (0.6, [0.75, 1.0]), (1.0, [1.0, 1.0])):
        assert kept_mass(cumulative, Settings(1.0, top_p=top_p)).tolist() == kept
    assert kept_mass(cumulative, Settings(1.0, top_k=2)).tolist() == [0.75, 0.5]


@pytest.mark.parametrize("top_k", [2, 7, 50, 80])
def test_top_k_is_the_softmax_of_the_largest_logits(top_k) -> None:
    logits, ids, _ = logits_and_tokens(Settings(1.0))
    expected = logits.gather(1, ids[:, None])[:, 0] - logits.sort(descending=True).values[:, :top_k].exp().sum(dim=1).log()
    torch.testing.assert_close(logprobs_under(Settings(1.0, top_k=top_k), logits, ids).float(), expected, atol=1e-5, rtol=0)


def test_log_probabilities_that_fell_are_no_truncation() -> None:
    logits, ids, logprobs = logits_and_tokens(Settings(1.0))
    assert fitted_truncation(logits, ids, logprobs - 0.5, 1.0) is None


# In PPO


REWARD = CombinedReward(ConstantScorer(1.0), ConstantScorer(5.0))
TASKS = [make_prompt(messages, family="fact", split="train", source="test") for messages in PROMPTS]
CONFIG = PPOConfig(
    iterations=3,
    batch_size=8,
    minibatch_size=8,
    microbatch_size=4,
    max_new_tokens=6,
    learning_rate=1e-3,
    value_learning_rate=1e-3,
)


def value_model() -> ValueModel:
    torch.manual_seed(7)
    return ValueModel(tiny_policy(seed=3).model, torch.nn.Linear(32, 1, bias=False))


def rolled(sampler, policy: LlamaForCausalLM | None):
    return rollout(sampler, lively(), value_model(), TASKS, REWARD, CONFIG, CONFIG.kl_coef, 0, policy)


def test_what_is_within_tolerance_is_used_as_it_was_recorded() -> None:
    looked, not_looked = rolled(plain(lively()), lively()), rolled(plain(lively()), None)
    assert looked.ratio_error is not None and 0 < looked.ratio_error < 1e-4 and not looked.recomputed
    assert (not_looked.ratio_error, not_looked.recomputed) == (None, False)
    for name in ("logprobs", "ref_logprobs", "values", "rewards", "advantages", "returns"):
        assert torch.equal(getattr(looked, name), getattr(not_looked, name)), name


def test_what_is_beyond_tolerance_is_recomputed_and_the_kl_is_0_again() -> None:
    record = rolled(Otherwise(lively(), temperature=0.5), lively())
    assert record.recomputed and record.ratio_error is not None and record.ratio_error > 0.1
    assert torch.equal(record.logprobs, record.ref_logprobs) and record.kl.tolist() == [0.0] * 8
    recorded = torch.tensor([sum(response.logprobs) for response in record.responses])
    assert ((record.logprobs.sum(dim=1) - recorded).abs() > 0.01).any()
    assert (record.logprobs[~record.response_mask] == 0).all()


def test_garbage_is_recomputed() -> None:
    record = rolled(ScriptedPolicy(lambda messages, position: "Sure!"), lively())
    assert record.recomputed and not torch.equal(record.logprobs, -record.response_mask.float())


def run(kind: type[LlamaForCausalLM], states: SavedStates | None = None, stop: int = 9):
    policy = lively(kind=kind)
    training = ppo(policy, lively(), value_model(), tiny_tokenizer(), TASKS, REWARD, CONFIG, 0, states)
    told = []
    for stats in training:
        told.append(stats)
        if stats.iteration == stop:
            break
    return told, torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


def test_ppo_looks_once_where_all_is_well_and_says_when_it_is_not() -> None:
    told, _ = run(LlamaForCausalLM)
    assert [stats.ratio_error is None for stats in told] == [False, True, True]
    assert told[0].ratio_error < 1e-4 and not any(stats.recomputed for stats in told)

    told, weights = run(ForgetsMask)
    assert told[0].recomputed and told[0].ratio_error > 1e-4
    assert all(stats.ratio_error is not None for stats in told)
    assert told[0].kl == 0.0 and told[0].approx_kl < 1e-12
    assert weights.isfinite().all()


@pytest.mark.parametrize("kind", [LlamaForCausalLM, ForgetsMask])
def test_a_stopped_run_goes_on_with_the_decision_of_its_first_iteration(kind, tmp_path: Path) -> None:
    told, weights = run(kind)
    run(kind, SavedStates(tmp_path, every=SaveEvery(seconds=0)), stop=2)
    again, weights_again = run(kind, SavedStates(tmp_path, every=SaveEvery(seconds=0)))
    assert torch.equal(weights, weights_again)
    assert [(each.ratio_error, each.recomputed, each.kl) for each in again] == [
        (each.ratio_error, each.recomputed, each.kl) for each in told
    ]


def test_ratio_errors_by_hand() -> None:
    old: Sequence[float] = [-1.0, -2.0, -0.5]
    found = ratio_errors(torch.tensor([-1.0, -2.0 + 0.6931472, -0.5 - 0.6931472]), torch.tensor(old))
    assert found.tolist() == pytest.approx([0.0, 1.0, 0.5], abs=1e-6)
