"""AdamW and the learning-rate schedule of every training in the recipe (paper 2.2, 3.1, 3.2.2, 3.2.3).

The paper pretrains with AdamW (beta 0.9 and 0.95, epsilon 1e-5, weight decay 0.1, gradients clipped to norm 1.0), a linear
warm-up and a cosine down to a tenth of the peak (2.2). Fine-tuning has a cosine (3.1), the reward models the optimizer and
schedule of the base model (3.2.2), and PPO the same AdamW at a constant learning rate (3.2.3).

AdamW is torch's, fused, with decoupled weight decay on every trained parameter.
"""

import math

import torch

from policy.config import AdamWConfig, OptimizerConfig


def adamw(model: torch.nn.Module, learning_rate: float, config: AdamWConfig) -> torch.optim.AdamW:
    """AdamW over the parameters of ``model`` that are trained, in the order of ``model.parameters()``."""
    return torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        weight_decay=config.weight_decay,
        fused=True,
    )


def warmup_cosine(
    step: int, peak: float, warmup_steps: int, cosine_start: int, cosine_end: int, final_fraction: float
) -> float:
    """The learning rate of optimizer step ``step`` (from 1): linear warm-up, then a cosine (paper 2.2).

        peak * step / warmup_steps                                  up to step ``warmup_steps``
        peak * (f + (1 - f) * (1 + cos(pi * progress)) / 2)         from there on, with f = ``final_fraction``
        progress = (step - cosine_start) / (cosine_end - cosine_start)

    The rate is the peak at ``cosine_start``, and ``final_fraction`` of it from ``cosine_end`` on.
    """
    if step <= warmup_steps:
        return peak * step / warmup_steps
    progress = min(1.0, (step - cosine_start) / max(1, cosine_end - cosine_start))
    return peak * (final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * progress)) / 2)


def share_of_peak(step: int, num_steps: int, config: OptimizerConfig) -> float:
    """The learning rate of step ``step`` (1..num_steps) of pretraining and fine-tuning, as a share of the peak.

    The first step after the warm-up still has the peak, and the cosine ends one step after the last.
    """
    return warmup_cosine(step, 1.0, config.warmup_steps, config.warmup_steps + 1, num_steps + 1, config.final_lr_fraction)
