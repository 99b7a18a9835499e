"""Stage settings: the paper's numbers, and sizes that must divide."""

import pytest
from pydantic import ValidationError

from rlhf.config import DistillationConfig, PPOConfig, RejectionSamplingConfig


def test_the_defaults_are_the_papers_where_it_gives_a_number() -> None:
    config = PPOConfig()
    assert (config.batch_size, config.minibatch_size, config.steps_per_iteration) == (512, 64, 8)
    assert (config.learning_rate, config.clip_range, config.kl_coef) == (1e-6, 0.2, 0.01)
    assert (config.adam_beta1, config.adam_beta2, config.adam_epsilon) == (0.9, 0.95, 1e-5)
    assert (config.weight_decay, config.max_grad_norm, config.safety_threshold) == (0.1, 1.0, 0.15)


def test_sizes_that_do_not_divide_are_all_named_with_a_way_out() -> None:
    with pytest.raises(ValidationError) as caught:
        PPOConfig(batch_size=100, minibatch_size=64, microbatch_size=24)
    message = str(caught.value)
    assert "batch_size 100 is not a multiple of minibatch_size 64: take minibatch_size 50 or batch_size 128" in message
    assert "minibatch_size 64 is not a multiple of microbatch_size 24: take microbatch_size 16 or minibatch_size 72" in message


def test_a_minibatch_larger_than_the_batch_is_refused() -> None:
    with pytest.raises(ValidationError, match="take minibatch_size 32 or batch_size 64"):
        PPOConfig(batch_size=32)


@pytest.mark.parametrize("config", [PPOConfig, RejectionSamplingConfig, DistillationConfig])
def test_unknown_settings_are_refused_and_every_field_is_described(config: type) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        config(top_k=5)
    assert all(field.description for field in config.model_fields.values())


def test_ppo_knows_no_nucleus() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        PPOConfig(top_p=0.9)
