"""One iteration of PPO against the same iteration written down a second time, number by number.

The second writing shares nothing with the first but the responses that were sampled and the models' classes. It is float64
throughout, reads one response at a time without padding or masks, and says every formula anew: log-softmax from exponentials,
the rule of the combined reward, whitening, the KL penalty of each token, the advantages as a double sum, both clipped losses,
the clipping of gradients, AdamW. Every number is held to 1e-11: scores, KL, rewards, advantages, returns, losses, the
gradients of each step, and all parameters after the last.
"""

import copy
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import pytest
import torch
from fakes import talking_policy, tiny_policy, tiny_tokenizer
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from policy.generation import Response, TransformersSampler
from policy.tokenizer import EOS_ID
from preference_data.messages import Messages, user
from preference_data.prompt import make_prompt
from reward_model.combined_reward import CombinedReward
from rlhf.config import PPOConfig
from rlhf.ppo import ppo
from rlhf.ppo_stats import PPOStats
from rlhf.rollout import Rollout, prompt_batches, rollout
from rlhf.value_model import ValueModel

# Of each prompt: helpfulness and safety of its answer, raw logits that float32 holds exactly; is it a safety prompt?
# sigmoid(-2) = 0.12 is below the threshold of 0.15; sigmoid(-1.5) = 0.18 is not, although -1.5 is.
TABLE = {
    "What is the sea?": (1.5, 2.0, False),
    "The fox?": (3.25, -2.0, False),
    "Which one is older, the fox or the owl?": (-0.75, -1.5, False),
    "Take the pot.": (2.5, 0.5, True),
    "Napoleon?": (0.25, 4.0, False),
    "Sure, the plum.": (-1.0, 1.25, False),
    "Help?": (4.5, -3.5, True),
    "Go to the kitchen.": (-2.25, 0.0, False),
}
COMBINED = dict(zip(TABLE, (1.5, -2.0, -0.75, 0.5, 0.25, -1.0, -3.5, -2.25), strict=True))  # by hand
PROMPTS = [
    make_prompt([user(text)], family="fact", split="train", source="test", is_safety=is_safety)
    for text, (_, _, is_safety) in TABLE.items()
]
Model = TypeVar("Model", bound=nn.Module)
SEED = 36
ATOL = 1e-11
CONFIG = PPOConfig(
    iterations=1,
    batch_size=8,
    minibatch_size=4,
    microbatch_size=2,
    ppo_epochs=2,
    max_new_tokens=12,
    learning_rate=3e-3,
    value_learning_rate=2e-3,
    weight_decay=0.3,
    max_grad_norm=0.2,
    kl_coef=0.3,
    gamma=0.97,
    gae_lambda=0.9,
    temperature=0.8,
    clip_range=0.02,
    value_clip_range=0.02,
    missing_eos_penalty=0.75,
)


class TableScorer:
    """The known score of the answer to each prompt: 0 helpfulness, 1 safety."""

    def __init__(self, axis: int):
        self.axis = axis

    def score(self, dialogues: Sequence[Messages]) -> Tensor:
        return torch.tensor([TABLE[dialogue[0]["content"]][self.axis] for dialogue in dialogues])


@dataclass
class Plain:
    """The iteration in lists: one entry a response, each a list of one number a token; or one entry a step."""

    scores: list[float]
    kl: list[float]
    rewards: list[list[float]]
    advantages: list[list[float]]
    returns: list[list[float]]
    values: list[list[float]]
    logprobs: list[list[float]]
    policy_losses: list[float]
    value_losses: list[float]
    diagnostics: list[tuple[float, float, float]]  # approximate KL, share of ratios clipped, entropy
    gradients: list[list[Tensor]]  # clipped; the policy's first step, the critic's first step, the policy's second, ...
    clipped: Counter[str]  # how many ratios, values and gradients a clip changed


def plain_distributions(model: nn.Module, response: Response) -> Tensor:
    """(T, V) log-probabilities at the temperature of all tokens that might have stood at each place of the response."""
    start = len(response.prompt_ids)
    logits = model(torch.tensor([response.prompt_ids + response.ids])).logits[0, start - 1 : -1] / CONFIG.temperature
    shifted = logits - logits.max(dim=1, keepdim=True).values
    return shifted - shifted.exp().sum(dim=1, keepdim=True).log()


def plain_logprobs(distributions: Tensor, response: Response) -> Tensor:
    """(T,) log-probabilities of the response's tokens."""
    return torch.stack([distributions[t, token] for t, token in enumerate(response.ids)])


def plain_values(critic: ValueModel, response: Response) -> Tensor:
    """(T,) values of the states before the response's tokens."""
    start = len(response.prompt_ids)
    hidden = critic.backbone(torch.tensor([response.prompt_ids + response.ids])).last_hidden_state[0, start - 1 : -1]
    return critic.head(hidden)[:, 0]


def plain_whiten(numbers: list[float]) -> list[float]:
    mean = sum(numbers) / len(numbers)
    variance = sum((number - mean) ** 2 for number in numbers) / len(numbers)
    return [(number - mean) / math.sqrt(variance + 1e-8) for number in numbers]


def plain_combined(texts: list[str]) -> list[float]:
    """The safety logit where the prompt is one of safety or sigmoid(safety) is below 0.15, else the helpfulness logit."""
    rows = [TABLE[text] for text in texts]
    return [s if is_safety or 1 / (1 + math.exp(-s)) < 0.15 else h for h, s, is_safety in rows]


def plain_advantages(rewards: list[float], values: list[float]) -> list[float]:
    """A_t is the sum over s >= t of (gamma lambda)^(s - t) (r_s + gamma V_(s+1) - V_s), with V 0 after the end."""
    after = [*values[1:], 0.0]
    errors = [r + CONFIG.gamma * later - v for r, v, later in zip(rewards, values, after, strict=True)]
    decay = CONFIG.gamma * CONFIG.gae_lambda
    return [sum(decay ** (s - t) * errors[s] for s in range(t, len(errors))) for t in range(len(errors))]


@torch.no_grad()
def plain_rollout(
    policy: nn.Module, ref_policy: nn.Module, critic: ValueModel, texts: list[str], responses: list[Response]
) -> Plain:
    scores = plain_combined(texts)
    penalties = [0.0 if response.ids[-1] == EOS_ID else CONFIG.missing_eos_penalty for response in responses]
    final = [score - penalty for score, penalty in zip(plain_whiten(scores), penalties, strict=True)]
    # A sampler writes float32 down, which is the one rounding in all this.
    logprobs = [plain_logprobs(plain_distributions(policy, each), each).float().tolist() for each in responses]
    kl, rewards, values, advantages, returns = [], [], [], [], []
    for response, score, row in zip(responses, final, logprobs, strict=True):
        ref_logprobs = plain_logprobs(plain_distributions(ref_policy, response), response).tolist()
        token_kl = [p - q for p, q in zip(row, ref_logprobs, strict=True)]
        kl.append(sum(token_kl))
        rewards.append([-CONFIG.kl_coef * each for each in token_kl])
        rewards[-1][-1] += score
        values.append(plain_values(critic, response).tolist())
        advantages.append(plain_advantages(rewards[-1], values[-1]))
        returns.append([a + v for a, v in zip(advantages[-1], values[-1], strict=True)])
    whitened = iter(plain_whiten([advantage for row in advantages for advantage in row]))
    advantages = [[next(whitened) for _ in row] for row in advantages]
    return Plain(scores, kl, rewards, advantages, returns, values, logprobs, [], [], [], [], Counter())


def plain_clip(x: Tensor, low: float, high: float) -> Tensor:
    return x if low <= x <= high else x.new_tensor(low if x < low else high)


def plain_losses(
    policy: nn.Module, critic: ValueModel, plain: Plain, responses: list[Response], rows: list[int]
) -> list[Tensor]:
    """Both clipped losses, means over the tokens of ``rows``; notes the diagnostics of the same tokens."""
    policy_terms, value_terms, diagnostics, reach = [], [], [], CONFIG.value_clip_range
    for row in rows:
        distributions, new_values = plain_distributions(policy, responses[row]), plain_values(critic, responses[row])
        new_logprobs = plain_logprobs(distributions, responses[row])
        for t, advantage in enumerate(plain.advantages[row]):
            ratio = (new_logprobs[t] - plain.logprobs[row][t]).exp()
            near_1 = plain_clip(ratio, 1 - CONFIG.clip_range, 1 + CONFIG.clip_range)
            policy_terms.append(-min(ratio * advantage, near_1 * advantage))
            value, goal = plain.values[row][t], plain.returns[row][t]
            near = value + plain_clip(new_values[t] - value, -reach, reach)
            value_terms.append(max((new_values[t] - goal) ** 2, (near - goal) ** 2) / 2)
            plain.clipped.update(ratios=int(near_1 is not ratio), values=int(near != new_values[t]))
            entropy = -sum(math.exp(each) * each for each in distributions[t].tolist())
            diagnostics.append((ratio.item() - 1 - math.log(ratio.item()), float(near_1 is not ratio), entropy))
    plain.diagnostics.append(tuple(sum(column) / len(column) for column in zip(*diagnostics, strict=True)))
    return [torch.stack(terms).sum() / len(terms) for terms in (policy_terms, value_terms)]


def plain_gradients(model: nn.Module, loss: Tensor, plain: Plain) -> list[Tensor]:
    """Gradients, scaled down to ``max_grad_norm`` as torch does it, which adds 1e-6 to the norm."""
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
    plain.clipped.update(gradients=int(norm > CONFIG.max_grad_norm))
    return [gradient * min(1.0, CONFIG.max_grad_norm / (norm + 1e-6)) for gradient in gradients]


class PlainAdamW:
    """Loshchilov and Hutter 2019 (arXiv 1711.05101), Algorithm 2, with torch's decay of learning rate times weight."""

    def __init__(self, model: nn.Module, learning_rate: float):
        self.parameters, self.learning_rate, self.step_count = list(model.parameters()), learning_rate, 0
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, gradients: list[Tensor]) -> None:
        self.step_count += 1
        beta1, beta2 = CONFIG.adam_beta1, CONFIG.adam_beta2
        for i, (parameter, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            self.means[i] = beta1 * self.means[i] + (1 - beta1) * gradient
            self.squares[i] = beta2 * self.squares[i] + (1 - beta2) * gradient**2
            mean = self.means[i] / (1 - beta1**self.step_count)
            square = self.squares[i] / (1 - beta2**self.step_count)
            decayed = parameter * (1 - self.learning_rate * CONFIG.weight_decay)
            parameter.copy_(decayed - self.learning_rate * mean / (square.sqrt() + CONFIG.adam_epsilon))


def plain_update(policy: nn.Module, critic: ValueModel, plain: Plain, responses: list[Response], rng: random.Random) -> None:
    """Four steps: two passes over two minibatches of four responses. Changes both models."""
    optimizers = [PlainAdamW(policy, CONFIG.learning_rate), PlainAdamW(critic, CONFIG.value_learning_rate)]
    for _ in range(2):
        order = rng.sample(range(8), 8)
        for rows in (order[:4], order[4:]):
            losses = plain_losses(policy, critic, plain, responses, rows)
            plain.policy_losses.append(losses[0].item())
            plain.value_losses.append(losses[1].item())
            for model, loss, optimizer in zip((policy, critic), losses, optimizers, strict=True):
                plain.gradients.append(plain_gradients(model, loss, plain))
                optimizer.step(plain.gradients[-1])


def exact(model: Model) -> Model:
    """``model`` in float64 whole: the library computes norms in float32 even in a float64 model."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, LlamaRMSNorm):
                norm = nn.RMSNorm(child.weight.shape, eps=child.variance_epsilon)
                norm.weight = child.weight
                setattr(module, name, norm)
    return model.double()


@dataclass
class Both:
    """The same iteration by ``ppo`` and in plain terms; models are as they are after it."""

    record: Rollout
    stats: PPOStats
    gradients: list[list[Tensor]]
    models: tuple[nn.Module, nn.Module]
    plain: Plain
    plain_models: tuple[nn.Module, nn.Module]


@pytest.fixture(scope="module")
def both() -> Both:
    torch.manual_seed(7)
    policy, ref_policy = exact(talking_policy(seed=5)), exact(tiny_policy(seed=4))
    critic = exact(ValueModel(tiny_policy(seed=3).model, nn.Linear(32, 1, bias=False)))
    plain_models = copy.deepcopy(policy), copy.deepcopy(critic)
    reward = CombinedReward(TableScorer(0), TableScorer(1))

    rng = random.Random(f"{SEED}/1")
    batch = next(prompt_batches(PROMPTS, 8, SEED))
    sampler = TransformersSampler(policy, tiny_tokenizer())
    kl_coef, seed = CONFIG.kl_coef, rng.getrandbits(63)
    record = rollout(sampler, ref_policy, critic, batch, reward, CONFIG, kl_coef=kl_coef, seed=seed, policy=policy)
    gradients: list[list[Tensor]] = []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: gradients.append([p.grad.clone() for p in optimizer.param_groups[0]["params"]])
    )
    stats = next(ppo(policy, ref_policy, critic, tiny_tokenizer(), PROMPTS, reward, CONFIG, SEED))
    hook.remove()

    texts = [prompt.messages[0]["content"] for prompt in batch]
    plain = plain_rollout(plain_models[0], ref_policy, plain_models[1], texts, record.responses)
    plain_update(*plain_models, plain, record.responses, rng)
    return Both(record, stats, gradients, (policy, critic), plain, plain_models)


def assert_rows(found: Tensor, expected: list[list[float]]) -> None:
    for row, numbers in zip(found, expected, strict=True):
        assert row[: len(numbers)].tolist() == pytest.approx(numbers, abs=ATOL, rel=0)


def test_the_iteration_holds_every_case(both: Both) -> None:
    """Lengths differ, one answer alone has no EOS, none is empty; and each of the three clips changes some terms, not all."""
    responses = both.record.responses
    assert len({len(response.ids) for response in responses}) > 3
    assert sum(not response.finished for response in responses) == 1
    assert all(response.text.strip() for response in responses)
    num_terms = 2 * both.stats.num_tokens
    assert 0 < both.plain.clipped["ratios"] < num_terms and 0 < both.plain.clipped["values"] < num_terms
    assert 0 < both.plain.clipped["gradients"] <= 8


def test_scores_and_kl(both: Both) -> None:
    by_hand = [COMBINED[prompt.messages[0]["content"]] for prompt in both.record.prompts]
    assert both.record.scores.combined.tolist() == both.plain.scores == by_hand
    assert both.record.kl.tolist() == pytest.approx(both.plain.kl, abs=ATOL, rel=0)
    assert both.stats.score == pytest.approx(sum(by_hand) / 8, abs=ATOL, rel=0)
    assert both.stats.kl == pytest.approx(sum(both.plain.kl) / 8, abs=ATOL, rel=0)


def test_rewards_advantages_and_returns(both: Both) -> None:
    for name in ("logprobs", "values", "rewards", "advantages", "returns"):
        assert_rows(getattr(both.record, name), getattr(both.plain, name))
    assert both.stats.reward == pytest.approx(sum(map(sum, both.plain.rewards)) / 8, abs=ATOL, rel=0)


def test_losses_and_diagnostics(both: Both) -> None:
    assert both.stats.policy_loss == pytest.approx(sum(both.plain.policy_losses) / 4, abs=ATOL, rel=0)
    assert both.stats.value_loss == pytest.approx(sum(both.plain.value_losses) / 4, abs=ATOL, rel=0)
    found = both.stats.approx_kl, both.stats.clip_fraction, both.stats.entropy
    assert found == pytest.approx([sum(column) / 4 for column in zip(*both.plain.diagnostics, strict=True)], abs=ATOL, rel=0)
    assert both.stats.num_tokens == sum(len(response.ids) for response in both.record.responses)
    assert both.stats.eos_fraction == 7 / 8


def test_gradients_of_every_step(both: Both) -> None:
    assert len(both.gradients) == len(both.plain.gradients) == 8
    for found, expected in zip(both.gradients, both.plain.gradients, strict=True):
        assert max((one - other).abs().max() for one, other in zip(found, expected, strict=True)) < ATOL
        assert max(one.abs().max() for one in found) > 1e-3


def test_all_parameters_after_the_iteration(both: Both) -> None:
    for model, plain_model in zip(both.models, both.plain_models, strict=True):
        for (name, one), other in zip(model.named_parameters(), plain_model.parameters(), strict=True):
            assert (one - other).abs().max() < ATOL, name
