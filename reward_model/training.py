"""Training a reward model on comparisons (paper 3.2.2): our own short loop, a generator of typed stats.

    loss = mean over pairs of (ranking_loss + centring_coef * centring_loss)
           + safety_loss_coef * mean over labelled responses of safety_loss (safety axis only)

One optimizer step per batch of pairs; both sides of a pair go through the same forward pass, in which what they have in common,
the prompt above all, is computed once (``policy.shared_prefixes``). AdamW, warm-up and cosine are the base model's, as the
paper says. Batches group pairs of similar length, which keeps padding low; their order is shuffled by the seed. A batch is
cut into microbatches whose losses are summed with the weights of the whole batch, so the cut changes memory and speed
alone. With ``lora`` adapters and the head are trained, and merged at the end.

Left out on purpose: an evaluation inside the loop (``eval/`` measures accuracy on what was held out) and early stopping (the
paper trains one epoch).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from policy.adapters import Factors
from policy.batch import length_grouped_batches
from policy.lora import Adapters
from policy.optimization import adamw, warmup_cosine
from policy.shared_prefixes import lay_out, shared_prefixes
from policy.training_state import States, TrainingState
from preference_data.comparison import Comparison
from reward_model.batch import DropReason, EncodedPair, collate_pairs, encode_pairs
from reward_model.config import RewardModelConfig
from reward_model.losses import centring_loss, ranking_loss, safety_loss
from reward_model.model import row_scores

_NAMED = 5  # comparisons that a message names


class RewardTrainingError(RuntimeError):
    """Training that cannot start or continue."""


class NonFiniteLoss(RewardTrainingError):
    """A loss or gradient that is no finite number. The model is as it was before that step, and its state is saved."""


@dataclass(frozen=True, slots=True)
class RewardStats:
    """One optimizer step, measured on its own batch before the step changed the weights."""

    step: int = field(metadata={"help": "optimizer step, 1..num_steps"})
    num_steps: int = field(metadata={"help": "optimizer steps of the whole run"})
    loss: float = field(metadata={"help": "what is minimised, in nats, >= 0"})
    ranking_loss: float = field(
        metadata={"help": "mean over pairs, with the margin, in nats, >= 0; log 2 at a tie without margin"}
    )
    safety_loss: float | None = field(metadata={"help": "mean over labelled responses, in nats, >= 0; none where not trained"})
    centring_loss: float = field(metadata={"help": "mean over pairs of the squared sum of both scores, >= 0"})
    accuracy: float = field(metadata={"help": "share of pairs with chosen score > rejected score, in [0, 1]; a tie is wrong"})
    accuracy_by_rating: dict[str, float] = field(metadata={"help": "the same for each rating in the batch"})
    accuracy_by_source: dict[str, float] = field(metadata={"help": "the same for each source in the batch"})
    score_mean: float = field(metadata={"help": "mean score of both sides, in logits; the ranking loss leaves it free"})
    score_std: float = field(metadata={"help": "standard deviation of all scores, in logits"})
    overconfidence: float = field(
        metadata={"help": "mean sigmoid(|chosen - rejected|) - accuracy: > 0 where differences promise more than they keep"}
    )
    length_correlation: float | None = field(
        metadata={"help": "of all scores with the tokens of their dialogues, Pearson's, in [-1, 1]; none where one is constant"}
    )
    reward_margin: float = field(metadata={"help": "mean of chosen - rejected score, in logits; rises as training works"})
    learning_rate: float = field(metadata={"help": "of this step"})
    grad_norm: float = field(metadata={"help": "global L2 norm before clipping, >= 0"})
    num_pairs: int = field(metadata={"help": "pairs in this batch"})
    num_tokens: int = field(metadata={"help": "real tokens in this batch, both sides"})
    shared_fraction: float = field(
        metadata={"help": "share of the tokens not computed because another row of the microbatch begins alike, in [0, 1)"}
    )
    padding_fraction: float = field(metadata={"help": "share of attention's positions that were padding, in [0, 1)"})
    dropped: dict[DropReason, int] = field(metadata={"help": "pairs of the whole run that were left out, by reason"})


@dataclass(frozen=True, eq=False, slots=True)
class _Measured:
    """What one microbatch adds to its batch; losses are sums over rows."""

    chosen: Tensor  # (B,)
    rejected: Tensor  # (B,)
    ranking_loss: Tensor  # ()
    centring_loss: Tensor  # ()
    safety_loss: Tensor  # ()
    num_computed: int  # tokens
    num_positions: int  # of attention


def train_reward_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    comparisons: Sequence[Comparison],
    config: RewardModelConfig,
    seed: int,
    states: States | None = None,
    on_merge: Callable[[Factors], object] = lambda factors: None,
) -> Iterator[RewardStats]:
    """Train ``model`` in place, on the device it is on; yield the stats of each optimizer step. The model is ready for use
    when all have been taken.

    ``states``: saved states to resume from, and to save to. ``on_merge`` is called with what the adapters have learnt, where
    there are any.

    Raises RewardTrainingError when no pair can be used, when a margin is asked for and no comparison is rated or the safety
    loss and no response is labelled; NonFiniteLoss, naming the step and the batch; LoraError.
    """
    pairs, dropped = encode_pairs(tokenizer, comparisons, config.margin, config.max_length)
    _check_pairs(pairs, dropped, config)
    lengths = [pair.length for pair in pairs]
    batches = [
        batch for epoch in range(config.epochs) for batch in length_grouped_batches(lengths, config.batch_size, seed + epoch)
    ]
    adapters = Adapters(model, config.lora, seed, trained=["score"]) if config.lora else None
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        optimizer = adamw(model, config.learning_rate, config)
        state = TrainingState(states, {"model": model}, {"optimizer": optimizer}, RewardStats)
        yield from state.restore()
        for step, indices in enumerate(batches[state.step :], start=state.step + 1):
            learning_rate = learning_rate_at(step, len(batches), config)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            model.train()  # each time: the caller may have scored with the model since the last step
            try:
                with shared_prefixes(model):
                    stats = _step(model, optimizer, [pairs[index] for index in indices], config, step, len(batches), dropped)
            except NonFiniteLoss:
                state.keep()
                raise
            yield state.done(stats)
    finally:
        model.eval()
        if config.gradient_checkpointing:
            model.gradient_checkpointing_disable()
        if adapters:
            on_merge(adapters.factors())
            adapters.merge()


def learning_rate_at(step: int, num_steps: int, config: RewardModelConfig) -> float:
    """The learning rate of ``step`` (1..num_steps): linear warm-up, then a cosine to ``final_lr_fraction`` of the peak.

    Warm-up takes max(min_warmup_steps, warmup_fraction * num_steps) steps and reaches the peak on its last (paper 3.2.2);
    the last step of the run has exactly the final rate. A run shorter than its warm-up ends while still rising.
    """
    warmup_steps = max(config.min_warmup_steps, math.ceil(config.warmup_fraction * num_steps))
    return warmup_cosine(step, config.learning_rate, warmup_steps, warmup_steps, num_steps, config.final_lr_fraction)


def _check_pairs(pairs: Sequence[EncodedPair], dropped: dict[DropReason, int], config: RewardModelConfig) -> None:
    if not pairs:
        counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "there were none"
        raise RewardTrainingError(
            f"no comparison is left to train on ({counts}); give comparisons whose two responses differ "
            f"and whose dialogues have at most max_length = {config.max_length} tokens"
        )
    if config.margin != "none" and all(pair.rating == "unrated" for pair in pairs):
        raise RewardTrainingError(
            f"the margin is {config.margin!r}, but none of the {len(pairs)} pairs is rated, so it would be 0 everywhere; give "
            "rated comparisons, or set margin to none"
        )
    if _trains_safety(config) and not any(pair.num_labels for pair in pairs):
        raise RewardTrainingError(
            f"the safety loss has weight {config.safety_loss_coef}, but none of the {len(pairs)} pairs has a safety label; "
            "give labelled comparisons, or set safety_loss_coef to 0"
        )


def _trains_safety(config: RewardModelConfig) -> bool:
    return config.axis == "safety" and config.safety_loss_coef > 0


def _step(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    pairs: list[EncodedPair],
    config: RewardModelConfig,
    step: int,
    num_steps: int,
    dropped: dict[DropReason, int],
) -> RewardStats:
    """One optimizer step on one batch."""
    num_pairs = len(pairs)
    num_labels = sum(pair.num_labels for pair in pairs) if _trains_safety(config) else 0
    safety_weight = config.safety_loss_coef / num_labels if num_labels else 0.0

    optimizer.zero_grad(set_to_none=True)
    measured = _add_gradients(model, pairs, config, safety_weight)
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm).item()

    mean_ranking_loss = sum(part.ranking_loss.item() for part in measured) / num_pairs
    mean_centring_loss = sum(part.centring_loss.item() for part in measured) / num_pairs
    sum_safety_loss = sum(part.safety_loss.item() for part in measured)
    loss = mean_ranking_loss + config.centring_coef * mean_centring_loss + safety_weight * sum_safety_loss
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise NonFiniteLoss(
            f"at step {step} of {num_steps} the loss is {loss} and its gradient norm {grad_norm}. "
            f"{_culprits(pairs, measured)}; "
            f"look at them, lower the learning rate ({config.learning_rate}), or check the model you started from"
        )
    optimizer.step()

    chosen, rejected = (torch.cat([getattr(part, side) for part in measured]) for side in ("chosen", "rejected"))
    gap, scores = chosen - rejected, torch.cat([chosen, rejected])
    lengths = [len(pair.chosen_ids) for pair in pairs] + [len(pair.rejected_ids) for pair in pairs]
    right = (gap > 0).tolist()
    accuracy = sum(right) / num_pairs
    num_tokens = sum(len(pair.chosen_ids) + len(pair.rejected_ids) for pair in pairs)
    return RewardStats(
        step=step,
        num_steps=num_steps,
        loss=loss,
        ranking_loss=mean_ranking_loss,
        safety_loss=sum_safety_loss / num_labels if num_labels else None,
        centring_loss=mean_centring_loss,
        accuracy=accuracy,
        accuracy_by_rating=_shares([pair.rating for pair in pairs], right),
        accuracy_by_source=_shares([pair.source for pair in pairs], right),
        score_mean=scores.mean().item(),
        score_std=scores.std(correction=0).item(),
        overconfidence=gap.abs().sigmoid().mean().item() - accuracy,
        length_correlation=_correlation(scores, torch.tensor(lengths, dtype=scores.dtype, device=scores.device)),
        reward_margin=gap.mean().item(),
        learning_rate=optimizer.param_groups[0]["lr"],
        grad_norm=grad_norm,
        num_pairs=num_pairs,
        num_tokens=num_tokens,
        shared_fraction=1 - sum(part.num_computed for part in measured) / num_tokens,
        padding_fraction=1 - num_tokens / sum(part.num_positions for part in measured),
        dropped=dropped,
    )


def _culprits(pairs: Sequence[EncodedPair], measured: Sequence[_Measured]) -> str:
    """The comparisons of a batch whose scores are no finite numbers, or all of them where every score is one."""
    scores = torch.stack([torch.cat([getattr(part, side) for part in measured]) for side in ("chosen", "rejected")])
    bad = [pair.id for pair, fine in zip(pairs, scores.isfinite().all(dim=0).tolist(), strict=True) if not fine]
    named = bad or [pair.id for pair in pairs]
    listed = ", ".join(named[:_NAMED]) + (f" and {len(named) - _NAMED} more" if named[_NAMED:] else "")
    what = f"{len(bad)} of the batch's {len(pairs)} comparisons have no finite score" if bad else "The batch's comparisons are"
    return f"{what}: {listed}"


def _shares(groups: Sequence[str], right: Sequence[bool]) -> dict[str, float]:
    """The share that is right in each group, in the order of their names."""
    counts = Counter(groups)
    num_right = Counter(group for group, is_right in zip(groups, right, strict=True) if is_right)
    return {group: num_right[group] / counts[group] for group in sorted(counts)}


def _correlation(one: Tensor, other: Tensor) -> float | None:
    """Pearson's correlation of two (N,) tensors; None where one of them is constant."""
    one, other = one - one.mean(), other - other.mean()
    scale = (one.square().sum() * other.square().sum()).sqrt().item()
    return (one * other).sum().item() / scale if scale > 0 else None


def _add_gradients(
    model: PreTrainedModel, pairs: list[EncodedPair], config: RewardModelConfig, safety_weight: float
) -> list[_Measured]:
    """Add the gradients of the loss of a batch, microbatch by microbatch, each with the weights of the whole batch."""
    measured = []
    for start in range(0, len(pairs), config.microbatch_size):
        part = _measure(model, pairs[start : start + config.microbatch_size])
        of_pairs = part.ranking_loss + config.centring_coef * part.centring_loss
        (of_pairs / len(pairs) + safety_weight * part.safety_loss).backward()
        measured.append(part)
    return measured


def _measure(model: PreTrainedModel, pairs: list[EncodedPair]) -> _Measured:
    """Forward pass and summed losses of one microbatch."""
    batch = collate_pairs(pairs).to(model.device)
    layout = lay_out(batch.rows)
    scores = row_scores(model, layout.to(model.device))
    chosen, rejected = scores.chunk(2)
    return _Measured(
        chosen=chosen.detach(),
        rejected=rejected.detach(),
        ranking_loss=ranking_loss(chosen, rejected, batch.margin).sum(),
        centring_loss=centring_loss(chosen, rejected).sum(),
        safety_loss=safety_loss(scores, batch.is_safe, batch.is_labelled).sum(),
        num_computed=layout.ids.numel(),
        num_positions=layout.num_positions,
    )
