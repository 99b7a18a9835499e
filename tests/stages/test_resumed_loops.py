"""Every training loop, stopped after some step and started again, ends with the same weights and tells the same story."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import ConstantScorer, LengthScorer, make_prompts, tiny_policy, tiny_tokenizer
from stopped_runs import Killed
from transformers import LlamaForSequenceClassification

from policy.config import FinetuneConfig, PretrainConfig
from policy.finetuning import finetune
from policy.pretraining import batches, pretrain
from preference_data.comparison import Comparison
from preference_data.messages import assistant, user
from preference_data.prompt import Document, make_dialogue
from registry.saved_states import SavedStates, SaveEvery
from reward_model.combined_reward import CombinedReward
from reward_model.config import RewardModelConfig
from reward_model.training import train_reward_model
from rlhf.config import PPOConfig
from rlhf.ppo import ppo
from rlhf.value_model import ValueModel

WORDS = ["fox", "owl", "plum", "sea", "pot", "Sure", "Napoleon"]


def pretraining(states: SavedStates | None) -> tuple[list[torch.nn.Module], Iterator[Any]]:
    shapes = [{"num_tokens": 256, "block_size": 16}]
    config = PretrainConfig(preset="micro", vocab_size=450, phases=shapes, batch_tokens=32, warmup_steps=2)
    data = batches(tiny_tokenizer(), {"corpus": [Document(" ".join(WORDS), None)]}, config)
    model = tiny_policy()
    return [model], pretrain(model, data, config, states)


def reward_training(states: SavedStates | None) -> tuple[list[torch.nn.Module], Iterator[Any]]:
    trunk = tiny_policy()
    trunk.config.num_labels = 1
    torch.manual_seed(1)
    model = LlamaForSequenceClassification(trunk.config)
    comparisons = [
        Comparison(
            id="", item_id="", prompt_id="", source="", prompt=[user(f"{word}?")], chosen=f"{word}, {word}", rejected="no",
            rating="better", axis="safety", is_safety=True, chosen_safe=True, rejected_safe=False,
        )
        for word in WORDS
    ]  # fmt: skip
    config = RewardModelConfig(axis="safety", learning_rate=1e-2, batch_size=2, microbatch_size=2, epochs=2)
    return [model], train_reward_model(model, tiny_tokenizer(), comparisons, config, 0, states)


def ppo_training(states: SavedStates | None) -> tuple[list[torch.nn.Module], Iterator[Any]]:
    policy, reference = tiny_policy(), tiny_policy()
    torch.manual_seed(7)
    value_model = ValueModel(tiny_policy(3).model, torch.nn.Linear(32, 1, bias=False))
    prompts = make_prompts(WORDS)
    config = PPOConfig(
        iterations=5, batch_size=4, minibatch_size=2, microbatch_size=2, max_new_tokens=5, learning_rate=1e-3,
        value_learning_rate=1e-3,
    )  # fmt: skip
    reward = CombinedReward(LengthScorer(), ConstantScorer(5.0))
    return [policy, value_model], ppo(policy, reference, value_model, tiny_tokenizer(), prompts, reward, config, 0, states)


def finetuning(states: SavedStates | None) -> tuple[list[torch.nn.Module], Iterator[Any]]:
    model = tiny_policy()
    dialogues = [make_dialogue([user(f"{word}?"), assistant(f"{word} it is")], family="fact", source="test") for word in WORDS]
    config = FinetuneConfig(learning_rate=1e-2, batch_size=3, epochs=2)

    def run() -> Iterator[Any]:
        # the trainer calls back: what it told is handed on when it is done, or when it was stopped
        told: list[Any] = []
        finetune(model, tiny_tokenizer(), dialogues, config, 0, lambda stats: told.append(stats) or STOP[0](stats), states)
        yield from told

    return [model], run()


STOP: list[Callable[[Any], None]] = [lambda stats: None]
LOOPS = [pretraining, reward_training, ppo_training, finetuning]


def result(loop: Callable[..., Any], states: SavedStates | None) -> tuple[list[torch.Tensor], list[dict[str, Any]]]:
    models, stats = loop(states)
    told = [{name: value for name, value in dataclasses.asdict(each).items() if not name.endswith("seconds")} for each in stats]
    return [parameter.detach().clone() for model in models for parameter in model.parameters()], told


def stop_after(loop: Callable[..., Any], states: SavedStates, step: int) -> None:
    """Run until ``step`` records were told, then end as a killed process does: nothing is tidied up."""
    told = 0

    def count(stats: Any) -> None:
        nonlocal told
        told += 1
        if told == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setitem(globals(), "STOP", [count])
        _, stats = loop(states)
        for each in stats:
            if loop is not finetuning:
                count(each)


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_stopped_loop_goes_on_as_if_it_had_not_been(loop: Callable[..., Any], step: int, tmp_path: Path) -> None:
    weights, told = result(loop, None)
    assert len(told) >= 5
    states = SavedStates(tmp_path, every=SaveEvery(steps=1))
    stop_after(loop, states, step)
    assert states.numbers()[-1] == step
    torch.manual_seed(12345)  # another process has other random numbers
    again, told_again = result(loop, SavedStates(tmp_path, every=SaveEvery(steps=1)))
    assert told_again == told
    assert all(torch.equal(one, other) for one, other in zip(weights, again, strict=True))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_had_saved_its_last_step_does_nothing_more(loop: Callable[..., Any], tmp_path: Path) -> None:
    weights, told = result(loop, SavedStates(tmp_path, every=SaveEvery(steps=1)))
    again, told_again = result(loop, SavedStates(tmp_path, every=SaveEvery(seconds=1e9)))
    assert told_again == told and all(torch.equal(one, other) for one, other in zip(weights, again, strict=True))


@pytest.mark.parametrize("loop", LOOPS)
def test_two_states_are_kept_and_a_torn_one_gives_way_to_the_other(loop: Callable[..., Any], tmp_path: Path) -> None:
    weights, told = result(loop, None)
    stop_after(loop, SavedStates(tmp_path, every=SaveEvery(steps=1)), 4)
    states = SavedStates(tmp_path, every=SaveEvery(steps=1))
    assert states.numbers() == [3, 4]
    torn = states.path(4) / "state.safetensors"
    torn.write_bytes(torn.read_bytes()[:-7])
    said: list[str] = []
    again, told_again = result(loop, SavedStates(tmp_path, said.append, every=SaveEvery(steps=1)))
    assert "is torn" in said[0] and told_again == told
    assert all(torch.equal(one, other) for one, other in zip(weights, again, strict=True))


def test_fine_tuning_leaves_the_config_as_it_was_whether_or_not_a_step_was_left(tmp_path: Path) -> None:
    """The trainer turns the cache off, and the config is part of what is committed."""
    for _ in range(2):
        (model,), stats = finetuning(SavedStates(tmp_path, every=SaveEvery(steps=1)))
        assert len(list(stats)) == 6 and model.config.use_cache


def test_states_are_saved_when_they_are_due(tmp_path: Path) -> None:
    result(pretraining, SavedStates(tmp_path, every=SaveEvery(seconds=1e9)))
    assert SavedStates(tmp_path).numbers() == []
