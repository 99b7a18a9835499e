"""What PPO steers between iterations: the KL coefficient and the Lagrange multiplier, each from the last iteration's stats.

Both are functions of the stats alone, so a run that resumes from a saved state is steered as if it had not stopped.
"""

import math

from rlhf.config import LagrangianConfig, PPOConfig
from rlhf.ppo_stats import PPOStats


def next_kl_coef(last: PPOStats | None, config: PPOConfig) -> float:
    """The KL coefficient of the iteration after ``last``; ``config.kl_coef`` in the first, and always without a target.

        kl_coef * (1 + e * batch_size / kl_horizon),     e = (kl / kl_target - 1) cut to [-0.2, 0.2]

    (Ziegler et al. 2019, arXiv 1909.08593, section 2.2). ``kl`` is in nats per response.
    """
    if last is None:
        return config.kl_coef
    if config.kl_target is None:
        return last.kl_coef
    error = min(max(last.kl / config.kl_target - 1, -0.2), 0.2)
    return last.kl_coef * (1 + error * config.batch_size / config.kl_horizon)


def next_multiplier(last: PPOStats | None, config: LagrangianConfig) -> float:
    """lambda of the iteration after ``last``; ``config.multiplier`` in the first.

        log lambda + learning_rate * lambda * (mean cost - cost_limit),     cost = - safety score

    a step of gradient ascent on log lambda, held at ``highest`` (Dai et al. 2023, arXiv 2310.12773, section 3.3 and appendix).
    """
    if last is None or last.lagrange_multiplier is None:
        return config.multiplier
    excess = -last.safety - config.cost_limit
    step = config.learning_rate * last.lagrange_multiplier * excess
    room = math.log(config.highest / last.lagrange_multiplier)
    return config.highest if step >= room else last.lagrange_multiplier * math.exp(step)
