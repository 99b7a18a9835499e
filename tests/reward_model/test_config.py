import re
from pathlib import Path

import pytest
from pydantic import ValidationError

import policy.optimization
import reward_model.config
from reward_model.config import RewardModelConfig

SOURCES = [path.read_text() for path in Path(reward_model.config.__file__).parent.glob("*.py") if path.name != "config.py"]
SOURCES.append(Path(policy.optimization.__file__).read_text())


@pytest.mark.parametrize("name", RewardModelConfig.model_fields)
def test_every_field_is_described_and_read_somewhere(name):
    assert RewardModelConfig.model_fields[name].description
    assert any(re.search(rf"\bconfig\.{name}\b", source) for source in SOURCES)


def test_defaults_are_the_papers():
    config = RewardModelConfig(axis="safety")
    assert (config.learning_rate, config.epochs, config.batch_size) == (1e-5, 1, 512)
    assert (config.adam_beta1, config.adam_beta2, config.adam_epsilon, config.weight_decay) == (0.9, 0.95, 1e-5, 0.1)
    assert (config.warmup_fraction, config.min_warmup_steps, config.final_lr_fraction) == (0.03, 5, 0.1)
    assert config.max_grad_norm == 1.0


def test_unknown_keys_and_wrong_values_are_errors():
    with pytest.raises(ValidationError, match="Extra inputs"):
        RewardModelConfig(axis="safety", margins="small")
    with pytest.raises(ValidationError, match="margin"):
        RewardModelConfig(axis="safety", margin="huge")
    with pytest.raises(ValidationError, match="frozen"):
        RewardModelConfig(axis="safety").epochs = 2


def test_a_table_of_margins_is_whole_and_not_below_zero():
    table = {"significantly_better": 3, "better": 2, "slightly_better": 1, "negligibly_better": 0}
    assert RewardModelConfig(axis="safety", margin=table).margin == table
    for wrong in ({"better": 1.0}, table | {"better": -1}):
        with pytest.raises(
            ValidationError, match="a table of margins holds a number from 0 up for each of significantly_better"
        ):
            RewardModelConfig(axis="safety", margin=wrong)
