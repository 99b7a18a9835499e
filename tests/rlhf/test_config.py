"""Stage settings: the paper's numbers, and sizes that must divide."""

import pytest
from pydantic import ValidationError

from rlhf.config import DistillationConfig, PPOConfig, RejectionSamplingConfig


def test_the_defaults_are_the_papers_where_it_gives_a_number() -> None:
    config = PPOConfig()
    assert (config.batch_size, config.minibatch_size, config.ppo_epochs) == (512, 64, 1)
    assert (config.learning_rate, config.clip_range, config.kl_coef) == (1e-6, 0.2, 0.01)
    assert (config.adam_beta1, config.adam_beta2, config.adam_epsilon) == (0.9, 0.95, 1e-5)
    assert (config.weight_decay, config.max_grad_norm, config.safety_threshold) == (0.1, 1.0, 0.15)


def test_sizes_that_do_not_divide_are_all_named_with_a_way_out() -> None:
    with pytest.raises(ValidationError) as caught:
        PPOConfig(batch_size=100, minibatch_size=64, microbatch_size=24)
    message = str(caught.value)
    assert "batch_size 100 is not a multiple of minibatch_size 64: take minibatch_size 50 or batch_size 128" in message
    assert "minibatch_size 64 is not a multiple of microbatch_size 24: take microbatch_size 16 or minibatch_size 72" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": {"patience": 2}}, "patience is 2 validations, and every is 0"),
        ({"kl_coef": 0, "kl_target": 5}, "kl_coef is 0 and is multiplied to reach kl_target 5"),
        ({"kl_target": 5, "kl_horizon": 100}, "kl_horizon 100 is too short for batch_size 512"),
        ({"lora": {"dropout": 0.1}}, "lora.dropout is 0.1, and PPO trains without dropout"),
        ({"reward": "my rewards:score"}, "reward is 'my rewards:score'; give combined, sum"),
        ({"batch_size": 32}, "take minibatch_size 32 or batch_size 64"),
        ({"top_p": 0.9}, "Extra inputs"),
    ],
)
def test_settings_of_ppo_that_cannot_work_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PPOConfig.model_validate(changes)


@pytest.mark.parametrize("config", [PPOConfig, RejectionSamplingConfig, DistillationConfig])
def test_unknown_settings_are_refused_and_every_field_is_described(config: type) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        config(nucleus=5)
    assert all(field.description for field in config.model_fields.values())


def test_the_grid_of_temperatures_is_the_papers() -> None:
    assert RejectionSamplingConfig().temperatures == (0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
    assert RejectionSamplingConfig().searches and not RejectionSamplingConfig(temperatures=(1.3,)).searches


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"k": 0}, "k is 0, the number of responses to each prompt; give 1 or more"),
        ({"k": -3}, "k is -3, the number"),
        ({"temperatures": ()}, "there is no temperature to sample at; give one, or several to choose from"),
        ({"temperatures": (1.0, 0.0)}, "a temperature is 0.0, and each is above 0 and finite: at 0 all responses"),
        ({"temperatures": (-0.5,)}, "a temperature is -0.5, and each is above 0"),
        ({"temperatures": (float("nan"),)}, "a temperature is nan, and each is above 0"),
        ({"temperatures": (float("inf"),)}, "a temperature is inf, and each is above 0"),
        ({"search_prompts": 0}, "greater than 0"),
    ],
)
def test_what_cannot_be_sampled_is_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RejectionSamplingConfig(**settings)
