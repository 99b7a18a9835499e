"""Every sampling loop, stopped after some batch and started again: nothing is sampled twice, and the result is the same."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import ConstantScorer, ScriptedPolicy

from gatt.config import GattConfig
from gatt.constraints import Constraint
from gatt.synthesis import GattStats, synthesise
from preference_data.messages import assistant, user
from preference_data.prompt import make_prompt
from registry.saved_states import SavedStates
from reward_model.combined_reward import CombinedReward
from rlhf.config import DistillationConfig, RejectionSamplingConfig
from rlhf.context_distillation import DistillationStats, distil
from rlhf.rejection_sampling import RejectionSamplingStats, rejection_sample
from stages.batches import SavedBatches

PROMPTS = [
    make_prompt([user(f"Question {number}?")], family="f", split="train", source="test", is_safety=True) for number in range(7)
]
NAPOLEON = Constraint("figure", "Napoleon", "Act as Napoleon.", "Figure: Napoleon.")


class LengthScorer:
    def score(self, dialogues):
        return torch.tensor([len(dialogue[-1]["content"]) / 3 for dialogue in dialogues])


def answers(messages, position):
    return f"Napoleon {'é' * position} {messages[-1]['content']} {messages[0]['role']}"


def rejection_sampling(policy: ScriptedPolicy, done: list[Any]) -> Iterator[Any]:
    reward = CombinedReward(LengthScorer(), ConstantScorer(5.0))
    return rejection_sample(PROMPTS, policy, reward, RejectionSamplingConfig(k=3, prompts_per_batch=2), "policy/a@1", 0, done)


def distillation(policy: ScriptedPolicy, done: list[Any]) -> Iterator[Any]:
    return distil(PROMPTS, policy, LengthScorer(), DistillationConfig(prompts_per_batch=2), 0, done)


def ghost_attention(policy: ScriptedPolicy, done: list[Any]) -> Iterator[Any]:
    dialogues = [[*prompt.messages, assistant("Yes."), user("And?"), assistant("No.")] for prompt in PROMPTS]
    config = GattConfig(k=2, dialogues_per_batch=2)
    return synthesise(dialogues, [NAPOLEON], policy, lambda rule, text: rule.value in text, config, 0, LengthScorer(), done)


LOOPS = [
    (rejection_sampling, RejectionSamplingStats),
    (distillation, DistillationStats),
    (ghost_attention, GattStats),
]


def untimed(stats: list[Any]) -> list[Any]:
    return [dataclasses.replace(each, seconds=0.0) for each in stats]


@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.parametrize(("loop", "stats_type"), LOOPS)
def test_a_stopped_loop_goes_on_after_its_last_batch(
    loop: Callable[..., Any], stats_type: type, stop: int, tmp_path: Path
) -> None:
    whole = ScriptedPolicy(answers)
    expected = untimed(list(loop(whole, [])))
    assert len(expected) == 4
    saved = SavedBatches(SavedStates(tmp_path), stats_type)
    batches = saved.save(loop(ScriptedPolicy(answers), saved.done))
    for _ in range(stop):
        next(batches)
    rest = ScriptedPolicy(answers)
    again = SavedBatches(SavedStates(tmp_path), stats_type)
    assert len(again.done) == stop
    assert untimed(list(again.save(loop(rest, again.done)))) == expected
    assert 0 < len(rest.asked) < len(whole.asked) and rest.asked == whole.asked[-len(rest.asked) :]
    idle = ScriptedPolicy(answers)
    finished = SavedBatches(SavedStates(tmp_path), stats_type)
    assert untimed(list(finished.save(loop(idle, finished.done)))) == expected and idle.asked == []


def test_batches_after_a_torn_one_are_made_again(tmp_path: Path) -> None:
    saved = SavedBatches(SavedStates(tmp_path), RejectionSamplingStats)
    expected = untimed(list(saved.save(rejection_sampling(ScriptedPolicy(answers), []))))
    (SavedStates(tmp_path).path(1) / "batch.json").write_text("[")
    said: list[str] = []
    again = SavedBatches(SavedStates(tmp_path, said.append), RejectionSamplingStats)
    assert len(again.done) == 1 and len(said) == 1
    assert untimed(list(again.save(rejection_sampling(ScriptedPolicy(answers), again.done)))) == expected
    assert len(SavedBatches(SavedStates(tmp_path), RejectionSamplingStats).done) == 4
