"""Best of K: what is recorded, what is chosen, and what can never be."""

import pytest
import torch
from fakes import ConstantScorer, ScriptedPolicy

from preference_data.messages import Messages, user
from preference_data.prompt import Prompt, make_prompt
from reward_model.combined_reward import CombinedReward
from rlhf.config import RejectionSamplingConfig
from rlhf.rejection_sampling import Sample, rejection_sample, selected_dialogues

ANSWERS = {
    "one": ["a", "aaa", "aa", "aaa"],
    "two": ["far too long, and cut", "bb", "[INST] is a tag", "b"],
    "three": ["far too long, and cut", "", "</s> in the text", ""],
}
CONFIG = RejectionSamplingConfig(k=4, prompts_per_batch=2)


class LengthScorer:
    def score(self, dialogues: list[Messages]) -> torch.Tensor:
        return torch.tensor([float(len(dialogue[-1]["content"])) for dialogue in dialogues])


def prompt(text: str, is_safety: bool = False) -> Prompt:
    return make_prompt([user(text)], family="fact", split="train", source="test", is_safety=is_safety)


def run(prompts: list[Prompt]) -> list:
    sampler = ScriptedPolicy(lambda messages, position: ANSWERS[messages[-1]["content"]][position], ["far too long, and cut"])
    reward = CombinedReward(LengthScorer(), ConstantScorer(5.0))
    return list(rejection_sample(prompts, sampler, reward, CONFIG, policy="policy/v1@1", seed=0))


def samples_of(prompts: list[Prompt]) -> list[Sample]:
    return [sample for stats in run(prompts) for sample in stats.samples]


def test_the_best_eligible_response_is_selected_and_the_first_of_equals() -> None:
    samples = samples_of([prompt("one"), prompt("two"), prompt("three")])
    assert [sample.response for sample in samples] == [text for texts in ANSWERS.values() for text in texts]
    chosen = [(sample.prompt[-1]["content"], sample.position) for sample in samples if sample.selected]
    assert chosen == [("one", 1), ("two", 1)]


def test_samples_carry_what_is_known_of_them() -> None:
    sample = samples_of([prompt("one", is_safety=True)])[1]
    assert (sample.prompt_id, sample.policy, sample.family) == (prompt("one").id, "policy/v1@1", "fact")
    assert (sample.is_safety, sample.temperature, sample.finished) == (True, 1.2, True)
    # A safety prompt is judged by the safety model alone.
    assert (sample.helpfulness_score, sample.safety_score, sample.combined_score) == (3.0, 5.0, 5.0)


def test_stats_tell_progress_scores_and_reasons() -> None:
    first, second = run([prompt("one"), prompt("two"), prompt("three")])
    assert [(stats.num_done, stats.num_prompts, stats.num_selected) for stats in (first, second)] == [(2, 3, 2), (3, 3, 0)]
    lengths = [len(text) for name in ("one", "two") for text in ANSWERS[name]]
    assert first.mean_score == pytest.approx(sum(lengths) / 8)
    assert first.best_score == pytest.approx((3 + 2) / 2)
    assert first.first_score == pytest.approx((1 + len("far too long, and cut")) / 2)
    assert first.unfit == {"unfinished": 1, "chat_tags": 1}
    assert second.best_score is None
    assert second.unfit == {"unfinished": 1, "empty": 2, "chat_tags": 1}


def test_a_response_without_text_is_recorded_with_the_lowest_score() -> None:
    samples = samples_of([prompt("three")])
    assert [sample.combined_score for sample in samples] == [21, 16, 16, 16]


def test_selected_dialogues_are_ready_to_train_on() -> None:
    dialogues = selected_dialogues(samples_of([prompt("one", is_safety=True), prompt("three")]))
    assert [dialogue.messages[-1]["content"] for dialogue in dialogues] == ["a"]
    (dialogue,) = dialogues
    assert (dialogue.source, dialogue.is_safety, dialogue.train_on) == ("rejection_sampling", True, "all")
    assert dialogue.prompt_id == prompt("one").id
