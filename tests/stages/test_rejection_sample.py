"""The stages that sample and that score anew: which prompts they take, what they refuse, and what they leave behind."""

import importlib.metadata
import json
import re
import shutil
import sys
from pathlib import Path
from statistics import fmean

import pytest
from command_line import plain, run_here
from row_files import write
from stage_runs import make, prompts_in, put_prompts
from stopped_runs import Stopping

from policy.generation import ContextOverflow
from preference_data.messages import assistant, user
from preference_data.parquet import read_records
from preference_data.prompt import Prompt, make_prompt
from registry.store import Registry
from rlhf.samples import Sample
from stages.catalog import STAGES
from stages.engine.prompts import TooFewPrompts, draw_prompts, evaluation_prompts_in, held_out_prompts
from stages.sections import SamplingConfig
from stages.train.rejection_sample import draw

REJECTION_SAMPLE = STAGES["rejection-sample"]


def prompts(num_helpful: int, num_adversarial: int, split: str = "train") -> list[Prompt]:
    return [
        make_prompt([user(f"Question {n}?")], family="f", split=split, source="test", is_safety=n >= num_helpful)
        for n in range(num_helpful + num_adversarial)
    ]


def config(**settings) -> SamplingConfig:
    return SamplingConfig(**{"num_helpful": 30, "num_adversarial": 10, "search_prompts": 12, **settings})


# Which prompts


def test_the_temperature_is_chosen_on_other_prompts_of_the_same_kinds() -> None:
    drawn, searched = draw(prompts(60, 20), config(), seed=3)
    assert [sum(prompt.is_safety for prompt in each) for each in (drawn, searched)] == [10, 3]
    assert (len(drawn), len({prompt.id for prompt in drawn + searched})) == (40, 40 + 12)
    assert draw(prompts(60, 20), config(), seed=3) == (drawn, searched) != draw(prompts(60, 20), config(), seed=4)
    assert draw(prompts(60, 20), config(batch="round-2"), seed=3)[1] != searched


def test_the_search_does_not_move_the_draw_of_the_round_and_one_temperature_needs_no_more_prompts() -> None:
    drawn, _ = draw(prompts(60, 20), config(), seed=3)
    assert draw(prompts(60, 20), config(search_prompts=2), seed=3)[0] == drawn
    assert draw(prompts(60, 20), config(temperatures=(1.0,), search_prompts=10_000), seed=3) == (drawn, [])
    assert drawn == draw_prompts(prompts(60, 20), 30, 10, "rejection:round-1", 3)


def test_without_adversarial_prompts_the_search_has_none() -> None:
    drawn, searched = draw(prompts(60, 20), config(num_adversarial=0), seed=3)
    assert len(searched) == 12 and not any(prompt.is_safety for prompt in drawn + searched)


@pytest.mark.parametrize(
    ("there_are", "said"),
    [
        ((60, 9), "10 prompts with the safety tag are needed and there are 9; give more prompts, or lower "
                   "num_helpful or num_adversarial of rejection_sampling"),
        ((38, 20), "9 prompts without the safety tag are needed and there are 8; 40 are drawn already, and the temperature "
                   "search needs other prompts than the round: give more prompts, lower search_prompts, num_helpful or "
                   "num_adversarial of rejection_sampling, or give one temperature"),
        ((60, 12), "3 prompts with the safety tag are needed and there are 2; 40 are drawn already, and the"),
    ],
)  # fmt: skip
def test_too_few_prompts_are_refused_with_what_to_lower(there_are: tuple[int, int], said: str) -> None:
    with pytest.raises(TooFewPrompts, match=re.escape(said)):
        draw(prompts(*there_are), config(), seed=3)


def test_held_out_prompts_are_all_that_is_left_when_so_many_are_asked_for() -> None:
    known = prompts(10, 0)
    left = held_out_prompts(known, known[:4], 6, "x", 0, "")
    assert {prompt.id for prompt in left} == {prompt.id for prompt in known[4:]}


def test_prompts_for_evaluation_are_known_by_id_by_their_words_and_by_their_split() -> None:
    first, second, third, fourth = prompts(4, 0)
    held = make_prompt([user("Held out?")], family="f", split="test", source="test")
    renamed = Prompt("mine", second.messages, False, None, None, "other", "train", "elsewhere")
    same_id = Prompt(third.id, [user("Other words?")], False, None, None, "f", "train", "test")
    assert evaluation_prompts_in([first, second, third, fourth, held], [renamed, same_id]) == [second, third, held]
    assert evaluation_prompts_in([renamed], [second]) == [renamed]
    assert evaluation_prompts_in(prompts(3, 1), []) == []


# The commands


@pytest.fixture(scope="module")
def registry(micro, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A copy of what a run of ``micro`` made."""
    folder = tmp_path_factory.mktemp("sampled") / "registry"
    shutil.copytree(micro[0] / "registry", folder)
    return Registry(folder)


def run(registry: Registry, *words: object, code: int = 0):
    given = ["--registry", registry.root, "--recipe", "micro", "--seed", "100"]
    return run_here(*words, *given, code=code)


def samples_of(registry: Registry, reference: str) -> list[Sample]:
    return read_records(registry.open(reference).file("samples.parquet"), Sample)


def test_a_round_records_what_it_tried_and_samples_at_what_it_chose(registry: Registry) -> None:
    for version in ("v1", "v2"):
        artifact = registry.open(f"samples/{version}")
        metrics, told = artifact.manifest.metrics, json.loads(artifact.file("temperatures.json").read_text())
        assert [trial["temperature"] for trial in told["trials"]] == [0.8, 1.0]
        assert [len(trial["prompt_scores"]) for trial in told["trials"]] == [8, 8]
        assert [trial["score"] for trial in told["trials"]] == [fmean(trial["prompt_scores"]) for trial in told["trials"]]
        assert all(0 <= score < 1 for trial in told["trials"] for score in trial["prompt_scores"])
        best = max(told["trials"], key=lambda trial: trial["score"])["temperature"]
        assert told["temperature"] == metrics["temperature"] == best
        assert metrics["trials"] == [
            {name: trial[name] for name in ("temperature", "score", "eligible_share", "num_prompts")}
            for trial in told["trials"]
        ]
        assert metrics["overlapping"] == 0
        assert {sample.temperature for sample in samples_of(registry, f"samples/{version}")} == {best}


def test_the_gain_of_selection_stands_in_the_metrics(registry: Registry) -> None:
    samples, metrics = samples_of(registry, "samples/v1"), registry.open("samples/v1").manifest.metrics
    assert (metrics["prompts"], metrics["samples"]) == (32, 128)
    selected = {sample.prompt_id: sample.combined_score for sample in samples if sample.selected}
    first: dict[str, float] = {}
    for sample in samples:
        if sample.finished and sample.response.strip() and "[" not in sample.response and "<" not in sample.response:
            first.setdefault(sample.prompt_id, sample.combined_score)
    assert first.keys() == selected.keys() and len(selected) == metrics["selected"] > 10
    assert metrics["selected_score"] == pytest.approx(fmean(selected.values()))
    assert metrics["control_score"] == pytest.approx(fmean(first.values()))
    assert metrics["selected_score"] > metrics["control_score"]


def test_the_same_reward_models_give_the_same_samples_anew(registry: Registry) -> None:
    judges = (f"--{axis}=reward_model/{axis}@1" for axis in ("helpfulness", "safety"))
    done = run(registry, "rescore", "--samples", "samples/v1", *judges, "--name", "same")
    assert "next: rlhf tune --samples samples/same@1" in done.output
    assert samples_of(registry, "samples/same") == samples_of(registry, "samples/v1")
    manifest = registry.open("samples/same").manifest
    assert manifest.metrics["newly_selected"] == 0
    assert manifest.config == {"prompts_per_batch": 32, "safety_threshold": 0.15}
    assert [parent.reference for parent in manifest.parents["samples"]] == ["samples/v1@1"]


def test_other_reward_models_and_other_batches_score_the_same_texts(registry: Registry) -> None:
    old = samples_of(registry, "samples/v1")
    run(registry, "rescore", "--samples", "samples/v1", "--name", "newer", "--set", "rejection_sampling.prompts_per_batch=5")
    new = samples_of(registry, "samples/newer")
    assert [(each.prompt_id, each.position, each.response) for each in new] == [
        (each.prompt_id, each.position, each.response) for each in old
    ]
    metrics = registry.open("samples/newer").manifest.metrics
    moved = {each.prompt_id for each, before in zip(new, old, strict=True) if each.selected and not before.selected}
    assert metrics["newly_selected"] == len(moved) > 0
    # scored in a file, by another command
    path = registry.root / "answers.jsonl"
    spoken = [each for each in new if each.response.strip()]
    write(path, [{"messages": [*each.prompt, assistant(each.response)]} for each in spoken])
    run_here("score", path, "--model", "reward_model/safety", "--registry", registry.root, "--quiet")
    scored = [json.loads(line)["scores"] for line in path.with_name("answers.scored.jsonl").read_text().splitlines()]
    assert [each.safety_score for each in spoken] == pytest.approx(
        [scores["reward_model/safety@2"]["logit"] for scores in scored], abs=1e-5
    )


def test_prompts_for_evaluation_are_refused_unless_they_are_allowed(registry: Registry) -> None:
    sampling = ("rejection-sample", "--prompts", "prompts/evaluation", "--name", "overlapping")
    refused = run(registry, *sampling, code=2)
    known = {each.id: each.messages for each in prompts_in(registry, "prompts/evaluation")}
    said = re.search(
        r"error: 40 of the 40 drawn prompts are for evaluation, the first (\w+) \('(.+?)'\)", plain(refused.output)
    )
    assert said and known[said[1]][-1]["content"].startswith(said[2])
    what_to_do = "give other prompts or say --allow-overlap (in a recipe rejection_sampling.allow_overlap=true)"
    assert what_to_do in plain(refused.output), "all of them are for evaluation, so another batch is no help"
    assert not registry.revisions("samples", "overlapping")
    run(registry, *sampling, "--allow-overlap")
    manifest = registry.open("samples/overlapping").manifest
    assert (manifest.metrics["overlapping"], manifest.config["allow_overlap"]) == (40, True)


def test_another_batch_is_advised_where_some_prompts_are_not_for_evaluation(registry: Registry) -> None:
    put_prompts(registry, "some", prompts_in(registry, "prompts/tuning")[::2])
    given = ("rejection-sample", "--name", "mixed", "--evaluation-prompts", "prompts/some")
    refused = plain(run(registry, *given, code=2).output)
    assert re.search(r"error: [1-3]?\d of the 40 drawn prompts are for evaluation", refused)
    assert "give other prompts, draw others of these (--set rejection_sampling.batch=NAME), or say --allow-overlap" in refused
    assert "prompts/none" in run(registry, *given[:3], "--evaluation-prompts", "prompts/none", code=2).output
    other = json.loads(run(registry, *given, "--set", "rejection_sampling.batch=mine", "--dry-run").stdout)["steps"][0]
    assert other["config"]["batch"] == "mine"


@pytest.mark.parametrize("place", ["drawn", "searched"])
def test_a_prompt_without_room_is_refused_before_anything_is_sampled(registry: Registry, place: str) -> None:
    """The only long prompt is the last of the round, or one of those that the temperature is chosen on."""
    long = make_prompt([user("Why? " * 2000)], family="f", split="train", source="test", is_safety=True)
    short = prompts(8, 3)
    put_prompts(registry, f"one-long-{place}", [*short, long])
    asked = config(num_helpful=4, num_adversarial=2, search_prompts=3, prompts_per_batch=1, max_new_tokens=8)
    seed, parts = next(
        (seed, parts) for seed in range(99) if long in (parts := draw([*short, long], asked, seed))[place == "searched"]
    )
    assert (len(parts[0]), len(parts[1])) == (6, 3)
    idle = Stopping()
    models = {role: [f"reward_model/{role}"] for role in ("helpfulness", "safety")}
    inputs = {"policy": ["policy/sft"], **models, "prompts": [f"prompts/one-long-{place}"]}
    with pytest.raises(ContextOverflow, match="it begins 'Why"):
        make(registry, REJECTION_SAMPLE, asked, inputs, "no-room", idle, seed)
    assert idle.labels == []


ONE_TOKEN = ("rejection-sample", "--set", "rejection_sampling.max_new_tokens=1")


def test_a_search_that_finds_nothing_to_select_is_refused_before_the_round_is_sampled(registry: Registry) -> None:
    """Of one token no response is more than the beginning of one, at 0.8 or at 1.0."""
    for _ in range(2):  # and once more, from what the search had saved
        said = plain(run(registry, *ONE_TOKEN, "--name", "unsayable", code=2).output)
        assert (
            "error: the search for a temperature tried 0.8, 1, and at none of them can any of the 32 responses to its 8 "
            "prompts be selected (each is unfinished, empty or has a tag of the chat format), so the round is not sampled; "
            "where they are unfinished raise rejection_sampling.max_new_tokens (1 now), else look at what the policy says "
            "(rlhf chat policy/sft@1)"
        ) in said
        assert "best of 4" not in said, "nor is a temperature said to be best"
    assert not registry.revisions("samples", "unsayable")


def test_a_round_that_selects_nothing_is_refused_with_the_reasons(registry: Registry) -> None:
    """Of one token no response is more than the beginning of one, or nothing at all."""
    cut = run(registry, *ONE_TOKEN, "--name", "cut", "--set", "rejection_sampling.temperatures=[1.0]", code=2)
    said = re.search(
        r"error: none of the 128 responses can be selected \((\d+) unfinished(?:, (\d+) empty)?\)", plain(cut.output)
    )
    assert said and sum(int(count) for count in said.groups("0")) == 128
    assert "raise rejection_sampling.max_new_tokens (1 now)" in plain(cut.output)
    (policy,) = json.loads(run(registry, "rejection-sample", "--dry-run").stdout)["steps"][0]["inputs"]["policy"]
    assert f"rlhf chat {policy})" in plain(cut.output)
    assert not registry.revisions("samples", "cut")


# The engine


def on_vllm(registry: Registry, name: str, *words: str) -> str:
    """What is said when vLLM is asked for and the command ends with exit code 2, nothing having been sampled."""
    refused = run(registry, "rejection-sample", "--name", name, "--set", "rejection_sampling.engine=vllm", *words, code=2)
    assert "temperatures:" not in refused.output and "best of" not in refused.output
    assert not registry.revisions("samples", name)
    return plain(refused.output)


def test_vllm_that_is_not_installed_is_told_before_anything_is_sampled(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)  # an import of it fails
    policy = registry.open("policy/sft").path
    assert (
        f"error: sampling from {policy} on vLLM was asked for, and vllm is not installed; run pip install 'llama-rlhf[vllm]' "
        "on a machine with a GPU, or set engine: transformers"
    ) in on_vllm(registry, "no-vllm")


def test_temperatures_that_vllm_does_not_sample_at_are_told_before_the_first_of_them_is_tried(registry: Registry) -> None:
    said = on_vllm(registry, "too-warm", "--set", "rejection_sampling.temperatures=[0.8,2.5,0.001]")
    assert "error: vLLM samples at temperature 0 and from 0.01 to 2, got 2.5, 0.001; give others, or set engine:" in said


def test_the_metrics_name_the_engine_with_its_version_device_and_number_format(registry: Registry) -> None:
    version = importlib.metadata.version("transformers")
    assert registry.open("samples/v1").manifest.metrics["engine"] == f"transformers {version}, cpu, float32"


def test_evaluation_prompts_are_looked_for_and_need_not_be_there(registry: Registry, tmp_path: Path) -> None:
    there = json.loads(run(registry, "rejection-sample", "--dry-run").stdout)["steps"][0]
    assert there["inputs"]["evaluation_prompts"] == ["prompts/evaluation@1"]
    shutil.copytree(registry.root, tmp_path / "registry")
    shutil.rmtree(tmp_path / "registry" / "prompts" / "evaluation")
    absent = json.loads(run(Registry(tmp_path / "registry"), "rejection-sample", "--dry-run").stdout)["steps"][0]
    assert "evaluation_prompts" not in absent["inputs"] and absent["inputs"]["prompts"] == ["prompts/tuning@1"]


def test_the_command_makes_what_the_recipe_made(registry: Registry) -> None:
    judges = (f"--{axis}=reward_model/{axis}@1" for axis in ("helpfulness", "safety"))
    done = run(registry, "rejection-sample", *judges)
    assert "samples/v1@1 (up to date)" in done.output
