"""Rewards other than the paper's, by name: what PPO is trained to raise.

    combined       the paper's rule (``reward_model/combined_reward.py``)
    sum            helpfulness + safety
    helpfulness    the helpfulness score alone
    safety         the safety score alone
    lagrangian     (helpfulness + lambda * safety) / (1 + lambda), where lambda is steered (``rlhf/controllers.py``)
    module:name    a function of the user's own: dialogues in, one number each out

Whatever the rule, both models score every dialogue, so that their scores can be logged beside the combined one.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from preference_data.messages import Messages
from reward_model.combined_reward import CombinedReward, Scores
from reward_model.scoring import Scorer

Rule = Callable[[Sequence[Messages], Tensor, Tensor], Tensor]  # dialogues, helpfulness (N,), safety (N,) -> (N,)
OwnFunction = Callable[[Sequence[Messages]], Sequence[float]]


class RewardError(ValueError):
    """A reward that cannot be imported, or that does not give one finite number a dialogue."""


class Reward(Protocol):
    """What PPO raises: ``Scores.combined`` (N,) of N dialogues; ``is_safety``: does the prompt of each have the safety tag?"""

    def score(self, dialogues: Sequence[Messages], is_safety: Sequence[bool]) -> Scores: ...


@dataclass(frozen=True)
class RuledReward:
    """Two scorers and a rule that ignores tags."""

    helpfulness: Scorer
    safety: Scorer
    rule: Rule

    def score(self, dialogues: Sequence[Messages], is_safety: Sequence[bool]) -> Scores:
        helpfulness, safety = self.helpfulness.score(dialogues), self.safety.score(dialogues)
        return Scores(helpfulness, safety, self.rule(dialogues, helpfulness, safety))


@dataclass
class LagrangianReward:
    """(helpfulness + multiplier * safety) / (1 + multiplier): Dai et al. 2023, with minus the safety score as the cost.

    ``multiplier`` is set by PPO before each iteration.
    """

    helpfulness: Scorer
    safety: Scorer
    multiplier: float

    def score(self, dialogues: Sequence[Messages], is_safety: Sequence[bool]) -> Scores:
        helpfulness, safety = self.helpfulness.score(dialogues), self.safety.score(dialogues)
        return Scores(helpfulness, safety, (helpfulness + self.multiplier * safety) / (1 + self.multiplier))


def reward_named(name: str, helpfulness: Scorer, safety: Scorer, threshold: float, multiplier: float) -> Reward:
    """The reward of that name. ``threshold`` is the paper's rule's, ``multiplier`` the Lagrangian's first.

    Raises RewardError for a function that cannot be imported.
    """
    match name:
        case "combined":
            return CombinedReward(helpfulness, safety, threshold)
        case "lagrangian":
            return LagrangianReward(helpfulness, safety, multiplier)
        case "sum":
            return RuledReward(helpfulness, safety, lambda dialogues, helpful, safe: helpful + safe)
        case "helpfulness":
            return RuledReward(helpfulness, safety, lambda dialogues, helpful, safe: helpful)
        case "safety":
            return RuledReward(helpfulness, safety, lambda dialogues, helpful, safe: safe)
        case _:
            function = _imported(name)
            return RuledReward(helpfulness, safety, lambda dialogues, *_: own_scores(name, function, dialogues))


def own_scores(name: str, function: OwnFunction, dialogues: Sequence[Messages]) -> Tensor:
    """(N,) float32: the scores that the user's own function gives ``dialogues``.

    Raises RewardError for another count of numbers, and for numbers that are not finite.
    """
    returned = function(dialogues)
    try:
        scores = torch.as_tensor(returned, dtype=torch.float32).cpu()
    except (TypeError, ValueError) as error:
        raise RewardError(
            f"the reward {name} was given {len(dialogues)} dialogues and returned a {type(returned).__name__} that is no list "
            f"of numbers ({error}); return one number a dialogue"
        ) from error
    if scores.shape != (len(dialogues),):
        raise RewardError(
            f"the reward {name} was given {len(dialogues)} dialogues and returned numbers of shape {list(scores.shape)}; "
            "return one number a dialogue, in their order"
        )
    if not scores.isfinite().all():
        first = int((~scores.isfinite()).nonzero()[0])
        raise RewardError(
            f"the reward {name} returned {scores[first].item()} for {int((~scores.isfinite()).sum())} of {len(dialogues)} "
            f"dialogues, first for number {first}: {dialogues[first][-1]['content'][:80]!r}; return a finite number for each"
        )
    return scores


def _imported(name: str) -> OwnFunction:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RewardError(
            f"the reward {name} cannot be imported: {error}; give package.module:function, of a module that Python finds "
            "(PYTHONPATH=. for this folder)"
        ) from error
    if not callable(function):
        raise RewardError(f"the reward {name} is a {type(function).__name__}, and a function of dialogues was asked for")
    return function
