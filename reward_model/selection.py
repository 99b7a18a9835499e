"""Best of K: which response of each prompt rejection sampling keeps (paper 3.2.3, "Rejection Sampling fine-tuning")."""

import torch
from torch import Tensor


def best_of_k(scores: Tensor, eligible: Tensor) -> list[int | None]:
    """Of each prompt, the position of its eligible response with the highest score.

    Args:
        scores: (P, K) scores of K responses to each of P prompts; those of ineligible responses may be anything.
        eligible: (P, K) bool: responses that may become a training target.

    Returns: P positions in 0..K-1; the first on a tie (the paper does not say; ours), None where no response is eligible.
    Raises: ValueError for shapes that are not one (P, K), and for an eligible score that is not finite.
    """
    if scores.ndim != 2 or scores.shape != eligible.shape:
        raise ValueError(f"scores {list(scores.shape)} and eligible {list(eligible.shape)} must both be of one shape [P, K]")
    if (~scores.isfinite() & eligible).any():
        raise ValueError(
            "the score of an eligible response is no finite number, so no best can be named; check the reward models"
        )
    if scores.shape[1] == 0:
        return [None] * len(scores)
    # argmax returns the first of equal maxima.
    best = scores.masked_fill(~eligible, -torch.inf).argmax(dim=1).tolist()
    return [
        position if row_eligible else None for position, row_eligible in zip(best, eligible.any(dim=1).tolist(), strict=True)
    ]
