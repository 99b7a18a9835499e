"""Every sampling loop, stopped after some batch and started again: nothing is sampled twice, and the result is the same."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command_line import run_here
from fakes import ConstantScorer, LengthScorer, ScriptedPolicy, make_prompts, talking_policy, tiny_policy, tiny_tokenizer
from stage_runs import REWARD_MODELS, make, put_models, put_policy
from stopped_runs import Killed, Stopping, change_records, states_in

from eval.consistency import ConsistencyDialogue, ConsistencyStats, consistency
from gatt.config import GattConfig
from gatt.constraints import Constraint
from gatt.obedience import by_rule
from gatt.synthesis import GattStats, synthesise
from policy.generation import Response, TransformersSampler
from preference_data.comparison import AXES
from preference_data.messages import assistant, num_turns, user
from preference_data.parquet import read_records
from registry.drafts import unfinished
from registry.saved_states import SavedStates, SaveEvery
from registry.store import Registry
from reward_model.combined_reward import CombinedReward
from rlhf.config import DistillationConfig, RejectionSamplingConfig, SelectionConfig
from rlhf.context_distillation import DistillationStats, distil
from rlhf.rejection_sampling import RejectionSamplingStats, TemperatureTrial, rejection_sample, search_temperature
from rlhf.samples import Sample
from stages.catalog import STAGES
from stages.engine.batches import AnsweredBatch, SavedBatches, answer
from stages.measure import consistency as evaluate_consistency
from stages.sections import AnnotationConfig, ConsistencyConfig, EvaluationConfig, ImportConfig, PromptsConfig, SamplingConfig

PROMPTS = make_prompts([f"Question {number}?" for number in range(7)], is_safety=True)
NAPOLEON = Constraint("figure", "Napoleon", "Act as Napoleon.", "Figure: Napoleon.")


def answers(messages, position):
    return f"Napoleon {'é' * position} {messages[-1]['content']} {messages[0]['role']}"


REWARD = CombinedReward(ConstantScorer(5.0), LengthScorer())
SAMPLING = RejectionSamplingConfig(k=3, prompts_per_batch=2, temperatures=(0.7, 0.9, 1.1, 1.3))


def rejection_sampling(policy: ScriptedPolicy, done: list[Any]) -> Iterator[Any]:
    return rejection_sample(PROMPTS, policy, REWARD, SAMPLING, "policy/a@1", 0, 0.9, done)


def temperatures(policy: ScriptedPolicy, done: list[Any]) -> Iterator[Any]:
    return search_temperature(PROMPTS, policy, REWARD, SAMPLING, 0, done)


def distillation(policy: ScriptedPolicy, done: list[Any]) -> Iterator[Any]:
    return distil(PROMPTS, policy, LengthScorer(), DistillationConfig(prompts_per_batch=2), 0, done)


def ghost_attention(policy: ScriptedPolicy, done: list[Any]) -> Iterator[Any]:
    dialogues = [[*prompt.messages, assistant("Yes."), user("And?"), assistant("No.")] for prompt in PROMPTS]
    config = GattConfig(k=2, dialogues_per_batch=2)
    obeys = by_rule(lambda rule, text: rule.value in text)
    return synthesise(dialogues, [NAPOLEON], policy, obeys, lambda messages: True, config, 0, LengthScorer(), done)


LOOPS = [
    (rejection_sampling, RejectionSamplingStats),
    (temperatures, TemperatureTrial),
    (distillation, DistillationStats),
    (ghost_attention, GattStats),
]


def untimed(stats: list[Any]) -> list[Any]:
    return [dataclasses.replace(each, seconds=0.0) if hasattr(each, "seconds") else each for each in stats]


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


# One response a prompt

QUESTIONS = [[user(f"Question {'owl ' * (number % 4)}{number}?")] for number in range(10)]


class Recorded(TransformersSampler):
    """A tiny real model, in small batches; ``told`` holds all responses in the order in which they were sampled, ``num_read``
    counts the tokens that the model read, padding included."""

    def __init__(self, kept_tokens: int = 0):
        super().__init__(tiny_policy(), tiny_tokenizer(), batch_size=3, kept_tokens=kept_tokens)
        self.told: list[Response] = []
        self.num_read = 0
        self.model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model, arguments, named) -> None:
        self.num_read += named["input_ids"].numel()

    def sample_batches(self, *arguments):
        for indices, groups in super().sample_batches(*arguments):
            self.told += [response for group in groups for response in group]
            yield indices, groups


def two_samplings(sampler: TransformersSampler, done: list[AnsweredBatch]) -> Iterator[AnsweredBatch]:
    for number, temperature in enumerate((1.0, 0.7)):
        yield from answer(sampler, QUESTIONS, temperature, 12, 5, done, number)


@pytest.mark.parametrize("stop", range(1, 9))
def test_answers_are_equal_bit_for_bit_wherever_the_sampling_stopped(stop: int, tmp_path: Path) -> None:
    expected = list(two_samplings(Recorded(), []))
    assert len(expected) == 8 and [batch.sampling for batch in expected] == [0] * 4 + [1] * 4
    plain = Recorded().sample(QUESTIONS, 1, 0.7, 1.0, 12, 5)
    second = {index: response for batch in expected[4:] for index, response in zip(batch.indices, batch.responses, strict=True)}
    assert [second[index] for index in range(10)] == [group[0] for group in plain]
    saved = SavedBatches(SavedStates(tmp_path), AnsweredBatch)
    batches = saved.save(two_samplings(Recorded(), saved.done))
    for _ in range(stop):
        next(batches)
    rest, later = Recorded(), SavedBatches(SavedStates(tmp_path), AnsweredBatch)
    assert list(later.save(two_samplings(rest, later.done))) == expected  # log-probabilities among them
    assert len(rest.told) == 20 - sum(len(batch.indices) for batch in expected[:stop])


def test_a_response_is_saved_whole(tmp_path: Path) -> None:
    odd = Response('"\\\n\u2028 \u00e9\U0001f98a', [1, 2], [-0.1, float("-inf")], False, [3])
    saved = SavedBatches(SavedStates(tmp_path), AnsweredBatch)
    list(saved.save(iter([AnsweredBatch(0, [4], [odd])])))
    assert SavedBatches(SavedStates(tmp_path), AnsweredBatch).done == [AnsweredBatch(0, [4], [odd])]


# Turn by turn

DIALOGUES = [
    ConsistencyDialogue("trained", f"Say {word}.", (word,), tuple(f"{word} {turn}?" for turn in range(4)))
    for word in ("owl", "fox", "plum", "sea")
]


def talk(sampler: Any, done: list[ConsistencyStats], fits: Callable[..., bool] = lambda prompt: True) -> Iterator[Any]:
    def obeys(asked: Any) -> list[bool]:
        return [rule in text for rule, _, text in asked]

    return consistency(sampler, DIALOGUES, obeys, fits, (1, 2, 4), 1.0, 1.0, 6, 0, done)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4])
def test_turns_that_are_done_are_told_again_and_not_sampled(turns: int) -> None:
    def say(messages, position):  # one dialogue falls silent, another one's context is full
        return " " if "fox" in messages[0]["content"] and num_turns(messages) == 2 else f"owl {num_turns(messages)}"

    def fits(prompt):
        return "sea" not in prompt[0]["content"] or num_turns(prompt) < 3

    whole = ScriptedPolicy(say)
    expected = list(talk(whole, [], fits))
    assert expected[-1].obeyed == (True, False, False, None) and expected[-1].num_overflowed == 1
    rest = ScriptedPolicy(say)
    assert list(talk(rest, expected[:turns], fits)) == expected
    assert rest.asked == whole.asked[len(whole.asked) - len(rest.asked) :]
    assert len(rest.asked) == sum(len([r for r in stats.responses if r is not None]) for stats in expected[turns:])


@pytest.mark.parametrize("kept_tokens", [0, 150, 100_000])
@pytest.mark.parametrize("turns", [1, 3])
def test_what_was_kept_of_dialogues_is_saved_with_their_turns(turns: int, kept_tokens: int, tmp_path: Path) -> None:
    whole, stopped, rest, forgetful = (Recorded(kept_tokens) for _ in range(4))
    expected = list(talk(whole, []))
    begun = talk(stopped, [])
    done = [next(begun) for _ in range(turns)]
    SavedStates(tmp_path).save(turns, partial(evaluate_consistency.save_turns, stopped, done))
    assert evaluate_consistency.restored_turns(SavedStates(tmp_path), rest) == done == expected[:turns]
    assert list(talk(rest, done)) == expected
    left = whole.told[len(DIALOGUES) * turns :]
    assert rest.told == left  # log-probabilities among them
    list(talk(forgetful, done))
    assert (rest.num_read < forgetful.num_read) == (kept_tokens > 0), "what is not kept is read anew"


# Stages


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Two random policies, two random reward models, prompts, and the preferences that they lead to."""
    registry = Registry(tmp_path_factory.mktemp("stages") / "registry")
    put_models(registry, "a", talking_policy(0))
    put_policy(registry, "b", policy=talking_policy(1))
    for split in ("train", "test"):
        config = PromptsConfig(split=split, num_helpful=6, num_adversarial=6, num_borderline=0)
        make(registry, STAGES["prompts"], config, {}, split)
    make(registry, *ANNOTATE, "annotated")
    make(registry, *REJECT, "sampled")
    for axis in AXES:
        config = ImportConfig(axis=axis, files=(f"{axis}.jsonl",), heldout_files=(f"{axis}-heldout.jsonl",), max_rejected=1)
        make(registry, STAGES["import"], config, {"annotations": ["annotations/annotated"]}, axis)
    return registry


MODELS = {**REWARD_MODELS, "prompts": ["prompts/test"]}
ANNOTATE = (
    STAGES["annotate"],
    AnnotationConfig(num_helpful=4, num_safety=4, num_heldout=3, max_new_tokens=8),
    {"policies": ["policy/a", "policy/b"], "prompts": ["prompts/train"], "heldout_prompts": ["prompts/test"]},
)
EVALUATE = (STAGES["evaluate-policy"], EvaluationConfig(max_new_tokens=8), {"policy": ["policy/a"], **MODELS})
COMPARE = (
    STAGES["evaluate-reward"],
    EvaluationConfig(max_new_tokens=8),
    {"preferences": ["preferences/helpfulness", "preferences/safety"], **MODELS},
)
TALK = (
    STAGES["evaluate-consistency"],
    ConsistencyConfig(
        num_dialogues=6, num_heldout=2, num_uninstructed=2, num_recalled=4, turns=(1, 3), max_new_tokens=6, kept_tokens=100_000
    ),
    {"policy": ["policy/a"], "prompts": ["prompts/test"]},
)
REJECT = (
    STAGES["rejection-sample"],
    SamplingConfig(
        k=3,
        temperatures=(0.8, 1.0, 1.2),
        search_prompts=4,
        num_helpful=3,
        num_adversarial=3,
        prompts_per_batch=2,
        max_new_tokens=8,
    ),
    {"policy": ["policy/a"], **MODELS, "prompts": ["prompts/train"], "evaluation_prompts": ["prompts/test"]},
)
RESCORE = (
    STAGES["rescore"],
    SelectionConfig(prompts_per_batch=2),
    {"samples": ["samples/sampled"], **REWARD_MODELS},
)


@pytest.mark.parametrize(
    ("name", "stage", "stop", "num_states"),
    [
        ("first-answers", ANNOTATE, (1,), 1),
        ("other-policy", ANNOTATE, (8,), 8),
        ("answered", EVALUATE, (1,), 1),
        ("one-model", COMPARE, (2, "scoring"), 2),
        ("one-turn", TALK, (1,), 1),
        ("two-turns", TALK, (2,), 2),
        ("one-temperature", REJECT, (1,), 0),  # trials have a place of their own
        ("two-temperatures", REJECT, (2,), 0),
        ("all-temperatures", REJECT, (1, "scores highest"), 0),
        ("two-batches", REJECT, (5,), 2),
        ("scored-anew", RESCORE, (1,), 1),
    ],
)
def test_a_stopped_stage_goes_on_and_makes_the_same(
    registry: Registry, name: str, stage: Any, stop: tuple[Any, ...], num_states: int
) -> None:
    expected = make(registry, *stage, "whole")
    with pytest.raises(Killed):
        make(registry, *stage, name, Stopping(*stop), save_every=SaveEvery(steps=1))
    (left,) = unfinished(registry.root)
    assert left.num_states == num_states
    assert make(registry, *stage, name).digest == expected.digest
    assert unfinished(registry.root) == ()


@pytest.mark.parametrize(
    ("stage", "stop", "file", "meddle"),
    [
        (ANNOTATE, (1,), "batch.json", lambda batch: batch["responses"][0].update(text="an answer of mine")),
        (EVALUATE, (1,), "batch.json", lambda batch: batch["responses"][0].update(text="an answer of mine")),
        (COMPARE, (2, "scoring"), "batch.json", lambda side: side["scores"].reverse()),
        (TALK, (3,), "turns.json", lambda turn: turn.update(responses=[each and "a word" for each in turn["responses"]])),
        (REJECT, (4,), "batch.json", lambda batch: batch["samples"][0].update(response="an answer of mine")),
        (RESCORE, (1,), "batch.json", lambda batch: batch["samples"][0].update(combined_score=77.0)),
    ],
)
def test_what_was_saved_is_what_is_gone_on_with(
    registry: Registry, stage: Any, stop: tuple[Any, ...], file: str, meddle: Callable[[Any], None]
) -> None:
    """What is changed by hand in a saved state turns up in the result: it was not made again."""
    expected = make(registry, *stage, "whole")
    with pytest.raises(Killed):
        make(registry, *stage, "meddled", Stopping(*stop), save_every=SaveEvery(steps=1))
    states = states_in(registry)
    change_records(states, states.numbers()[-1], file, lambda records: meddle(records[0]))
    assert make(registry, *stage, "meddled").digest != expected.digest


def test_a_temperature_that_was_tried_is_not_tried_again(registry: Registry) -> None:
    """What is written by hand into the trial that was saved is what the temperature is chosen by."""
    whole = json.loads(make(registry, *REJECT, "whole").file("temperatures.json").read_text())
    lowest = min(whole["trials"], key=lambda trial: trial["score"])["temperature"]
    place = [trial["temperature"] for trial in whole["trials"]].index(lowest)
    with pytest.raises(Killed):
        make(registry, *REJECT, "told", Stopping(place + 1))
    states = states_in(registry, "temperatures")
    assert states.numbers() == list(range(place + 1))
    (trial,) = json.loads((states.path(place) / "batch.json").read_text())
    assert trial == whole["trials"][place]
    change_records(states, place, "batch.json", lambda trials: trials[0].update(score=1e6))
    told = make(registry, *REJECT, "told")
    assert json.loads(told.file("temperatures.json").read_text())["trials"][place]["score"] == 1e6
    assert told.manifest.metrics["temperature"] == lowest != whole["temperature"]
    assert {sample.temperature for sample in read_records(told.file("samples.parquet"), Sample)} == {lowest}


# The interval


def test_the_interval_is_no_part_of_what_is_asked_for(registry: Registry) -> None:
    made = make(registry, *TALK, "whole")
    assert make(registry, *TALK, "whole", save_every=SaveEvery(steps=1)) == made, "up to date"


@pytest.mark.parametrize("command", [("reproduce", "--recipe", "micro"), ("sft",), ("evaluate", "consistency")])
def test_an_interval_that_cannot_be_is_refused_by_every_command(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = run_here(*command, "--save-every", "soon", code=2)
    assert "the interval between saved states is 'soon'" in refused.output
    assert not list(tmp_path.iterdir())
