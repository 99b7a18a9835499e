"""The paper's combined reward: one score from the helpfulness and the safety model (paper 3.2.3).

    R_c(g | p) = R_s(g | p)    if is_safety(p) or R_s(g | p) < 0.15
                 R_h(g | p)    otherwise

``is_safety(p)`` holds for prompts tagged as potentially eliciting unsafe answers; 0.15 was chosen for a precision of 0.89
and a recall of 0.55 on unsafe responses of the paper's test set.

Our reading: R is the score after the sigmoid, since 0.15 is a threshold on (0, 1), and PPO then whitens
``logit(R_c)``. As ``logit(sigmoid(x))`` is ``x``, and computing it loses precision at both ends (in float32 it is infinite
from about 17 on), only the comparison goes through the sigmoid and the raw logits pass as they are. Whitening is PPO's part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from preference_data.messages import Messages
from reward_model.scoring import Scorer


@dataclass(frozen=True, eq=False, slots=True)
class Scores:
    """Scores of N dialogues, each (N,) float32 raw logits."""

    helpfulness: Tensor
    safety: Tensor
    combined: Tensor


def combined_score(helpfulness: Tensor, safety: Tensor, is_safety: Tensor, threshold: float = 0.15) -> Tensor:
    """R_c as raw logits: safety where is_safety or sigmoid(safety) < threshold, else helpfulness (paper 3.2.3).

    Args:
        helpfulness, safety: (N,) raw logits.
        is_safety: (N,) bool, of the prompts.
        threshold: on the sigmoid of the safety score, in (0, 1).

    Returns: (N,) raw logits.
    Raises: ValueError for unequal shapes, and for NaN scores, which would pass as safe.
    """
    shapes = [list(tensor.shape) for tensor in (helpfulness, safety, is_safety)]
    if len(helpfulness.shape) != 1 or shapes[1:] != shapes[:-1]:
        raise ValueError(
            f"helpfulness {shapes[0]}, safety {shapes[1]} and is_safety {shapes[2]} must all be of one shape [N]; "
            "give one entry a dialogue"
        )
    if helpfulness.isnan().any() or safety.isnan().any():
        raise ValueError(
            "a score is NaN, and NaN is never below the threshold, so it would pass as safe; check the reward models"
        )
    return torch.where(is_safety | (torch.sigmoid(safety) < threshold), safety, helpfulness)


class CombinedReward:
    """Two scorers and the rule between them."""

    def __init__(self, helpfulness: Scorer, safety: Scorer, threshold: float = 0.15):
        self.helpfulness = helpfulness
        self.safety = safety
        self.threshold = threshold

    def score(self, dialogues: Sequence[Messages], is_safety: Sequence[bool]) -> Scores:
        """Score dialogues; ``is_safety``: whether the prompt of each is a safety prompt.

        Both models score every dialogue, so that each component can be logged.
        """
        helpfulness, safety = self.helpfulness.score(dialogues), self.safety.score(dialogues)
        flags = torch.tensor(list(is_safety), dtype=torch.bool)
        return Scores(helpfulness, safety, combined_score(helpfulness, safety, flags, self.threshold))
