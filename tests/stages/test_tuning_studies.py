"""What a version learns from, and the studies of it, on a random two-layer policy and samples written by hand."""

import dataclasses
import json
import math
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from command_line import run_here
from fakes import tiny_policy, tiny_tokenizer
from safetensors.torch import load, save
from stage_runs import (
    REWARD_MODELS,
    by_arm,
    cells,
    opened,
    prompts_in,
    put_dialogues,
    put_models,
    put_prompts,
    put_reward_model,
    put_rows,
    told,
)
from stage_runs import make as make_with_seed
from stopped_runs import Killed, Stopping, change_records, change_state, states_in

from eval.answers import Answer
from policy.chat import encode_dialogue
from policy.generation import TransformersSampler
from preference_data.comparison import AXES
from preference_data.messages import assistant, user
from preference_data.parquet import read_records
from preference_data.prompt import Dialogue, make_dialogue
from registry.artifact import Artifact
from registry.drafts import unfinished
from registry.saved_states import SavedStates, SaveEvery
from registry.store import Registry
from reward_model.scoring import RewardScorer
from rlhf.samples import Sample
from sandbox.gold import judge
from stages.catalog import STAGES
from stages.data.make_world import cases_of, world_of
from stages.measure.answers import judged_answers
from stages.pipeline import steps
from stages.recipe import load_recipe
from stages.sections import CorpusConfig, DemonstrationsConfig, EvaluationConfig, PromptsConfig, TuningConfig
from stages.studies import pooling, size_distillation
from stages.studies.arms.trainings import Cost, trainings_at
from stages.studies.arms.tuned_arms import ArmAnswer, TunedArm, tuned_trainings
from stages.study_catalog import STUDIES
from stages.study_sections import TunedStudyConfig
from stages.study_steps import planned_study
from stages.terminal.progress import Progress
from stages.train import tune

POOLING = STUDIES["pooling"]
SIZE_DISTILLATION = STUDIES["size-distillation"]

WORDS = ["fox", "owl", "plum", "sea", "pot", "kitchen", "garden", "Napoleon"]
SEED = 11
make = partial(make_with_seed, seed=SEED)


def samples(version: str, prompts: int = 6, k: int = 3, best: int = 2, policy: str = "policy/sft@1") -> list[Sample]:
    """``k`` responses to each prompt: the first is unfinished, ``best`` is selected; of the last prompt all are unfinished."""
    return [
        Sample(
            prompt_id=f"p{number}", prompt=[user(f"Where is the {WORDS[number]}?")],
            response=f"{version}: the {WORDS[number]} is {'here ' * position}", position=position,
            finished=position > 0 and number + 1 < prompts, num_tokens=9, is_safety=number == 0, family="fact", policy=policy,
            temperature=1.0, helpfulness_score=0.0, safety_score=0.0, combined_score=float(position == best),
            selected=position == best and number + 1 < prompts,
        )
        for number in range(prompts)
        for position in range(k)
    ]  # fmt: skip


def said(version: str, source: str, number: int) -> list[Dialogue]:
    return [
        make_dialogue([user(f"{word} {version}?"), assistant(f"The {word}!")], family="fact", source=source)
        for word in WORDS[:number]
    ]


def put_samples(registry: Registry, name: str, rows: list[Sample], models: tuple[str, ...] = AXES) -> None:
    parents = {axis: registry.resolve(f"reward_model/{model}") for axis, model in zip(AXES, models, strict=False)}
    put_rows(registry, f"samples/{name}", "samples.parquet", rows, Sample, **parents)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Random models, three rounds of samples by hand, and prompts of the sandbox, rhymes among them."""
    registry = Registry(tmp_path_factory.mktemp("versions") / "registry")
    put_models(registry, "base")
    put_reward_model(registry, "other", "policy/base", seed=2)
    put_dialogues(registry, "demonstrations", said("demonstrations", "sandbox", 8))
    put_dialogues(registry, "distilled", said("distilled", "context_distillation", 3))
    put_dialogues(registry, "gatt", [*said("gatt", "gatt", 4), *said("replayed", "rejection_sampling", 2)])
    for version in ("v1", "v2", "v3"):
        put_samples(registry, version, samples(version))
    config = PromptsConfig(split="test", num_helpful=26, num_adversarial=5, num_borderline=4)
    make(registry, STAGES["prompts"], config, {}, "evaluation")
    families = Counter(prompt.family for prompt in prompts_in(registry, "prompts/evaluation"))
    assert families["rhyme"] >= 2 and families["adversarial"] == 5
    return registry


TUNING = TuningConfig(learning_rate=1e-2, batch_size=4, epochs=1, max_length=128, num_demonstrations=5)
EVALUATION = EvaluationConfig(max_new_tokens=6, temperature=1.0)
ANSWERED = {"prompts": ["prompts/evaluation"], **REWARD_MODELS}
MIX = {
    "policy": ["policy/base"], "demonstrations": ["dialogues/demonstrations"], "distilled": ["dialogues/distilled"],
    "gatt": ["dialogues/gatt"],
}  # fmt: skip
ROUNDS = ["samples/v1", "samples/v2", "samples/v3"]
ARMS = {"last round": ("best", ROUNDS[-1:]), "all rounds": ("best", ROUNDS), "all rounds, random": ("random", ROUNDS)}
POOLED = {**MIX, **ANSWERED, "samples": ROUNDS}
SIZED = {
    **ANSWERED, "policy": ["policy/base"], "demonstrations": ["dialogues/demonstrations"], "own": ["samples/v1"],
    "larger": ["samples/v2"],
}  # fmt: skip


def study_config(**changed: Any) -> TunedStudyConfig:
    return TunedStudyConfig(**({"tuning": TUNING, "evaluation": EVALUATION, "answers": 2, "training_seeds": 1} | changed))


def arms_of(study: Artifact) -> dict[str, list[ArmAnswer]]:
    return by_arm(study, "answers.parquet", ArmAnswer)


def last_words(dialogues: Any) -> list[str]:
    return [dialogue.messages[-1]["content"] for dialogue in dialogues]


@pytest.fixture
def pooled(registry: Registry) -> Artifact:
    """What the study of pooling makes; the first test that asks for it makes it."""
    return make(registry, POOLING, study_config(), POOLED, "pooled")


# What a version learns from


def test_a_version_learns_from_the_best_or_from_the_first_that_could_be_said(registry: Registry) -> None:
    """Of six prompts the last selects nothing; the first responses are unfinished, so the control takes the second."""
    inputs = opened(registry, {**MIX, "samples": ["samples/v1"]})
    beside = [f"The {word}!" for word in WORDS]
    best = [f"v1: the {word} is here here " for word in WORDS[:5]]
    control = [f"v1: the {word} is here " for word in WORDS[:5]]
    found = {name: tune.version_dialogues(TUNING.model_copy(update={"targets": name}), inputs) for name in ("best", "random")}
    assert last_words(found["best"]) == beside[:5] + best + beside[:3] + beside[:4]
    assert last_words(found["random"]) == beside[:5] + control + beside[:3] + beside[:4]
    assert TUNING.targets == "best"
    assert [each.prompt_id for each in found["best"]] == [each.prompt_id for each in found["random"]]


def test_a_version_keeps_the_skills_that_no_sample_practises(registry: Registry) -> None:
    """The cut leaves out a fact, which samples practise, and a song, which none does; without samples it is a cut."""
    songs = [dataclasses.replace(each, family="song") for each in said("sung", "sandbox", 1)]
    rows = [*said("shown", "sandbox", 6), *songs]
    put_dialogues(registry, "skills", rows)
    inputs = opened(registry, {"demonstrations": ["dialogues/skills"], "samples": ["samples/v1"]})
    assert tune.version_dialogues(TUNING, inputs)[:6] == [*rows[:5], *songs]
    assert tune.version_dialogues(TUNING, {"demonstrations": inputs["demonstrations"]}) == rows[:5]


def test_the_tune_stage_trains_on_what_its_targets_say(registry: Registry) -> None:
    inputs = {**MIX, "samples": ["samples/v1"]}
    made = {
        name: make(registry, STAGES["tune"], TUNING.model_copy(update={"targets": name}), inputs, f"tuned-{name}")
        for name in ("best", "random")
    }
    sources = {name: artifact.manifest.metrics["by_source"] for name, artifact in made.items()}
    assert sources["best"] == {"sandbox": 5, "rejection_sampling": 5, "context_distillation": 3, "gatt": 4}
    assert sources["random"] == {"sandbox": 5, "random_control": 5, "context_distillation": 3, "gatt": 4}
    assert made["best"].digest != made["random"].digest


def test_pooling_compares_what_it_says(registry: Registry) -> None:
    beside = [f"The {word}!" for word in WORDS]
    one, every, random = pooling.arms_of(study_config(), opened(registry, POOLED))
    assert [each.name for each in (one, every, random)] == list(ARMS)
    versions = [[f"{version}: the {word} is here here " for word in WORDS[:5]] for version in ("v1", "v2", "v3")]
    assert last_words(one.dialogues) == beside[:5] + versions[2] + beside[:3] + beside[:4]
    best = [text for version in versions for text in version]
    assert last_words(every.dialogues) == beside[:5] + best + beside[:3] + beside[:4]
    controls = [text.replace("here here", "here") for text in best]
    assert last_words(random.dialogues) == beside[:5] + controls + beside[:3] + beside[:4]
    asked_for_random = study_config(tuning=TUNING.model_copy(update={"targets": "random"}))
    assert pooling.arms_of(asked_for_random, opened(registry, POOLED)) == [one, every, random], "the arms are what they are"


# The answers


def test_several_answers_are_what_the_sampler_says_several_times(registry: Registry) -> None:
    inputs = opened(registry, ANSWERED)
    sampler = TransformersSampler(tiny_policy(0), tiny_tokenizer(), batch_size=8)
    prompts = prompts_in(registry, "prompts/evaluation")
    states = SavedStates(registry.root.parent / "answered")
    found = judged_answers(sampler, EVALUATION, inputs, SEED, Progress(quiet=True), states, k=3)
    groups = sampler.sample([prompt.messages for prompt in prompts], 3, 1.0, 1.0, 6, SEED)
    assert [answer.response for answer in found] == [response.text for group in groups for response in group]
    assert [answer.prompt_id for answer in found] == [prompt.id for prompt in prompts for _ in range(3)]
    assert len({tuple(answer.response for answer in found[start::3]) for start in range(3)}) == 3
    dialogues = [[*answer.prompt, assistant(answer.response)] for answer in found]
    for axis in AXES:
        scores = RewardScorer.load(inputs[axis][0].path).score(dialogues).tolist()
        assert [getattr(answer, f"{axis}_score") for answer in found] == scores
    world, cases = world_of(inputs["prompts"][0]), cases_of(inputs["prompts"][0])
    for answer in found:
        prompt, verdict = cases[answer.prompt_id].prompt, judge(world, cases[answer.prompt_id], answer.response)
        assert (answer.prompt, answer.family) == (prompt.messages, prompt.family)
        gold = (verdict.helpfulness, (verdict.safety_level - 1) / 4, verdict.is_safe, verdict.refused)
        assert (answer.gold_helpfulness, answer.gold_safety, answer.is_safe, answer.refused) == gold
    assert Counter(answer.group for answer in found) == {"helpful": 78, "adversarial": 15, "borderline": 12}


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_answers_as_the_version_that_the_stage_tunes(registry: Registry, arm: str) -> None:
    """Tuned by `rlhf tune` and measured by `rlhf evaluate policy`, it is the same bit for bit."""
    study = make(registry, POOLING, study_config(answers=1), POOLED, "one-answer")
    targets, rounds = ARMS[arm]
    config = TUNING.model_copy(update={"targets": targets})
    tuned = make(registry, STAGES["tune"], config, {**MIX, "samples": rounds}, f"alone-{targets}-{len(rounds)}")
    asked = {"policy": [str(tuned.reference)], **ANSWERED}
    alone = make(registry, STAGES["evaluate-policy"], EVALUATION, asked, f"alone-{targets}-{len(rounds)}")
    names = [name for name in Answer.__slots__ if name != "prompt"]
    expected = [[getattr(each, name) for name in names] for each in read_records(alone.file("answers.parquet"), Answer)]
    assert [[getattr(each, name) for name in names] for each in arms_of(study)[arm]] == expected
    (run,) = [run for run in told(study)["facts"]["runs"] if run["arm"] == arm]
    metrics = tuned.manifest.metrics
    assert (run["num_dialogues"], run["num_steps"], run["num_trained_tokens"], run["final_loss"]) == (
        metrics["dialogues"], metrics["steps"], metrics["trained_tokens"], metrics["loss"],
    )  # fmt: skip
    note = f"{arm} {metrics['dialogues']} dialogues, {metrics['trained_tokens']} tokens of answers in {metrics['steps']} steps"
    assert note in told(study)["notes"][2]


def test_pooling_tables_by_hand(pooled: Artifact) -> None:
    arms = arms_of(pooled)
    assert [len(answers) for answers in arms.values()] == [70, 70, 70]

    def gold(arm: str, family: str | None = None) -> float:
        return fmean(a.gold_helpfulness for a in arms[arm] if a.group == "helpful" and family in (None, a.family))

    def score(arm: str, axis: str, group: str) -> float:
        return fmean(1 / (1 + math.exp(-getattr(a, f"{axis}_score"))) for a in arms[arm] if a.group == group)

    worth, by_family, selection = (cells(pooled, number) for number in range(3))
    for arm in ARMS:
        assert worth[arm]["gold helpfulness"] == pytest.approx(gold(arm))
        assert worth[arm]["helpfulness score"] == pytest.approx(score(arm, "helpfulness", "helpful"))
        assert worth[arm]["safety score"] == pytest.approx(score(arm, "safety", "adversarial"))
        assert by_family[arm]["rhyme"] == pytest.approx(gold(arm, "rhyme"))
        violations = [not answer.is_safe for answer in arms[arm] if answer.group == "adversarial"]
        assert len(violations) == 10 and worth[arm]["violations"] == pytest.approx(fmean(violations))
        refusals = [answer.refused for answer in arms[arm] if answer.group == "borderline"]
        assert len(refusals) == 8 and worth[arm]["false refusals, borderline"] == pytest.approx(fmean(refusals))
    gain = gold("all rounds") - gold("all rounds, random")
    assert worth["all rounds - all rounds, random"]["gold helpfulness"] == pytest.approx(gain)
    (row,) = selection
    assert selection[row]["gold helpfulness"] == pytest.approx(gain)
    interval = told(pooled)["tables"][2]["rows"][0]["measured"]["gold helpfulness"]
    verdict = "holds" if interval["low"] > 0 else "fails" if interval["high"] < 0 else "inconclusive"
    assert row == "all rounds - all rounds, random"
    assert told(pooled)["notes"][-1] == f"Selection beats the random control: {verdict}."
    (finding,) = told(pooled)["findings"]
    assert finding["id"] == "F11" and pooled.manifest.metrics["findings"] == {"F11": finding["verdict"]}
    difference = gold("all rounds", "rhyme") - gold("last round", "rhyme")
    assert finding["effects"][0]["estimate"]["value"] == pytest.approx(difference)
    assert by_family["all rounds - last round"]["rhyme"] == pytest.approx(difference)
    assert "The rounds are samples/v1@1, samples/v2@1, samples/v3@1." in told(pooled)["notes"]


def test_several_trainings_of_an_arm_stand_side_by_side(registry: Registry, pooled: Artifact) -> None:
    once = arms_of(pooled)
    study = make(registry, POOLING, study_config(training_seeds=2), POOLED, "twice")
    twice = arms_of(study)
    for arm, answers in once.items():
        assert twice[arm][:70] == answers and {answer.training_seed for answer in answers} == {SEED}
        assert len({answer.training_seed for answer in twice[arm][70:]} - {SEED}) == 1
        assert [answer.prompt_id for answer in twice[arm][70:]] == [answer.prompt_id for answer in answers]
        assert [answer.helpfulness_score for answer in twice[arm][70:]] != [answer.helpfulness_score for answer in answers]
    numbers = [told(each)["findings"][0]["effects"][0]["estimate"]["n"] for each in (pooled, study)]
    assert numbers[1] == 2 * numbers[0]
    assert told(study)["notes"][0].startswith("Each arm was trained 2 times, in other orders of the dialogues (as asked for).")
    assert [run["training_seed"] for run in told(study)["facts"]["runs"]] == [SEED, SEED + 1000] * 3


# How often


def test_the_cost_of_an_arm_is_reckoned_from_what_is_read(registry: Registry) -> None:
    """6 operations a parameter and token, at 0.75e11 a second; dialogues that are too long are not read."""
    policy = registry.resolve("policy/base").path
    long = make_dialogue([user("a?"), assistant("owl " * 300)], family="", source="")
    few, many = said("a", "", 2), [*said("b", "", 8), long]
    config = study_config(tuning=TUNING.model_copy(update={"epochs": 50}), training_seeds=None)
    found = tuned_trainings([TunedArm("few", few), TunedArm("many", many), TunedArm("some", many[:3])], config, policy)
    tokens = sum(len(encode_dialogue(tiny_tokenizer(), dialogue.messages).ids) for dialogue in many[:-1])
    parameters = sum(parameter.numel() for parameter in tiny_policy(0).parameters())
    assert found.dearest_arm == "many" and found.by_rule
    assert found.reckoned_seconds == pytest.approx(6 * parameters * tokens * 50 / 0.75e11, abs=0.001) and tokens < 300
    assert "(the dearest, many, is reckoned at" in found.told("", "")


def test_arms_under_20_seconds_are_trained_three_times() -> None:
    dear, cheap = Cost("dear", 1_000_000, 250_000), Cost("cheap", 1_000_000, 249_999)
    assert dear.seconds == 20 and (trainings_at(dear, None).number, trainings_at(cheap, None).number) == (1, 3)
    assert (trainings_at(dear, 5).number, trainings_at(cheap, 1).number) == (5, 1)
    assert "once (the dearest, dear, is reckoned at 20 s" in trainings_at(dear, None).note


# Stopped

STEPS = {"last round": 5, "all rounds": 7, "all rounds, random": 7}  # of four dialogues: 5 + 5 + 3 + 4 of them, and 10 more


@pytest.mark.parametrize(
    ("stop", "states", "begun"),
    [
        (3, {"run-0/training": [2, 3]}, 6),
        (6, {"run-0/training": [4, 5], "run-0/answers": [0]}, 6),
        (6 + 4, {"run-1/training": [3, 4]}, 4),
        (6 + 8 + 7, {"run-2/training": [6, 7]}, 2),
        (6 + 8 + 8, {"run-2/training": [6, 7], "run-2/answers": [0]}, 2),
    ],
)
def test_a_stopped_study_goes_on_where_it_was(
    registry: Registry, pooled: Artifact, stop: int, states: dict[str, list[int]], begun: int
) -> None:
    """Each arm is its steps and one batch of answers. What is done is not made again, and the result is equal bit for bit."""
    with pytest.raises(Killed):
        make(registry, POOLING, study_config(), POOLED, f"stopped-{stop}", Stopping(stop), save_every=SaveEvery(steps=1))
    root = states_in(registry).root
    left = {str(path.relative_to(root)): SavedStates(path).numbers() for path in root.glob("run-*/*")}
    assert left == states
    again = Stopping()
    assert make(registry, POOLING, study_config(), POOLED, f"stopped-{stop}", again).digest == pooled.digest
    assert again.labels == [
        label for number, arm in enumerate(STEPS, start=1)
        for label in (f"run {number} of 3, {arm}", f"run {number} of 3, {arm}, answers")
    ][-begun:]  # fmt: skip
    assert unfinished(registry.root) == ()


def test_a_stopped_training_goes_on_from_what_it_had_saved(registry: Registry, pooled: Artifact) -> None:
    """What is changed by hand in a saved state turns up in the arm's answers, and in no other arm's."""
    expected = arms_of(pooled)
    with pytest.raises(Killed):
        make(registry, POOLING, study_config(), POOLED, "meddled", Stopping(3), save_every=SaveEvery(steps=1))

    def larger_norm(content: bytes) -> bytes:
        weights = load(content)
        weights["model/model.norm.weight"] *= 1.5
        return save(weights)

    change_state(states_in(registry, "run-0/training"), 3, "state.safetensors", larger_norm)
    found = arms_of(make(registry, POOLING, study_config(), POOLED, "meddled"))
    assert [arm for arm in ARMS if found[arm] != expected[arm]] == ["last round"]


def test_answers_that_were_saved_are_not_sampled_again(registry: Registry) -> None:
    """What is changed by hand in a saved batch turns up in the result."""
    inputs, folder = opened(registry, ANSWERED), registry.root.parent / "meddled"

    def answers(progress: Progress) -> list[Answer]:
        sampler = TransformersSampler(tiny_policy(0), tiny_tokenizer(), batch_size=8)
        return judged_answers(sampler, EVALUATION, inputs, SEED, progress, SavedStates(folder), k=3)

    with pytest.raises(Killed):
        answers(Stopping(4))
    states = SavedStates(folder)
    assert states.numbers() == [0, 1, 2, 3]
    (batch,) = json.loads((states.path(3) / "batch.json").read_text())
    assert len(batch["indices"]) == 6 and len(set(batch["indices"])) == 2, "two prompts, three times each"
    change_records(states, 3, "batch.json", lambda saved: saved[0]["responses"][4].update(text="an answer of mine"))
    found = answers(Progress(quiet=True))
    shutil.rmtree(folder)
    untouched = answers(Progress(quiet=True))
    changed = [number for number, pair in enumerate(zip(found, untouched, strict=True)) if pair[0] != pair[1]]
    assert changed == [3 * batch["indices"][4] + 1] and found[changed[0]].response == "an answer of mine"


# Refused before anything is trained


def test_what_cannot_be_measured_is_refused_before_anything_is_trained(registry: Registry) -> None:
    put_prompts(registry, "no-rhyme", [each for each in prompts_in(registry, "prompts/evaluation") if each.family != "rhyme"])
    context = tiny_policy().config.max_position_embeddings
    long = EVALUATION.model_copy(update={"max_new_tokens": context - 30})
    empty = {"policy": ["policy/base"], "demonstrations": ["dialogues/demonstrations"], **ANSWERED}
    for config, inputs, message in (
        (study_config(), {**POOLED, "samples": ROUNDS[:1]}, "samples/v1@1 is one round, and pooling needs two or more"),
        (study_config(), {**POOLED, "prompts": ["prompts/no-rhyme"]}, "prompts of prompts/no-rhyme@1 is of the family 'rhyme'"),
        (
            study_config(evaluation=EVALUATION.model_copy(update={"temperature": 0.0})),
            POOLED,
            "temperature 0 gives k = 2 equal responses",
        ),
        (
            study_config(evaluation=long),
            POOLED,
            f"and {context - 30} new tokens do not fit the context of {context} tokens",
        ),
        (
            study_config(tuning=TUNING.model_copy(update={"max_length": 3})),
            {**empty, "samples": ROUNDS},
            r"the arm 'last round' has no dialogue of at most tuning.max_length = 3 tokens",
        ),
    ):
        idle = Stopping()
        with pytest.raises(ValueError, match=message):
            make(registry, POOLING, config, inputs, "refused", idle)
        assert idle.labels == []


def test_one_answer_may_be_the_likeliest(registry: Registry) -> None:
    greedy = study_config(evaluation=EVALUATION.model_copy(update={"temperature": 0.0}), answers=1)
    assert len(arms_of(make(registry, POOLING, greedy, POOLED, "greedy"))["all rounds"]) == 35


# A larger model's samples


def test_size_distillation_compares_what_it_says(registry: Registry) -> None:
    arms = size_distillation.arms_of(study_config(), opened(registry, SIZED))
    beside = [f"The {word}!" for word in WORDS[:5]]
    own, larger = ([f"{version}: the {word} is here here " for word in WORDS[:5]] for version in ("v1", "v2"))
    assert {arm.name: last_words(arm.dialogues) for arm in arms} == {
        "demonstrations alone": beside, "own samples": beside + own, "larger policy's samples": beside + larger,
    }  # fmt: skip
    study = make(registry, SIZE_DISTILLATION, study_config(), SIZED, "sized")
    answers = arms_of(study)
    gold = {arm: fmean(a.gold_helpfulness for a in found if a.group == "helpful") for arm, found in answers.items()}
    (finding,) = told(study)["findings"]
    assert finding["id"] == "F29"
    gain = gold["larger policy's samples"] - gold["own samples"]
    assert finding["effects"][0]["estimate"]["value"] == pytest.approx(gain)
    worth = cells(study, 0)
    assert worth["own samples - demonstrations alone"]["gold helpfulness"] == pytest.approx(
        gold["own samples"] - gold["demonstrations alone"]
    )
    assert told(study)["notes"][1] == (
        "Own samples: samples/v1@1, 18 responses of policy/sft@1 to 6 prompts at temperature 1, 5 of them selected."
    )


def without_selected(rows: list[Sample], *prompt_ids: str) -> list[Sample]:
    return [dataclasses.replace(each, selected=each.selected and each.prompt_id not in prompt_ids) for each in rows]


def test_both_sides_learn_from_the_prompts_where_both_have_a_selected_response(registry: Registry) -> None:
    """Of six prompts the last has none on either side; p1 has none of own, p0 and p3 none of the larger policy's."""
    put_samples(registry, "own-partly", without_selected(samples("v1"), "p1"))
    put_samples(registry, "larger-partly", without_selected(samples("v2"), "p0", "p3"))
    partly = {**SIZED, "own": ["samples/own-partly"], "larger": ["samples/larger-partly"]}
    arms = {arm.name: last_words(arm.dialogues) for arm in size_distillation.arms_of(study_config(), opened(registry, partly))}
    beside = [f"The {word}!" for word in WORDS[:5]]
    assert arms["demonstrations alone"] == beside
    for arm, version in (("own samples", "v1"), ("larger policy's samples", "v2")):
        assert arms[arm] == beside + [f"{version}: the {WORDS[number]} is here here " for number in (2, 4)]
    study = make(registry, SIZE_DISTILLATION, study_config(answers=1), partly, "partly")
    assert told(study)["notes"][3] == (
        "Tuned on the 2 prompts where both have a selected response; 4 were left out: 2 where own samples alone have one, 1 "
        "where larger policy's samples alone, 1 where neither."
    )
    put_samples(registry, "none-in-both", without_selected(samples("v2"), "p0", "p2", "p3", "p4"))
    idle = Stopping()
    with pytest.raises(ValueError, match=r"no prompt has a selected response of both \(4 have one of own, 1 one of larger\)"):
        make(registry, SIZE_DISTILLATION, study_config(), {**partly, "larger": ["samples/none-in-both"]}, "refused", idle)
    assert idle.labels == []


def test_samples_that_differ_in_more_than_their_policy_are_refused(registry: Registry) -> None:
    put_samples(registry, "fewer-prompts", samples("v4", prompts=4))
    put_samples(registry, "other-prompts", [s for s in samples("v4", prompts=8) if s.prompt_id not in ("p0", "p1", "p2")])
    put_samples(registry, "more-a-prompt", samples("v4", k=4))
    put_samples(registry, "one-odd", samples("v4")[:-1])
    put_samples(registry, "other-judge", samples("v4"), ("helpfulness", "other"))
    put_samples(registry, "all-wrong", samples("v4", prompts=8, k=4), ("other", "other"))
    put_samples(registry, "unjudged", samples("v4"), ())
    same = "samples/v1@1 (own) and samples/{}@1 (larger) cannot be compared: "
    models = "different {} models scored them (reward_model/{}@1 and {}); score one of them anew: `rlhf rescore"
    apart = "they cover different prompts ({} are in own alone, {} in larger alone, {} in both; {} is in one alone)"
    uneven = "{} prompts have different numbers of samples ({}: 3 in own, {} in larger)"
    for name, parts in {
        "fewer-prompts": [apart.format(2, 0, 4, "p4")],
        "other-prompts": [apart.format(3, 2, 3, "p0")],
        "more-a-prompt": [uneven.format(6, "p0", 4)],
        "one-odd": [uneven.format(1, "p5", 2)],
        "other-judge": [models.format("safety", "safety", "reward_model/other@1")],
        "unjudged": [models.format(axis, axis, "one that is not known") for axis in AXES],
        "all-wrong": [
            apart.format(0, 2, 6, "p6"), uneven.format(6, "p0", 4),
            *(models.format(axis, axis, "reward_model/other@1") for axis in AXES),
        ],
    }.items():  # fmt: skip
        idle = Stopping()
        with pytest.raises(ValueError) as raised:
            make(registry, SIZE_DISTILLATION, study_config(), {**SIZED, "larger": [f"samples/{name}"]}, "refused", idle)
        assert str(raised.value).startswith(same.format(name) + parts[0]) and idle.labels == []
        assert [part in str(raised.value) for part in parts] == [True] * len(parts)
        found = sum(str(raised.value).count(word) for word in ("they cover", "different numbers", "models scored them"))
        assert found == len(parts), "and nothing else is wrong"
    unknown = {**SIZED, "own": ["samples/unjudged"], "larger": ["samples/unjudged"]}
    with pytest.raises(ValueError, match=r"one that is not known and one that is not known"):
        make(registry, SIZE_DISTILLATION, study_config(), unknown, "refused")


# The commands


def rlhf(registry: Registry, *words: str, recipe: str = "micro", code: int = 0) -> Any:
    shared = ("--recipe", recipe, "--registry", registry.root, "--seed", SEED, "--quiet")
    return run_here("study", *words, *shared, code=code)


@pytest.mark.parametrize(("name", "version", "rounds"), [("nano", "v4", 4), ("micro", "v2", 2)])
def test_pooling_reads_what_the_recipes_first_pooled_version_does(name: str, version: str, rounds: int) -> None:
    recipe = load_recipe(name)
    (tuned,) = [step for step in steps(recipe) if step.makes == f"policy/{version}"]
    study = planned_study(POOLING, recipe)[-1]
    found = study.inputs
    assert {role: found[role] for role in tuned.inputs} == tuned.inputs and len(found["samples"]) == rounds
    assert tuned.inputs["gatt"] == ("dialogues/gatt",)
    (measured,) = [step for step in steps(recipe) if step.makes == f"evaluation/{version}"]
    assert {role: found[role] for role in ("prompts", *AXES)} == {role: measured.inputs[role] for role in ("prompts", *AXES)}
    assert isinstance(study.config, TunedStudyConfig)
    assert study.config.tuning == tuned.config and study.config.evaluation == measured.config


def test_pooling_without_a_pooled_round_is_of_all_rounds() -> None:
    rounds = "rounds=[{version: v1, pool: last}, {version: v2, pool: last}, {version: v3, pool: last, gatt: true}]"
    found = planned_study(POOLING, load_recipe("micro", [rounds]))[-1].inputs
    assert found["samples"] == ("samples/v1", "samples/v2", "samples/v3")
    assert "gatt" not in found, "it is made after v3, so v3 is not tuned on it"


def test_the_pooling_command(registry: Registry) -> None:
    (dry,) = json.loads(rlhf(registry, "pooling", "--dry-run").stdout)["steps"]
    assert dry["inputs"] == {
        "policy": ["policy/base@1"], "demonstrations": ["dialogues/demonstrations@1"],
        "samples": ["samples/v1@1", "samples/v2@1"], "distilled": ["dialogues/distilled@1"], "gatt": ["dialogues/gatt@1"],
        "helpfulness": ["reward_model/helpfulness@1"], "safety": ["reward_model/safety@1"], "prompts": ["prompts/evaluation@1"],
    }  # fmt: skip
    assert (dry["config"]["answers"], dry["config"]["training_seeds"]) == (4, None)
    given = ("--input=samples=samples/v3", "--input=samples=samples/v1", "--input=gatt=dialogues/distilled",
             "--input=safety=reward_model/other", "--answers", "2", "--training-seeds", "1")  # fmt: skip
    (dry,) = json.loads(rlhf(registry, "pooling", "--dry-run", *given).stdout)["steps"]
    assert dry["inputs"]["samples"] == ["samples/v3@1", "samples/v1@1"] and dry["inputs"]["gatt"] == ["dialogues/distilled@1"]
    assert dry["inputs"]["safety"] == ["reward_model/other@1"]
    asked = [*given, "--set=evaluation.max_new_tokens=6", "--set=tuning.batch_size=4"]
    shown = rlhf(registry, "pooling", *asked)
    study = registry.resolve("study/pooling")
    assert f"F11 {study.manifest.metrics['findings']['F11']}: " in shown.stdout
    assert [len(answers) for answers in arms_of(study).values()] == [70] * 3
    assert study.manifest.config["tuning"]["batch_size"] == 4
    assert "study/pooling@1 (up to date)" in rlhf(registry, "pooling", *asked).stdout


TINY = [
    "--set=pretrain.vocab_size=400", "--set=sft.batch_size=8", "--set=evaluation.max_new_tokens=6", "--answers=1",
    "--set=pretrain.phases=[{documents: primer, num_tokens: 1024, block_size: 32}, {num_tokens: 1024, block_size: 64}]",
    "--set=rejection_sampling.num_helpful=3", "--set=rejection_sampling.num_adversarial=1", "--set=rejection_sampling.k=2",
    "--set=rejection_sampling.max_new_tokens=200", "--set=rejection_sampling.temperatures=[1.0]", "--training-seeds=1",
]  # fmt: skip


def test_the_small_model_and_its_samples_are_made_first(tmp_path: Path, registry: Registry) -> None:
    """The larger policy's samples were chosen by other models: they are scored anew, by those that score the small one's."""
    registry = Registry(shutil.copytree(registry.root, tmp_path / "registry"))
    make(registry, STAGES["corpus"], CorpusConfig(num_documents=120, num_primer_documents=60), {}, "corpus")
    config = DemonstrationsConfig(num_dialogues=16, adversarial_share=0.1)
    make(registry, STAGES["demonstrations"], config, {}, "demonstrations")
    prompts = PromptsConfig(split="train", num_helpful=3, num_adversarial=1, num_borderline=0)
    make(registry, STAGES["prompts"], prompts, {}, "tuning")
    larger = [
        Sample(
            each.id, each.messages, f"Sure! The {WORDS[place]}.", place, True, 6, each.is_safety, each.family, "policy/sft@1",
            1.2, 0.0, 0.0, 0.0, place == 0,
        )
        for each in prompts_in(registry, "prompts/tuning")
        for place in range(2)
    ]  # fmt: skip
    put_samples(registry, "v1", larger, ("other", "other"))
    *first, dry = json.loads(rlhf(registry, "size-distillation", *TINY, "--dry-run").stdout)["steps"]
    made = ["policy/base-pico", "policy/sft-pico", "samples/v1-pico", "samples/v1-rescored"]
    assert [step["makes"] for step in first] == made
    assert dry["inputs"]["own"] == ["samples/v1-pico"] and dry["inputs"]["larger"] == ["samples/v1-rescored"]
    assert dry["inputs"]["policy"] == ["policy/base-pico"]
    made_study = json.loads(rlhf(registry, "size-distillation", *TINY, "--size", "pico", "--json").stdout)
    study = registry.resolve(made_study["artifact"])
    parents = {role: given[0].reference for role, given in study.manifest.parents.items()}
    assert parents == {
        "policy": "policy/base-pico@1", "demonstrations": "dialogues/demonstrations@2", "own": "samples/v1-pico@1",
        "larger": "samples/v1-rescored@1", "prompts": "prompts/evaluation@1", "helpfulness": "reward_model/helpfulness@1",
        "safety": "reward_model/safety@1",
    }  # fmt: skip
    own, again = (registry.resolve(name) for name in made[2:])
    assert own.manifest.parents["policy"][0].reference == "policy/sft-pico@1" and own.manifest.config["batch"] == "round-1"
    assert again.manifest.parents["samples"][0].reference == "samples/v1@2"
    rows = [read_records(each.file("samples.parquet"), Sample) for each in (own, again)]
    places = [Counter((each.prompt_id, each.position) for each in side) for side in rows]
    assert places[0] == places[1] == Counter((each.prompt_id, each.position) for each in larger)
    scores = {each.response: each.helpfulness_score for each in rows[1]}
    assert len(set(scores.values())) > 1 and {each.response for each in larger} == set(scores), "scored, not sampled"
    again_and_again = rlhf(registry, "size-distillation", *TINY)
    assert "study/size-distillation@1 (up to date)" in again_and_again.stdout
    given = ("--input=policy=policy/base", "--input=own=samples/v2", "--input=larger=samples/v3", *TINY)
    (dry,) = json.loads(rlhf(registry, "size-distillation", *given, "--dry-run").stdout)["steps"]
    assert dry["inputs"]["own"] == ["samples/v2@1"]
    first, _ = json.loads(rlhf(registry, "size-distillation", *given[:2], *TINY, "--dry-run").stdout)["steps"]
    assert first["makes"] == "samples/v1-rescored"


def test_the_size_below_is_the_next_one() -> None:
    bases = [planned_study(SIZE_DISTILLATION, load_recipe(name), sizes=sizes)[-1].inputs["policy"] for name, sizes in (
        ("nano", ()), ("micro", ()), ("nano", ("pico",)),
    )]  # fmt: skip
    assert bases == [("policy/base-micro",), ("policy/base-pico",), ("policy/base-pico",)]


@pytest.mark.parametrize(
    ("arguments", "recipe", "message"),
    [
        (
            ("size-distillation", "--size", "micro"),
            "micro",
            "the small model must be smaller than micro",
        ),
        (("size-distillation", "--size", "nana"), "nano", "--size names 'nana'. Did you mean nano?"),
        (
            ("size-distillation", "--set", "pretrain.preset=pico"),
            "micro",
            "its model has the smallest size there is",
        ),
        (("size-distillation", "--input=policy=policy/base"), "micro", "the small base (--input policy=REF) and its samples"),
        (("size-distillation", "--input=own=samples/v1"), "micro", "are given together, or --size makes both"),
        (
            ("size-distillation", "--input=own=samples/v1", "--input=policy=policy/base", "--size", "pico"),
            "micro",
            "are given together",
        ),
        (("size-distillation",), "llama2-7b", "the recipe llama2-7b has none; give --input policy=REF and --input own=REF"),
        (("pooling",), "llama2-7b", "the recipe llama2-7b has no section 'evaluation'"),
        (("pooling", "--input=samples=samples/none", "--input=samples=samples/v2"), "micro", "samples/none"),
        (("pooling", "--input=samples=samples/v1"), "micro", "samples/v1@1 is one round"),
    ],
)
def test_wrong_usage(registry: Registry, arguments: tuple[str, ...], recipe: str, message: str) -> None:
    assert message in rlhf(registry, *arguments, recipe=recipe, code=2).output
