"""Every function that opens a model puts it where the stage said. The device "meta" is there on every machine."""

from pathlib import Path

import pytest
from external_models import make, publish
from fakes import tiny_policy, tiny_tokenizer

from policy.checkpoint import load_policy, save_checkpoint
from policy.placement import NoSuchDevice, check_device, device, on_device
from reward_model.external_checkpoint import load_external
from reward_model.model import build_reward_model, load_reward_model


def test_models_are_opened_on_the_device_in_use(tmp_path: Path) -> None:
    save_checkpoint(tiny_policy(), tiny_tokenizer(), tmp_path / "policy")
    model, tokenizer = build_reward_model(tmp_path / "policy", 0)
    save_checkpoint(model, tokenizer, tmp_path / "reward")
    external = publish(tmp_path / "external", *make("qwen2"))
    with on_device("meta"):
        opened = [load_policy(tmp_path / "policy")[0], load_reward_model(tmp_path / "reward")[0]]
        opened += [build_reward_model(tmp_path / "policy", 0)[0], load_external(external)[0]]
    for model in opened:
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert load_policy(tmp_path / "policy")[0].device.type == device() == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:one", "mps", ""])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(NoSuchDevice, match="give cpu, cuda, or one of several"):
        check_device(name)


def test_a_device_that_is_not_here_is_refused() -> None:
    check_device("cpu")
    with pytest.raises(NoSuchDevice, match=r"cuda:99 was asked for, and torch .* finds .* CUDA devices here.*--device cpu"):
        check_device("cuda:99")
