"""The KL coefficient and the Lagrange multiplier, iteration by iteration."""

import math
from dataclasses import replace

import pytest
from ppo_fakes import ppo_stats_of

from rlhf.config import LagrangianConfig, PPOConfig
from rlhf.controllers import next_kl_coef, next_multiplier

CONFIG = PPOConfig(batch_size=64, kl_coef=0.1, kl_target=4.0, kl_horizon=1000)


def test_without_a_target_the_coefficient_stays() -> None:
    constant = CONFIG.model_copy(update={"kl_target": None})
    assert next_kl_coef(None, constant) == 0.1
    assert next_kl_coef(ppo_stats_of(kl=100.0, kl_coef=0.1), constant) == 0.1


@pytest.mark.parametrize(
    ("kl", "expected"),
    [(4.0, 0.3), (4.4, 0.3 * (1 + 0.1 * 0.064)), (40.0, 0.3 * (1 + 0.2 * 0.064)), (-1.0, 0.3 * (1 - 0.2 * 0.064))],
)
def test_the_coefficient_is_steered_from_its_last_value_by_a_fifth_at_most(kl: float, expected: float) -> None:
    assert next_kl_coef(None, CONFIG) == 0.1
    assert next_kl_coef(ppo_stats_of(kl=kl, kl_coef=0.3), CONFIG) == pytest.approx(expected, rel=1e-12)


def test_the_multiplier_rises_while_the_cost_is_above_its_limit() -> None:
    config = LagrangianConfig(multiplier=2.0, learning_rate=0.5, highest=5.0, cost_limit=-1.0)
    assert next_multiplier(None, config) == 2.0
    last = ppo_stats_of(lagrange_multiplier=2.0, safety=0.5)  # a cost of -0.5, half a logit above the limit
    assert next_multiplier(last, config) == pytest.approx(2 * math.exp(0.5 * 2 * 0.5), rel=1e-12)
    assert next_multiplier(replace(last, safety=1.0), config) == pytest.approx(2.0, rel=1e-12)
    assert next_multiplier(replace(last, safety=3.0), config) == pytest.approx(2 * math.exp(-2), rel=1e-12)
    assert next_multiplier(replace(last, safety=-9.0), config) == 5.0
    assert next_multiplier(replace(last, safety=-1e9), config) == 5.0
