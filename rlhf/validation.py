"""Held-out prompts answered while PPO trains: which weights to keep, and when to stop (paper 3.2.3, "early stopping").

Every ``every`` iterations, and once before the first, the policy answers the same prompts with the same seed, under the
settings it is trained with, and the reward that it is trained on scores the answers. The rule: the best weights are those with
the highest mean score, of equal ones the earlier. An answer without text counts as the lowest of its validation and the first
one, and with a Lagrangian reward safety weighs the same in all. The answers are kept, so that people, gold or a reward
model that took no part in training can judge afterwards whether the best by the reward is better.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import nn
from transformers import PreTrainedModel

from policy.generation import Sampler
from preference_data.prompt import Prompt
from reward_model.combined_reward import Scores
from reward_model.responses import ResponseScores, filled, score_responses
from reward_model.reward_rules import LagrangianReward, Reward
from rlhf.config import PPOConfig
from rlhf.processes import Processes
from rlhf.rollout import PPOError, logprobs_under, respond


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to a held-out prompt; scores are raw logits.

    ``num_tokens``: EOS included. ``finished``: EOS was sampled. ``kl``: log pi - log pi_0 of the response, in nats.
    """

    prompt_id: str
    response: str
    num_tokens: int
    finished: bool
    kl: float
    helpfulness: float
    safety: float
    combined: float


@dataclass(frozen=True, slots=True)
class Validation:
    """The policy as it was after ``iteration`` iterations, on prompts it is not trained on."""

    iteration: int = field(metadata={"help": "iterations done, 0..iterations"})
    score: float = field(metadata={"help": "mean combined score, raw logit; what the best weights are chosen by"})
    helpfulness: float = field(metadata={"help": "mean helpfulness score, raw logit"})
    safety: float = field(metadata={"help": "mean safety score, raw logit"})
    kl: float = field(metadata={"help": "policy from ref_policy, nats per response, estimator k1; >= 0 in expectation"})
    response_length: float = field(metadata={"help": "mean tokens per response, EOS included, >= 1"})
    eos_fraction: float = field(metadata={"help": "share of responses that end with EOS, in [0, 1]"})
    empty_fraction: float = field(metadata={"help": "share of responses without text, in [0, 1]"})
    answers: tuple[Answer, ...] = field(metadata={"help": "one a prompt"})


@torch.no_grad()
def validate(
    iteration: int,
    sampler: Sampler,
    ref_policy: PreTrainedModel,
    prompts: Sequence[Prompt],
    reward: Reward,
    config: PPOConfig,
    seed: int,
    processes: Processes = Processes(),
    first: Validation | None = None,
) -> Validation:
    """One response to each of ``prompts``, scored; ``first``: the validation before training. Raises ContextOverflow."""
    own = processes.share(prompts)
    responses = respond(sampler, own, config, seed)
    scores = score_responses(own, responses, reward)
    kl = [
        sum(response.logprobs) - logprobs.sum().item()
        for response, logprobs in zip(responses, logprobs_under(ref_policy, responses, config), strict=True)
    ]
    responses, kl = processes.gathered(responses), processes.gathered(kl)
    filled_scores = _filled(processes.gathered(scores), first)
    axes = (filled_scores.helpfulness, filled_scores.safety, filled_scores.combined)
    return Validation(
        iteration=iteration,
        score=filled_scores.combined.double().mean().item(),
        helpfulness=filled_scores.helpfulness.double().mean().item(),
        safety=filled_scores.safety.double().mean().item(),
        kl=fmean(kl),
        response_length=fmean(len(response.ids) for response in responses),
        eos_fraction=fmean(response.finished for response in responses),
        empty_fraction=fmean(not response.text.strip() for response in responses),
        answers=tuple(
            Answer(prompt.id, response.text, len(response.ids), response.finished, *kl_and_scores)
            for prompt, response, *kl_and_scores in zip(prompts, responses, kl, *(part.tolist() for part in axes), strict=True)
        ),
    )


def _filled(scores: Sequence[ResponseScores | None], first: Validation | None) -> Scores:
    """As ``filled``, with the answers of the first validation among those of which the lowest is taken."""
    before = [(answer.helpfulness, answer.safety, answer.combined) for answer in first.answers] if first else []
    together = filled([*scores, *before])
    return Scores(*(part[: len(scores)] for part in (together.helpfulness, together.safety, together.combined)))


def best_validation(validations: Sequence[Validation]) -> Validation:
    """The one with the highest mean score; of equal ones the earliest. There is one at least."""
    return max(validations, key=lambda validation: (validation.score, -validation.iteration))


class Validator:
    """Validations of ``policy`` while it is trained; ``best`` holds its weights at the best one."""

    def __init__(
        self,
        policy: PreTrainedModel,
        ref_policy: PreTrainedModel,
        sampler: Sampler,
        prompts: Sequence[Prompt],
        reward: Reward,
        config: PPOConfig,
        seed: int,
        processes: Processes = Processes(),
    ):
        every = config.validation.every
        if every and not prompts:
            raise PPOError(
                f"a validation every {every} iterations was asked for, and there are no held-out prompts; "
                "give heldout_prompts, or set validation.every to 0"
            )
        self.policy, self.config = policy, config
        self.best = KeptWeights(policy if every else nn.Module())
        self._due = {0, config.iterations, *range(0, config.iterations, every)} if every else set()
        self._seed = random.Random(f"{seed}/validation").getrandbits(63)
        self._reward, self._processes = reward, processes
        self._inputs = (sampler, ref_policy, prompts, reward, config)

    def after(self, iteration: int, before: Sequence[Validation]) -> tuple[Validation, ...]:
        """The validation after ``iteration`` iterations, where one is due; ``before``: all earlier ones."""
        if iteration not in self._due:
            return ()
        if isinstance(self._reward, LagrangianReward):
            self._reward.multiplier = self.config.lagrangian.multiplier
        validation = validate(iteration, *self._inputs, self._seed, self._processes, before[0] if before else None)
        if best_validation([*before, validation]) is validation:
            self.best.keep(self.policy)
        return (validation,)

    def stalled(self, validations: Sequence[Validation]) -> bool:
        """Are the last ``patience`` validations no better than the best before them?"""
        patience = self.config.validation.patience
        if patience is None or not validations:
            return False
        return len(validations) - 1 - validations.index(best_validation(validations)) >= patience

    def finish(self) -> None:
        """Give the policy the weights of the best validation, where there were validations."""
        if self._due:
            self.best.put_back(self.policy)


class KeptWeights(nn.Module):
    """A copy of the trained weights of a module, on the CPU. It is a module itself, so that a saved state holds it."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.weights = nn.ParameterList(parameter.detach().cpu().clone() for parameter in _trained(module))

    @torch.no_grad()
    def keep(self, module: nn.Module) -> None:
        """Copy the trained weights of ``module``."""
        for kept, parameter in zip(self.weights, _trained(module), strict=True):
            kept.copy_(parameter)

    @torch.no_grad()
    def put_back(self, module: nn.Module) -> None:
        """Give ``module`` the weights kept."""
        for kept, parameter in zip(self.weights, _trained(module), strict=True):
            parameter.copy_(kept)


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
