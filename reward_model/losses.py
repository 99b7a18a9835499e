"""The losses of the reward models (paper 3.2.2). Pure functions of scores: no model, no device, no averaging.

They return one loss per row; the training loop takes the mean, so that microbatches of any size add up to the same
number. Shapes are checked because broadcasting hides the commonest defect here: scores of shape (B, 1) against margins
of shape (B,) make (B, B) losses that pair every comparison with every margin, train without complaint, and learn badly.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def ranking_loss(chosen: Tensor, rejected: Tensor, margin: Tensor) -> Tensor:
    """Binary ranking loss with a margin, one per comparison.

        L = -log sigmoid(r(x, y_c) - r(x, y_r) - m(rating))        (Eq. 2; Eq. 1 where the margin is 0)

    Computed as softplus(m - (r_c - r_r)), which stays finite for any finite scores.

    Args:
        chosen: (B,) scores of the chosen responses, raw logits.
        rejected: (B,) scores of the rejected responses.
        margin: (B,) m(rating) >= 0 (Table 27).

    Returns: (B,) losses >= 0, in nats.
    Raises: ValueError unless all three are of one shape (B,).
    """
    _check_rows(chosen=chosen, rejected=rejected, margin=margin)
    return softplus(margin - (chosen - rejected))


def safety_loss(scores: Tensor, is_safe: Tensor, is_labelled: Tensor) -> Tensor:
    """Auxiliary safety loss, one per response: binary cross-entropy of the score with the annotator's safety label.

        L = -log sigmoid(s)  where the response is labelled safe
            -log sigmoid(-s) where it is labelled unsafe
            0                where it is not labelled

    The paper names this loss and shows what it gains (Table 29), but prints neither formula nor weight. This formula is
    our reading: it makes the score itself the logit of "safe", which is how the paper then measures the recall of unsafe
    responses (at sigmoid 0.5).

    Args:
        scores: (N,) raw logits.
        is_safe: (N,) bool, or float in {0, 1}; ignored where not labelled.
        is_labelled: (N,) bool. Rows where it is False have loss 0 and no gradient, whatever their score.

    Returns: (N,) losses >= 0, in nats.
    Raises: ValueError unless all three are of one shape (N,).
    """
    _check_rows(scores=scores, is_safe=is_safe, is_labelled=is_labelled)
    logits = scores.masked_fill(~is_labelled, 0.0)
    losses = softplus(torch.where(is_safe.bool(), -logits, logits))
    return losses.masked_fill(~is_labelled, 0.0)


def centring_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Keeps scores around 0, one per comparison: (r(x, y_c) + r(x, y_r))^2 (Eisenstein et al. 2023, section 4).

    The ranking loss does not feel a common shift of all scores, so they can drift. Not in the paper.

    Args: chosen, rejected: (B,) raw logits. Returns: (B,) losses >= 0.
    Raises: ValueError unless both are of one shape (B,).
    """
    _check_rows(chosen=chosen, rejected=rejected)
    return (chosen + rejected).square()


def _check_rows(**tensors: Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ValueError(
            f"one number a row is needed, all of the same shape [B], but the shapes are {listed}; "
            "squeeze the last dimension of [B, 1] scores, for they would broadcast every row against every other"
        )
