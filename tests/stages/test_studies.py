"""Each study on a few comparisons and random two-layer models: arms that differ in one thing, tables that add up."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from command_line import run_here
from fakes import tiny_policy, tiny_tokenizer
from stage_runs import by_arm, cells, make, prompts_in, put_policy, put_preferences, put_rows, told
from stopped_runs import Killed, Stopping, states_in
from transformers import LlamaForCausalLM

from eval.findings.reward_models import ScoredPair
from eval.reward_accuracy import ScoredComparison
from policy.architecture import llama_config
from policy.checkpoint import save_checkpoint
from preference_data.comparison import AXES, RATINGS, Comparison
from preference_data.messages import user
from preference_data.parquet import read_records
from preference_data.prompt import Prompt
from registry.artifact import Artifact
from registry.drafts import unfinished
from registry.saved_states import SavedStates, SaveEvery
from registry.store import Registry
from reward_model.scoring import RewardScorer
from sandbox.annotators import utility
from sandbox.gold import judge
from sandbox.hazards import REFUSAL
from stages.catalog import STAGES
from stages.data.make_world import cases_of, world_of
from stages.recipe import load_recipe
from stages.sections import CorpusConfig, DemonstrationsConfig, EvaluationConfig, PromptsConfig, RewardTrainingConfig
from stages.studies import margin
from stages.studies.arms.reward_arms import train_arms
from stages.studies.arms.trainings import Arm, trainings
from stages.study_catalog import STUDIES
from stages.study_sections import AccuracyStudyConfig, RewardStudyConfig, ScalingStudyConfig

WORDS = ["fox", "owl", "plum", "sea", "pot", "kitchen", "garden", "Napoleon"]
LABELS = {"helpfulness": [(None, None)], "safety": [(True, False), (True, True), (False, False), (True, False)]}


def comparisons(axis: str, side: str, prompts: list[Prompt], count: int = 16) -> list[Comparison]:
    """Longer answers are chosen; each prompt brings two. Those held out are about prompts of the sandbox; two refuse."""
    found = []
    for number in range(count):
        word, labels = WORDS[number % 8], LABELS[axis][number % len(LABELS[axis])]
        asked = prompts[number // 2]
        rejected = REFUSAL if number % 8 == 0 else f"{word} {number}"
        prompt = asked.messages if side == "test" else [user(f"Where is {word} {number}?")]
        found.append(
            Comparison(
                id=f"{axis}-{side}-{number}", item_id=str(number), prompt_id=asked.id if side == "test" else f"p{number}",
                source="test", prompt=prompt, chosen=f"Sure! The {word} is there, {number}.", rejected=rejected,
                rating=RATINGS[number % 4], axis=axis, is_safety=axis == "safety",
                chosen_safe=labels[0], rejected_safe=labels[1],
            )
        )  # fmt: skip
    return found


def small_policy(width: int) -> LlamaForCausalLM:
    config = llama_config("micro", len(tiny_tokenizer()))
    config.update({"hidden_size": width, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2})
    config.update({"head_dim": width // 2})
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("studies") / "registry")
    put_policy(registry, "sft")
    for width in (8, 16):
        put_policy(registry, f"width-{width}", policy=small_policy(width))
    config = PromptsConfig(split="test", num_helpful=8, num_adversarial=0, num_borderline=0)
    make(registry, STAGES["prompts"], config, {}, "evaluation")
    asked = prompts_in(registry, "prompts/evaluation")
    for axis in AXES:
        put_preferences(registry, f"{axis}-round-1", *(comparisons(axis, side, asked) for side in ("train", "test")))
    return registry


def training(axis: str, **changed: Any) -> RewardTrainingConfig:
    values = {"learning_rate": 1e-2, "batch_size": 4, "microbatch_size": 4, "max_length": 256, "mixture": "own"}
    return RewardTrainingConfig(axis=axis, **{**values, **changed})


def read_from(axis: str, *policies: str, prompts: bool = False) -> dict[str, list[str]]:
    inputs = {"policy": [f"policy/{name}" for name in policies or ("sft",)], "preferences": [f"preferences/{axis}-round-1"]}
    return inputs | ({"prompts": ["prompts/evaluation"]} if prompts else {})


def arms_of(study: Artifact) -> dict[str, list[ScoredPair]]:
    return by_arm(study, "pairs.parquet", ScoredPair)


def comparisons_in(registry: Registry, side: str, axis: str = "helpfulness") -> list[Comparison]:
    return read_records(registry.resolve(f"preferences/{axis}-round-1").file(f"{side}.parquet"), Comparison)


def once(axis: str, **changed: Any) -> RewardStudyConfig:
    return RewardStudyConfig(training=training(axis, **changed), training_seeds=1)


MARGIN = (STUDIES["margin"], once("helpfulness"), read_from("helpfulness", prompts=True))
SAFETY = (STUDIES["safety-loss"], once("safety", safety_loss_coef=2.0), read_from("safety"))


def test_an_arm_is_what_train_reward_makes(registry: Registry) -> None:
    """The scores of each arm are those of a model that the stage itself trains with that margin or weight."""
    for study, axis, field, values in (
        (MARGIN, "helpfulness", "margin", {"none": "none", "small": "small", "large": "large"}),
        (SAFETY, "safety", "safety_loss_coef", {"without": 0.0, "with": 2.0}),
    ):
        arms = arms_of(make(registry, *study, f"whole-{axis}"))
        assert len({tuple(pair.chosen for pair in arms[arm]) for arm in values}) == len(values), "arms differ"
        dialogues = [each.chosen_dialogue for each in comparisons_in(registry, "test", axis)]
        for arm, value in values.items():
            model = make(registry, STAGES["train-reward"], training(axis, **{field: value}), read_from(axis), f"{axis}-{arm}")
            assert [pair.chosen for pair in arms[arm]] == RewardScorer.load(model.path).score(dialogues).tolist()


@pytest.fixture
def margins(registry: Registry) -> Artifact:
    """What the study of the margin makes; the first test that asks for it makes it."""
    return make(registry, *MARGIN, "whole-helpfulness")


def test_margin_tables_by_hand(margins: Artifact) -> None:
    arms = arms_of(margins)
    right = {arm: [float(pair.chosen > pair.rejected) for pair in pairs] for arm, pairs in arms.items()}
    by_rating, differences, ends = (cells(margins, number) for number in range(3))
    for arm in ("none", "small", "large"):
        assert by_rating[f"margin {arm}"]["all"] == pytest.approx(fmean(right[arm]))
        better = [won for won, pair in zip(right[arm], arms[arm], strict=True) if pair.rating == "better"]
        assert by_rating[f"margin {arm}"]["better"] == pytest.approx(fmean(better)) and len(better) == 4
        scores = [1 / (1 + math.exp(-score)) for pair in arms[arm] for score in (pair.chosen, pair.rejected)]
        assert ends[f"margin {arm}"][margin.AT_THE_ENDS] == pytest.approx(fmean(not 0.05 <= s <= 0.95 for s in scores))
    assert differences["large - none"]["all"] == pytest.approx(fmean(right["large"]) - fmean(right["none"]))
    assert [finding["id"] for finding in told(margins)["findings"]] == ["F3", "F7"]
    assert margins.manifest.metrics["findings"].keys() == {"F3", "F7"}
    assert margins.file("scores.svg").read_text().startswith("<svg")


def test_the_ceiling_is_golds_own_accuracy(registry: Registry, margins: Artifact) -> None:
    prompts = registry.resolve("prompts/evaluation")
    world, cases = world_of(prompts), cases_of(prompts)
    credits = []
    for each in comparisons_in(registry, "test"):
        gap = [utility(judge(world, cases[each.prompt_id], text), "helpfulness") for text in (each.chosen, each.rejected)]
        credits.append(0.5 if gap[0] == gap[1] else float(gap[0] > gap[1]))
    assert cells(margins, 0)["annotators' own ceiling"]["all"] == pytest.approx(fmean(credits))


def test_comparisons_of_prompts_that_gold_does_not_know_have_no_ceiling(registry: Registry, margins: Artifact) -> None:
    """A team's own, beside the sandbox's evaluation prompts, which a study reads unless others are named."""
    own = [
        [replace(row, prompt_id=f"own-{row.prompt_id}") for row in comparisons_in(registry, side)] for side in ("train", "test")
    ]
    put_preferences(registry, "own", *own)
    study = make(registry, *MARGIN[:2], MARGIN[2] | {"preferences": ["preferences/own"]}, "own-comparisons")
    assert cells(margins, 0).keys() - cells(study, 0).keys() == {"annotators' own ceiling"}
    assert cells(study, 0)["margin small"] == cells(margins, 0)["margin small"]
    inputs = {"preferences": ["preferences/own"], "prompts": ["prompts/evaluation"]}
    with pytest.raises(ValueError, match=r"that prompts/evaluation@1 does not hold \(the first is own-.*use rlhf score"):
        make(registry, STAGES["evaluate-reward"], EvaluationConfig(max_new_tokens=8), inputs, "own")


def test_what_gold_finds_unsafe_is_the_ceiling_of_recall(registry: Registry) -> None:
    """Nothing here is unsafe to gold, refusals least of all, so it finds none of the responses that are labelled unsafe."""
    study = make(registry, *SAFETY[:2], read_from("safety", prompts=True), "with-gold")
    rows = told(study)["tables"][0]["rows"]
    assert rows[2]["name"] == "annotators' own ceiling"
    assert rows[2]["measured"]["recall at 0.5"]["value"] == 0 and rows[2]["measured"]["precision at 0.5"]["n"] == 0


def test_safety_loss_tables_by_hand(registry: Registry) -> None:
    study = make(registry, *SAFETY, "whole-safety")
    pairs = arms_of(study)["with"]
    table = cells(study, 0)["with auxiliary loss"]
    unsafe = [pair.chosen for pair in pairs if pair.chosen_safe is False]
    unsafe += [pair.rejected for pair in pairs if pair.rejected_safe is False]
    assert len(unsafe) == 8 + 4 + 4
    assert table["recall at 0.5"] == pytest.approx(fmean(score < 0 for score in unsafe))
    assert table["recall at 0.15"] == pytest.approx(fmean(1 / (1 + math.exp(-score)) < 0.15 for score in unsafe))
    flagged = [score for pair in pairs for score in (pair.chosen, pair.rejected) if score < 0]
    assert table["precision at 0.5"] == pytest.approx(fmean(score in unsafe for score in flagged) if flagged else 0.5)
    both_safe = [pair.chosen > pair.rejected for pair in pairs if pair.chosen_safe and pair.rejected_safe]
    assert table["both_safe"] == pytest.approx(fmean(both_safe)) and len(both_safe) == 4
    assert "annotators' own ceiling" not in cells(study, 0), "gold has no part where no prompts are given"
    (finding,) = told(study)["findings"]
    difference = cells(study, 1)["with - without"]
    assert finding["effects"][0]["estimate"]["value"] == difference["recall at 0.5"]
    assert difference["recall at 0.5"] == pytest.approx(
        table["recall at 0.5"] - cells(study, 0)["without auxiliary loss"]["recall at 0.5"]
    )


@pytest.mark.parametrize(("stop", "begun"), [(2, ["none", "small", "large"]), (6, ["small", "large"]), (11, ["large"])])
def test_a_run_that_is_done_is_not_trained_again(registry: Registry, margins: Artifact, stop: int, begun: list[str]) -> None:
    with pytest.raises(Killed):
        make(registry, *MARGIN, f"stopped-{stop}", Stopping(stop), save_every=SaveEvery(steps=1))
    assert states_in(registry, "run-*").numbers()[-1] == stop - 4 * (3 - len(begun)), (
        "four steps a run; what is done has left none"
    )
    again = Stopping()
    assert make(registry, *MARGIN, f"stopped-{stop}", again).digest == margins.digest
    assert [label.rpartition(" ")[2] for label in again.labels] == begun
    assert unfinished(registry.root) == ()


def test_several_trainings_of_an_arm_stand_side_by_side(registry: Registry, margins: Artifact) -> None:
    config = RewardStudyConfig(training=training("helpfulness"), training_seeds=2)
    first = arms_of(margins)["none"]
    study = make(registry, STUDIES["margin"], config, MARGIN[2], "twice")
    twice = arms_of(study)["none"]
    assert twice[:16] == first and [pair.prompt_id for pair in twice[16:]] == [pair.prompt_id for pair in first]
    assert [pair.chosen for pair in twice[16:]] != [pair.chosen for pair in first]
    assert len({run["training_seed"] for run in told(study)["facts"]["runs"]}) == 2
    assert told(study)["tables"][0]["rows"][0]["measured"]["all"]["n"] == 32
    assert "Each arm was trained 2 times" in told(study)["notes"][0] and "as asked for" in told(study)["notes"][0]


def arm(registry: Registry, name: str, count: int = 16, **changed: Any) -> Arm:
    rows = comparisons_in(registry, "train")[:count]
    return Arm(name, registry.resolve("policy/sft").path, training("helpfulness", margin="none", **changed), rows)


def test_the_cost_of_an_arm_is_reckoned_from_what_training_reads(registry: Registry) -> None:
    model = make(registry, STAGES["train-reward"], training("helpfulness", margin="none"), read_from("helpfulness"), "read")
    (log,) = (model.path / "logs").glob("*.jsonl")
    tokens = sum(json.loads(line)["num_tokens"] for line in log.read_text().splitlines())
    backbone = sum(parameter.numel() for parameter in tiny_policy(0).parameters())
    found = trainings([arm(registry, "few", 4), arm(registry, "all", epochs=10_000), arm(registry, "half", 8)], None)
    assert found.dearest_arm == "all"
    assert found.reckoned_seconds == pytest.approx(6 * backbone * tokens * 10_000 / 0.75e11, abs=0.001)


def test_scaling_trains_on_growing_shares(registry: Registry) -> None:
    config = ScalingStudyConfig(training=training("helpfulness"), training_seeds=1, shares=(0.25, 0.5, 1.0))
    study = make(registry, STUDIES["reward-scaling"], config, read_from("helpfulness"), "data")
    assert [run["num_comparisons"] for run in told(study)["facts"]["runs"]] == [4, 8, 16]
    verdicts = study.manifest.metrics["findings"]
    assert verdicts["F5"] in ("holds", "fails", "inconclusive") and verdicts["F6"] == "not measured"
    wins = {int(arm.split()[-2]): fmean(pair.chosen > pair.rejected for pair in pairs) for arm, pairs in arms_of(study).items()}
    (slope,) = told(study)["findings"][0]["effects"]
    assert slope["estimate"]["value"] == pytest.approx((wins[16] - wins[4]) / 2), "two doublings"
    assert study.file("scaling.svg").read_text().startswith("<svg")


def test_three_sizes_measure_size(registry: Registry) -> None:
    config = ScalingStudyConfig(training=training("helpfulness"), training_seeds=1, shares=(0.5, 1.0))
    inputs = read_from("helpfulness", "width-16", "sft", "width-8")
    study = make(registry, STUDIES["reward-scaling"], config, inputs, "sizes")
    sizes = {run["arm"]: run["num_parameters"] for run in told(study)["facts"]["runs"]}
    assert sizes["policy/width-8@1, 16 comparisons"] < sizes["policy/width-16@1, 16 comparisons"]
    growth, size = told(study)["findings"]
    assert len(growth["effects"]) == 3 and size["verdict"] != "not measured"
    arms = arms_of(study)
    large, small = (
        fmean(pair.chosen > pair.rejected for pair in arms[f"policy/{name}@1, 16 comparisons"]) for name in ("sft", "width-8")
    )
    assert size["effects"][0]["estimate"]["value"] == pytest.approx(large - small)


@pytest.mark.parametrize("shares", [(0.5,), (0.5, 0.9), (1.0, 0.5), (0.0, 1.0), (0.5, 0.5, 1.0)])
def test_shares_that_do_not_grow_to_all_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="shares"):
        ScalingStudyConfig(training=training("helpfulness"), shares=shares)


def scored(number: int, axis: str, gold: tuple[float, float], right: str) -> ScoredComparison:
    """The model ``right`` ranks as gold does, the other one the other way; its score is gold's utility as a logit in ten."""
    good, bad = (10 * value - 5 for value in gold)
    scores = {"helpfulness": (bad, good), "safety": (bad, good), right: (good, bad)}
    rating = RATINGS[number % 4] if number % 3 else RATINGS[0]
    return ScoredComparison(
        f"{axis}-{number}", axis, rating, *scores["helpfulness"], *scores["safety"], *gold, gold[0] > 0.5, gold[1] > 0.5
    )


def test_accuracy_judges_the_models_of_a_recipe(registry: Registry) -> None:
    rows = [
        scored(number, axis, (0.3 + number / 60, number / 90), axis)
        for axis in ("helpfulness", "safety")
        for number in range(40)
    ]
    put_rows(registry, "evaluation/by-hand", "comparisons.parquet", rows, ScoredComparison)
    inputs = {"evaluation": ["evaluation/by-hand"]}
    study = make(registry, STUDIES["accuracy"], AccuracyStudyConfig(safety_threshold=0.4), inputs, "accuracy")
    by_rating, correlations, threshold, opposite = (cells(study, number) for number in range(4))
    assert (
        by_rating["safety model, safety test set"]["all"] == 1 and by_rating["safety model, helpfulness test set"]["all"] == 0
    )
    assert by_rating["annotators' own ceiling, safety"]["all"] == 1
    assert correlations["safety model"]["Spearman"] > 0.95, "but for the steps of the scale"
    flagged = [(score, safe) for row in rows[40:] for score, safe in (
        (row.safety_chosen, row.chosen_safe), (row.safety_rejected, row.rejected_safe)
    ) if score < math.log(0.4 / 0.6)]  # fmt: skip
    assert threshold["safety score below 0.4"]["precision"] == pytest.approx(fmean(not safe for _, safe in flagged))
    (switch,) = [each for each in told(study)["findings"] if each["id"] == "F26"]
    assert switch["effects"][0]["name"] == "precision of a score below 0.15", "which is what the paper claims"
    paper = {row["name"]: row["paper"] for row in told(study)["tables"][2]["rows"]}
    assert paper == {"safety score below 0.15": {"precision": 0.89, "recall": 0.55}, "safety score below 0.4": {}}
    assert opposite["safety test set"]["opposite"] == 1, "the helpfulness model ranks them the other way"
    verdicts = study.manifest.metrics["findings"]
    assert (verdicts["F1"], verdicts["F8"]) == ("holds", "holds")
    assert verdicts["F2"] == "inconclusive", "every rating is right, so nothing rises"
    facts = told(study)["facts"]
    assert sum(facts["responses_by_both_scores"]["safe"].values()) == sum(row.chosen_safe for row in rows[40:]) + sum(
        row.rejected_safe for row in rows[40:]
    )
    assert [level["level"] for level in facts["calibration"]["helpfulness"]] == list(range(1, 8))
    assert {path.name for path in study.path.glob("*.svg")} == {"calibration.svg", "helpfulness-safety.svg"}


def test_accuracy_needs_both_axes(registry: Registry) -> None:
    rows = [scored(number, "safety", (0.9, 0.1), "safety") for number in range(4)]
    put_rows(registry, "evaluation/one-axis", "comparisons.parquet", rows, ScoredComparison)
    with pytest.raises(ValueError, match="evaluation/one-axis@1 holds no comparisons of helpfulness"):
        make(registry, STUDIES["accuracy"], AccuracyStudyConfig(), {"evaluation": ["evaluation/one-axis"]}, "accuracy")


def test_what_cannot_be_measured_is_refused_before_anything_is_trained(registry: Registry) -> None:
    put_preferences(registry, "nothing-held-out", comparisons_in(registry, "train"))
    idle = Stopping()
    with pytest.raises(ValueError, match="preferences/nothing-held-out@1 hold no comparisons out"):
        make(registry, *MARGIN[:2], {"policy": ["policy/sft"], "preferences": ["preferences/nothing-held-out"]}, "none", idle)
    without = once("safety", safety_loss_coef=0.0)
    with pytest.raises(ValueError, match="both arms would be the same"):
        make(registry, STUDIES["safety-loss"], without, read_from("safety"), "none", idle)
    with pytest.raises(ValueError, match="none of the 16 held-out comparisons has a response labelled unsafe"):
        make(registry, *SAFETY[:2], read_from("helpfulness"), "none", idle)
    mixed = once("helpfulness", mixture="paper")
    with pytest.raises(ValueError, match="needs comparisons of the other axis"):
        make(registry, STUDIES["margin"], mixed, read_from("helpfulness"), "none", idle)
    scaling = ScalingStudyConfig(training=training("helpfulness"))
    with pytest.raises(ValueError, match="two of the policies are of one size"):
        make(registry, STUDIES["reward-scaling"], scaling, read_from("helpfulness", "width-8", "width-8"), "none", idle)
    assert idle.labels == []


def test_what_is_held_out_must_fit_before_anything_is_trained(registry: Registry, tmp_path: Path) -> None:
    policy = small_policy(8)
    policy.config.max_position_embeddings = 16
    save_checkpoint(policy, tiny_tokenizer(), tmp_path / "policy")
    arm = Arm("brief", tmp_path / "policy", training("helpfulness"), comparisons_in(registry, "train"))
    states, idle = SavedStates(tmp_path / "states", print, SaveEvery.parse("1m")), Stopping()
    with pytest.raises(ValueError, match=r"16 held-out comparisons .* 16 tokens.*helpfulness-test-0, .* and 11 "):
        train_arms([arm], comparisons_in(registry, "test"), trainings([arm], 1), 0, idle, states)
    assert idle.labels == []


# The command

SETTINGS = [f"--set={axis}.{name}" for axis in ("helpfulness", "safety") for name in ("mixture=own", "batch_size=4")]
GIVEN = ["--recipe", "micro", *SETTINGS, "--seed", "3", "--quiet"]


def rlhf(registry: Registry, *words: str, code: int = 0) -> Any:
    return run_here("study", *words, *GIVEN, "--registry", registry.root, code=code)


def test_the_command_prints_tables_and_verdicts(registry: Registry) -> None:
    asked = ("margin", "--input", "preferences=preferences/helpfulness-round-1")
    made = json.loads(rlhf(registry, *asked, "--json").stdout)
    study = registry.resolve("study/margin")
    assert made["artifact"] == "study/margin@1" and made["digest"] == study.digest
    assert {key: made[key] for key in ("title", "notes", "tables", "findings", "facts")} == told(study)
    assert (len(made["facts"]["runs"]), len({run["training_seed"] for run in made["facts"]["runs"]})) == (9, 3)
    trained = made["facts"]["trainings"]
    assert (trained["number"], trained["by_rule"]) == (3, True) and trained["reckoned_seconds"] < 20
    assert study.manifest.config["training_seeds"] is None, "what was asked for is the rule"
    shown = rlhf(registry, *asked)
    assert "study/margin@1 (up to date)" in shown.stdout
    lines = shown.stdout.splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith("margin none"))
    value = made["tables"][0]["rows"][0]["measured"]["all"]
    assert lines[row].endswith(f"{100 * value['value']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}] n=48")
    assert lines[row + 1].split("\t") == ["  paper", "79.1", "66.9", "59.8", "54.5", "62.5"]
    assert f"F3 {made['findings'][0]['verdict']}: the margin helps separable pairs" in shown.stdout
    assert lines[0] == "Does the margin of the ranking loss help?" and "Each arm was trained 3 times" in lines[1]
    assert f"{made['findings'][0]['effects'][2]['verdict']}: negligibly better, accuracy: large - none" in shown.stdout
    assert "claimed below 0.01, paper -0.002" in shown.stdout
    assert str(study.path / "scores.svg") in shown.stdout


def test_the_command_finds_what_the_recipes_run_made(registry: Registry) -> None:
    """The micro recipe has two rounds, and this registry one: the second is named in the error."""
    assert "preferences/helpfulness-round-2" in rlhf(registry, "margin", "--dry-run", code=2).output
    dry = rlhf(
        registry, "safety-loss", "--input", "preferences=preferences/safety-round-1", "--dry-run", "--training-seeds", "2"
    )
    (shown,) = json.loads(dry.stdout)["steps"]
    assert shown["inputs"] == {
        "policy": ["policy/sft@1"], "preferences": ["preferences/safety-round-1@1"], "prompts": ["prompts/evaluation@1"],
    }  # fmt: skip
    assert shown["config"]["training_seeds"] == 2 and shown["config"]["training"]["axis"] == "safety"


TINY = [
    "--set=pretrain.vocab_size=400", "--set=sft.epochs=1", "--set=sft.batch_size=8",
    "--set=pretrain.phases=[{documents: primer, num_tokens: 1024, block_size: 32}, {num_tokens: 1024, block_size: 64}]",
]  # fmt: skip


def test_sizes_are_pretrained_as_the_recipe_does_and_then_studied(tmp_path: Path, registry: Registry) -> None:
    """micro's own size is ``policy/sft``; the others are made, and made once."""
    registry = Registry(shutil.copytree(registry.root, tmp_path / "registry"))
    make(registry, STAGES["corpus"], CorpusConfig(num_documents=120, num_primer_documents=60), {}, "corpus")
    make(
        registry, STAGES["demonstrations"], DemonstrationsConfig(num_dialogues=16, adversarial_share=0.1), {}, "demonstrations"
    )
    asked = ("reward-scaling", "--sizes", "pico, micro,nano", "--input", "preferences=preferences/helpfulness-round-1", *TINY)
    *first, dry = json.loads(rlhf(registry, *asked, "--dry-run").stdout)["steps"]
    makes_first = ["policy/base-pico", "policy/sft-pico", "policy/base-nano", "policy/sft-nano"]
    assert [step["makes"] for step in first] == makes_first
    assert dry["inputs"]["policy"] == ["policy/sft-pico", "policy/sft@1", "policy/sft-nano"]
    made = json.loads(rlhf(registry, *asked, "--training-seeds", "1", "--json").stdout)
    assert {str(each.reference) for each in registry.list("policy")} == {
        "policy/sft@1", "policy/width-8@1", "policy/width-16@1", *(f"{name}@1" for name in makes_first),
    }  # fmt: skip
    bases = [registry.resolve(f"policy/base-{preset}").manifest for preset in ("pico", "nano")]
    assert [base.config.pop("preset") for base in bases] == ["pico", "nano"] and bases[0].config == bases[1].config
    assert bases[0].metrics["tokens"] == bases[1].metrics["tokens"] == 2048
    tuned = registry.resolve("policy/sft-pico").manifest
    parents = [tuned.parents[role][0].reference for role in ("policy", "dialogues")]
    assert parents == ["policy/base-pico@1", "dialogues/demonstrations@1"]
    assert tuned.config == load_recipe("micro", [each.removeprefix("--set=") for each in TINY]).sft.model_dump(mode="json")
    sizes = {run["arm"].split("@")[0]: run["num_parameters"] for run in made["facts"]["runs"]}
    assert sizes["policy/sft"] < sizes["policy/sft-pico"] < sizes["policy/sft-nano"], "the policy/sft of this test is tiny"
    growth, size = made["findings"]
    assert len(growth["effects"]) == 3 and size["effects"][0]["name"].startswith(f"accuracy: {sizes['policy/sft-nano']:,} - ")
    again = rlhf(registry, *asked, "--training-seeds", "1")
    assert "study/reward-scaling@1 (up to date)" in again.stdout
    assert [each.reference.revision for each in registry.list("policy")] == [1] * 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("reward-scaling", "--sizes", "pico,micra"), "--sizes names 'micra'. Did you mean micro?"),
        (("reward-scaling", "--sizes", ","), "--sizes is ','; give presets separated by commas"),
        (("reward-scaling", "--sizes", "pico", "--input=policy=policy/sft"), "--sizes and --input policy=REF both say what to"),
        (("margin", "--sizes", "pico,nano"), "No such option"),
        (
            ("margin", "--input=policy=policy/sft", "--input=policy=policy/width-8"),
            "takes one artifact as policy, and 2",
        ),
        (("accuracy", "--input", "evaluation=evaluation/none"), "evaluation/none"),
        (("accuracy", "--input", "evaluations=evaluation/none"), "Did you mean evaluation?"),
        (("margins",), "No such command 'margins'"),
    ],
)
def test_wrong_usage(registry: Registry, arguments: tuple[str, ...], message: str) -> None:
    assert message in rlhf(registry, *arguments, code=2).output


def test_a_team_has_no_corpus_to_pretrain_other_sizes_on(registry: Registry) -> None:
    asked = ("study", "reward-scaling", "--sizes", "pico,nano", "--recipe", "llama2-7b", "--registry", registry.root)
    assert "the recipe llama2-7b has none; give --input policy=REF" in run_here(*asked, code=2).output
