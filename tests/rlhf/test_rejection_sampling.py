"""Best of K: what is recorded, what is chosen, at which temperature, and what can never be."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from fakes import ConstantScorer, LengthScorer, ScriptedPolicy

from preference_data.messages import Messages, user
from preference_data.prompt import Prompt, make_prompt
from reward_model.combined_reward import CombinedReward
from rlhf.config import RejectionSamplingConfig
from rlhf.rejection_sampling import (
    TemperatureTrial,
    best_temperature,
    control_dialogues,
    rejection_sample,
    rescore,
    search_temperature,
    selected_dialogues,
)
from rlhf.samples import Sample, ScoresAllEqual

CUT = "far too long, and cut"
ANSWERS = {
    "one": ["a", "aaa", "aa", "aaa"],
    "two": [CUT, "bb", "[INST] is a tag", "b"],
    "three": [CUT, "", "</s> in the text", ""],
    "four": ["", CUT, "cc", "ccccc"],
}
CONFIG = RejectionSamplingConfig(k=4, prompts_per_batch=2)


class Warm(ScriptedPolicy):
    """Says what ``warm_script(messages, position, temperature)`` returns; ``settings`` records what it was asked with."""

    def __init__(self, warm_script: Callable[[Messages, int, float], str]):
        super().__init__(lambda messages, position: warm_script(messages, position, self.temperature), [CUT])
        self.temperature, self.settings = 0.0, []

    def sample(self, prompts, k, temperature, top_p, max_new_tokens, seed, top_k=0):
        self.temperature = temperature
        self.settings.append((len(prompts), k, temperature, top_p, max_new_tokens, seed))
        return super().sample(prompts, k, temperature, top_p, max_new_tokens, seed)


class UnaskedScorer:
    """Must not be asked."""

    def score(self, dialogues: list[Messages]) -> torch.Tensor:
        raise AssertionError(f"asked for {len(dialogues)} scores")


SPEAKING = CombinedReward(LengthScorer(), ConstantScorer(5.0))


def prompt(text: str, is_safety: bool = False) -> Prompt:
    return make_prompt([user(text)], family="fact", split="train", source="test", is_safety=is_safety)


def run(prompts: list[Prompt], reward: CombinedReward = SPEAKING) -> list:
    sampler = ScriptedPolicy(lambda messages, position: ANSWERS[messages[-1]["content"]][position], [CUT])
    return list(rejection_sample(prompts, sampler, reward, CONFIG, "policy/v1@1", seed=0, temperature=1.1))


def samples_of(prompts: list[Prompt], reward: CombinedReward = SPEAKING) -> list[Sample]:
    return [sample for stats in run(prompts, reward) for sample in stats.samples]


def chosen(samples: list[Sample]) -> list[tuple[str, int]]:
    return [(sample.prompt[-1]["content"], sample.position) for sample in samples if sample.selected]


def test_the_best_eligible_response_is_selected_and_the_first_of_equals() -> None:
    samples = samples_of([prompt(name) for name in ANSWERS])
    assert [sample.response for sample in samples] == [text for texts in ANSWERS.values() for text in texts]
    assert chosen(samples) == [("one", 1), ("two", 1), ("four", 3)]


def test_samples_carry_what_is_known_of_them() -> None:
    safety = CombinedReward(ConstantScorer(5.0), LengthScorer(-1.0))
    sample = samples_of([prompt("one", is_safety=True)], safety)[1]
    assert (sample.prompt_id, sample.policy, sample.family) == (prompt("one").id, "policy/v1@1", "fact")
    assert (sample.is_safety, sample.temperature, sample.finished) == (True, 1.1, True)
    # A safety prompt is judged by the safety model alone.
    assert (sample.helpfulness_score, sample.safety_score, sample.combined_score) == (5.0, -3.0, -3.0)


def test_stats_tell_progress_scores_and_reasons() -> None:
    first, second = run([prompt("one"), prompt("two"), prompt("three")])
    assert [(stats.num_done, stats.num_prompts, stats.num_selected) for stats in (first, second)] == [(2, 3, 2), (3, 3, 0)]
    lengths = [len(text) for name in ("one", "two") for text in ANSWERS[name]]
    assert first.mean_score == pytest.approx(sum(lengths) / 8)
    assert first.selected_score == pytest.approx((3 + 2) / 2)
    assert first.control_score == pytest.approx((1 + 2) / 2)  # "a", and "bb" after a response that was cut
    assert first.unfit == {"unfinished": 1, "chat_tags": 1}
    assert (second.selected_score, second.control_score) == (None, None)
    assert second.unfit == {"unfinished": 1, "empty": 2, "chat_tags": 1}


def test_a_response_without_text_is_recorded_with_the_lowest_score() -> None:
    samples = samples_of([prompt("three")])
    assert [sample.combined_score for sample in samples] == [21, 16, 16, 16]


def test_selected_dialogues_are_ready_to_train_on() -> None:
    safety = CombinedReward(ConstantScorer(5.0), LengthScorer(-1.0))
    dialogues = selected_dialogues(samples_of([prompt("one", is_safety=True), prompt("three")], safety))
    assert [dialogue.messages[-1]["content"] for dialogue in dialogues] == ["a"]
    (dialogue,) = dialogues
    assert (dialogue.source, dialogue.is_safety, dialogue.train_on) == ("rejection_sampling", True, "all")
    assert dialogue.prompt_id == prompt("one").id


def test_the_control_is_the_first_eligible_response_of_the_same_prompts() -> None:
    samples = samples_of([prompt(name) for name in ANSWERS])
    control = control_dialogues(samples)
    assert [dialogue.messages[-1]["content"] for dialogue in control] == ["a", "bb", "cc"]
    assert [dialogue.prompt_id for dialogue in control] == [each.prompt_id for each in selected_dialogues(samples)]
    assert {dialogue.source for dialogue in control} == {"random_control"}


# Scored anew


def test_the_same_models_give_the_same_samples_again() -> None:
    samples = samples_of(
        [prompt(name, is_safety=name == "two") for name in ANSWERS], CombinedReward(LengthScorer(), LengthScorer(-1.0))
    )
    stats = list(rescore(samples, CombinedReward(LengthScorer(), LengthScorer(-1.0)), CONFIG.prompts_per_batch))
    assert [sample for each in stats for sample in each.samples] == samples
    assert [(each.num_done, each.num_prompts) for each in stats] == [(2, 4), (4, 4)]


def test_other_models_select_others_and_change_nothing_else() -> None:
    samples = samples_of([prompt(name) for name in ANSWERS])
    shorter = CombinedReward(LengthScorer(-1.0), ConstantScorer(5.0))
    again = [sample for each in rescore(samples, shorter, 3) for sample in each.samples]
    assert chosen(again) == [("one", 0), ("two", 3), ("four", 2)]
    judged = ("helpfulness_score", "safety_score", "combined_score", "selected")
    for old, new in zip(samples, again, strict=True):
        assert dataclasses.replace(old, **{name: getattr(new, name) for name in judged}) == new
    lengths = [-len(sample.response) for sample in samples if sample.response]
    assert [sample.combined_score for sample in again if sample.response] == lengths


def test_what_is_scored_already_is_not_scored_again() -> None:
    samples = samples_of([prompt(name) for name in ANSWERS])
    whole = list(rescore(samples, SPEAKING, 1))
    assert list(rescore(samples, CombinedReward(UnaskedScorer(), UnaskedScorer()), 1, whole)) == whole
    shorter = CombinedReward(LengthScorer(-1.0), ConstantScorer(5.0))
    rest = list(rescore(samples, shorter, 1, whole[:2]))
    assert rest[:2] == whole[:2]
    assert chosen([sample for each in rest for sample in each.samples]) == [("one", 1), ("two", 1), ("four", 2)]


# A model that tells nothing apart


def eight_texts(messages: Messages, position: int) -> str:
    """Of two prompts, four positions each: a batch of CONFIG."""
    return f"{messages[-1]['content']} {'a' * position}"


def seven_texts(messages: Messages, position: int) -> str:
    return "one" if position == 0 else eight_texts(messages, position)


@pytest.mark.parametrize(
    ("reward", "is_safety", "axis", "value"),
    [
        (CombinedReward(ConstantScorer(0.25), LengthScorer()), False, "helpfulness", "0.25"),
        (CombinedReward(LengthScorer(), ConstantScorer(0.25)), True, "safety", "0.25"),
        (CombinedReward(LengthScorer(), ConstantScorer(-9.0)), False, "safety", "-9"),  # unsafe, all of them
    ],
)
def test_a_model_that_gives_all_texts_one_score_is_refused(
    reward: CombinedReward, is_safety: bool, axis: str, value: str
) -> None:
    said = (
        f"the {axis} model gives {value} to all 8 responses of a batch that it decides, 8 different texts.*"
        f"rlhf train-reward --axis {axis}.*rlhf doctor --{axis} REF"
    )
    prompts = [prompt("one", is_safety), prompt("two", is_safety)]
    policy = ScriptedPolicy(eight_texts)
    with pytest.raises(ScoresAllEqual, match=said):
        list(rejection_sample(prompts, policy, reward, CONFIG, "policy/v1@1", 0, 1.0))
    with pytest.raises(ScoresAllEqual, match=said):
        list(search_temperature(prompts, policy, reward, CONFIG, 0))
    fair = CombinedReward(LengthScorer(), LengthScorer(-0.01))
    samples = [
        sample for stats in rejection_sample(prompts, policy, fair, CONFIG, "policy/v1@1", 0, 1.0) for sample in stats.samples
    ]
    with pytest.raises(ScoresAllEqual, match=said):
        list(rescore(samples, reward, 2))


def test_fewer_than_eight_different_texts_may_have_one_score() -> None:
    constant = CombinedReward(LengthScorer(), ConstantScorer(0.25))
    prompts = [prompt("one", is_safety=True), prompt("two", is_safety=True)]
    (stats,) = rejection_sample(prompts, ScriptedPolicy(seven_texts), constant, CONFIG, "policy/v1@1", 0, 1.0)
    assert len({sample.response for sample in stats.samples}) == 7
    assert [(sample.selected, sample.safety_score) for sample in stats.samples] == 2 * [(True, 0.25), *3 * [(False, 0.25)]]


def test_one_text_may_have_one_score_and_a_model_that_is_not_asked_may_say_what_it_likes() -> None:
    always = ScriptedPolicy(lambda messages, position: "" if position == 1 else "yes")
    constant = CombinedReward(ConstantScorer(0.25), ConstantScorer(0.5))
    (stats,) = rejection_sample([prompt("one"), prompt("two")], always, constant, CONFIG, "policy/v1@1", 0, 1.0)
    assert stats.num_selected == 2 and {sample.combined_score for sample in stats.samples} == {0.25}
    assert len(run([prompt("one")], SPEAKING)) == 1  # whose safety model is constant, and nothing is unsafe


# The temperature

TEXTS = {
    ("one", 0.5): ["aaa", CUT], ("one", 1.0): ["a", "aaaaa"], ("one", 1.5): [CUT, "</s> is no"],
    ("two", 0.5): ["b", "bb"], ("two", 1.0): ["bbb", "b"], ("two", 1.5): ["", "b"],
    ("three", 0.5): ["cccc", ""], ("three", 1.0): [CUT, ""], ("three", 1.5): ["cc", "c"],
}  # fmt: skip
SEARCH = RejectionSamplingConfig(k=2, temperatures=(0.5, 1.0, 1.5), top_p=0.9, max_new_tokens=7, prompts_per_batch=2)


def say(messages: Messages, position: int, temperature: float) -> str:
    return TEXTS[messages[-1]["content"], temperature][position]


def search(
    prompts: list[Prompt], sampler: Warm | None = None, done: list[TemperatureTrial] | None = None
) -> list[TemperatureTrial]:
    return list(search_temperature(prompts, sampler or Warm(say), SPEAKING, SEARCH, 11, done or ()))


def sigmoids(*logits: float | None) -> list[float]:
    """Of None, which stands for a prompt without an eligible response, 0."""
    return [0.0 if logit is None else 1 / (1 + math.exp(-logit)) for logit in logits]


def test_a_trial_is_the_mean_of_the_best_eligible_scores_and_0_counts_where_none_is_eligible() -> None:
    trials = search([prompt("one"), prompt("two"), prompt("three")])
    assert [(trial.temperature, trial.num_prompts) for trial in trials] == [(0.5, 3), (1.0, 3), (1.5, 3)]
    # nothing that "three" is told at 1.0 and "one" at 1.5 can be selected, however high what was cut scores
    expected = [sigmoids(3, 2, 4), sigmoids(5, 3, None), sigmoids(None, 1, 2)]
    for trial, scores in zip(trials, expected, strict=True):
        assert trial.prompt_scores == pytest.approx(scores) and trial.score == pytest.approx(sum(scores) / 3)
    assert best_temperature(trials) == 0.5
    assert [trial.eligible_share for trial in trials] == pytest.approx([4 / 6, 4 / 6, 3 / 6])


def test_a_temperature_at_which_nothing_can_be_selected_never_wins() -> None:
    """Though the models may score the texts that were cut highest."""
    policy = Warm(lambda messages, position, temperature: CUT if temperature == 1.4 else "b" * (1 + position))
    shy = CombinedReward(LengthScorer(-1.0), ConstantScorer(5.0))
    for reward in (SPEAKING, shy):
        config = RejectionSamplingConfig(k=2, temperatures=(0.7, 1.4))
        low, high = search_temperature([prompt("one")], policy, reward, config, 0)
        assert (high.score, high.prompt_scores, high.eligible_share) == (0, [0], 0)
        assert 0 < low.score < 1 and best_temperature([low, high]) == 0.7


def test_the_search_samples_as_the_round_does_with_one_seed_at_all_temperatures() -> None:
    sampler = Warm(say)
    search([prompt("one"), prompt("two"), prompt("three")], sampler)
    assert sampler.settings == [(size, 2, temperature, 0.9, 7, 11) for temperature in (0.5, 1.0, 1.5) for size in (2, 1)]
    round_ = Warm(say)
    stats = list(rejection_sample([prompt("two")], round_, SPEAKING, SEARCH, "policy/v1@1", 11, temperature=1.5))
    assert round_.settings == [(1, 2, 1.5, 0.9, 7, 11)]
    assert {sample.temperature for sample in stats[0].samples} == {1.5}


def test_a_trial_that_is_done_is_not_made_again() -> None:
    prompts = [prompt("one"), prompt("two"), prompt("three")]
    whole = search(prompts)
    rest = Warm(say)
    assert search(prompts, rest, whole[:2]) == whole
    assert {temperature for _, _, temperature, *_ in rest.settings} == {1.5}


def trial(temperature: float, score: float) -> TemperatureTrial:
    return TemperatureTrial(temperature, score, 1.0, 1, [score])


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ({0.6: 0.1, 1.0: 0.3, 1.4: 0.2}, 1.0),
        ({0.6: 0.0, 1.0: 0.01, 1.4: 0.02}, 1.4),
        ({1.4: 0.2, 0.6: 0.1, 0.9: 0.2, 1.2: 0.2}, 0.9),
    ],
)
def test_the_best_temperature_scores_highest_and_is_the_lowest_of_equals(scores: dict[float, float], best: float) -> None:
    assert best_temperature([trial(temperature, score) for temperature, score in scores.items()]) == best
