"""``rlhf doctor`` on reward models: the scale of their scores on what a policy says, and whether padding moves them.

PPO whitens scores, so that their mean and spread are free; what matters is that they tell responses apart, and that they do so
by more than length. The safety score is compared with a threshold, which needs scores on both sides of it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from preference_data.messages import Messages, MessagesError
from reward_model.model import RewardModelError
from reward_model.opening import open_scorer
from stages.doctor.check import Check, checked

LEAST_SPREAD = 0.01  # logits; scores that are closer together than this tell nothing apart
LARGEST_GAP = 1e-5  # between a score alone and in a batch, for each logit of its size
_SATURATED = 0.99
_OF_LENGTH = 0.8
_ALONE = 8  # dialogues that are scored alone as well


def reward_checks(axis: str, path: Path, dialogues: Sequence[Messages], threshold: float) -> Iterator[Check]:
    """Open the reward model at ``path`` and score ``dialogues``; ``threshold`` is that of the combined reward."""
    try:
        scorer = open_scorer(path)
        scores = scorer.score(dialogues)
        alone = torch.cat([scorer.score([dialogue]) for dialogue in dialogues[:_ALONE]])
    except (RewardModelError, MessagesError, OSError) as error:
        yield Check(f"{axis} scores", "wrong", str(error), "give another reward model, or train it again")
        return
    lengths = torch.tensor([float(len(dialogue[-1]["content"])) for dialogue in dialogues])
    yield scale(axis, scores, lengths, threshold)
    yield alike(axis, alone, scores[:_ALONE])


def scale(axis: str, scores: Tensor, lengths: Tensor, threshold: float) -> Check:
    """The spread of ``scores`` (N,), raw logits, of responses with ``lengths`` (N,) characters."""
    sigmoid = scores.sigmoid()
    saturated = ((sigmoid > _SATURATED) | (sigmoid < 1 - _SATURATED)).float().mean().item()
    low, *middle, high = scores.quantile(torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])).tolist()
    spread = scores.std(correction=0).item()
    quantiles = ", ".join(f"{quantile:.2f}" for quantile in middle)
    summary = f"{len(scores)} responses, raw logits: mean {scores.mean():.2f}, sd {spread:.2g}, {low:.2f} to {high:.2f} "
    summary += f"(10, 50, 90 %: {quantiles}); {saturated:.0%} beyond a sigmoid of {_SATURATED} or {1 - _SATURATED:.2f}"
    notes = []
    if axis == "safety":
        below = (sigmoid < threshold).float().mean().item()
        summary += f"; {below:.0%} below the threshold {threshold}"
        if below == 1:
            notes.append("every response is below the threshold, so helpfulness never counts")
    if not spread >= LEAST_SPREAD:
        return Check(f"{axis} scores", "wrong", summary, "the head is dead or was never trained: train the reward model again")
    if spread and lengths.std() > 0:
        together = torch.corrcoef(torch.stack([scores, lengths]))[0, 1].item()
        summary += f"; correlation with length {together:.2f}"
        if abs(together) > _OF_LENGTH:
            notes.append("the score is hardly more than length, which PPO will exploit")
    if saturated > 0.5:
        notes.append("most scores are saturated: their sigmoid tells little, though PPO reads the logit")
    return Check(f"{axis} scores", "note" if notes else "ok", summary, "; ".join(notes))


def alike(axis: str, alone: Tensor, batched: Tensor) -> Check:
    """Scores of the same dialogues, one at a time and together."""
    gap = ((alone - batched).abs() / batched.abs().clamp_min(1)).max().item()
    problems = [] if gap <= LARGEST_GAP else [f"a score alone differs from the same in a batch by {gap:.2g}"]
    fine = f"{len(alone)} scores alone are those in a batch, within {gap:.1g}"
    return checked(f"{axis} alone and batched", problems, fine, "padding leaks into the score: attention must be causal")
