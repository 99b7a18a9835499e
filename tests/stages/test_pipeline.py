"""The order of the recipe's steps, read off the plan."""

import pytest

from stages.pipeline import describe_rounds, steps
from stages.recipe import load_recipe
from stages.references import consistency_arms, final_policy, measured_policies


def plan():
    return steps(load_recipe("nano"))


@pytest.mark.parametrize("findings", ["core", "all"])
def test_every_input_is_made_before_it_is_needed(findings):
    made = set()
    for step in steps(load_recipe("nano"), findings):
        for texts in step.inputs.values():
            assert set(texts) <= made, step.makes
        made.add(step.makes)


def test_nano_runs_the_papers_five_versions_and_ppo_on_the_last():
    names = [step.name for step in plan() if step.stage.kind == "policy"]
    assert names == ["base", "sft", "v1", "v2", "v3", "v3-gatt", "v4", "v5", "v5-ppo"]
    assert final_policy(load_recipe("nano")) == "policy/v5-ppo"
    assert measured_policies(load_recipe("nano")) == ["sft", "v1", "v2", "v3", "v4", "v5", "v5-ppo"]
    assert consistency_arms(load_recipe("nano")) == {"without": "v3", "v3_gatt": "v3-gatt", "with": "v5-ppo"}


def step(makes):
    return [found for found in plan() if found.makes == makes][-1]


def test_samples_are_of_the_last_round_until_v3_and_of_all_from_v4():
    assert [step(f"policy/v{n}").inputs["samples"] for n in (1, 2, 3)] == [("samples/v1",), ("samples/v2",), ("samples/v3",)]
    assert step("policy/v4").inputs["samples"] == ("samples/v1", "samples/v2", "samples/v3", "samples/v4")


def test_ghost_attention_stays_in_the_mix_of_later_versions():
    assert [step(f"policy/v{n}").inputs.get("gatt") for n in (3, 4, 5)] == [None, ("dialogues/gatt",), ("dialogues/gatt",)]
    assert step("samples/v4").inputs["policy"] == ("policy/v3-gatt",)


def test_reward_models_see_all_comparisons_so_far():
    rounds = [found for found in plan() if found.makes == "reward_model/safety"]
    assert [len(found.inputs["preferences"]) for found in rounds] == [1, 2, 3, 4, 5]


def test_each_round_asks_the_previous_and_the_current_policy():
    asked = [found.inputs["policies"] for found in plan() if found.stage.name == "annotate"]
    assert asked == [
        ("policy/base", "policy/sft"),
        ("policy/sft", "policy/v1"),
        ("policy/v1", "policy/v2"),
        ("policy/v2", "policy/v3-gatt"),
        ("policy/v3-gatt", "policy/v4"),
    ]


def test_ppo_starts_from_the_last_version_and_distillation_is_filtered_by_the_first_safety_model():
    order = [found.makes for found in plan()]
    assert step("policy/v5-ppo").inputs["policy"] == ("policy/v5",)
    assert order.index("dialogues/distilled") < order.index("policy/v1")
    assert order.index("reward_model/safety") < order.index("dialogues/distilled")


def test_samples_are_kept_apart_from_the_evaluation_prompts_that_a_recipe_has():
    sampling = [found for found in plan() if found.stage.name == "rejection-sample"]
    assert [found.inputs["evaluation_prompts"] for found in sampling] == [("prompts/evaluation",)] * 5
    team = [found for found in steps(load_recipe("llama2-7b")) if found.stage.name == "rejection-sample"]
    assert [found.inputs.get("evaluation_prompts", ()) for found in team] == [()] * 5


def test_rounds_are_told_in_words():
    told = describe_rounds(load_recipe("nano"))
    grid = "at the best of the temperatures 0.6, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.5 on 64 others"
    assert len(told) == 5
    assert told[0] == (
        "v1: policy/base and policy/sft answer for the annotators. "
        "The reward models start from policy/sft and read the comparisons of round-1. "
        f"samples/v1: 8 responses of policy/sft to each of 640 benign and 60 adversarial prompts, {grid}. "
        "policy/v1: policy/base tuned on 800 demonstrations, dialogues/distilled and the best of samples/v1."
    )
    assert told[3] == (
        "v4: policy/v2 and policy/v3-gatt answer for the annotators. "
        "The reward models start from policy/v3-gatt and read the comparisons of round-1, round-2, round-3, round-4. "
        f"samples/v4: 8 responses of policy/v3-gatt to each of 640 benign and 60 adversarial prompts, {grid}. "
        "policy/v4: policy/base tuned on 800 demonstrations, dialogues/distilled, dialogues/gatt and the best of samples/v1, "
        "samples/v2, samples/v3, samples/v4."
    )
    assert told[2].endswith(" policy/v3-gatt: policy/v3 tuned on dialogues/gatt, which it makes.")


def test_rounds_of_a_team_and_without_a_search_are_told_in_words():
    overrides = ("rejection_sampling.temperatures=[1.2]", "tuning.targets=random")
    told = describe_rounds(load_recipe("llama2-7b", overrides))
    assert told[1] == (
        "v2: people annotate (data/round-2-helpfulness.jsonl, data/round-2-safety.jsonl). "
        "The reward models start from policy/v1 and read the comparisons of round-1, round-2. "
        "samples/v2: 16 responses of policy/v1 to each of 20000 benign and 5000 adversarial prompts, at temperature 1.2. "
        "policy/v2: policy/base tuned on 27540 demonstrations, dialogues/distilled and random ones of samples/v2."
    )


STUDIES = [
    f"study/{name}"
    for name in (
        "accuracy", "safety-loss", "margin", "reward-scaling", "best-of-n", "temperature", "pooling", "size-distillation",
        "versions", "goodhart", "whitening", "gatt-intermediate", "gatt",
    )
]  # fmt: skip
CORE_STUDIES = ["study/accuracy", "study/safety-loss", "study/best-of-n", "study/versions", "study/goodhart", "study/gatt"]


def made(recipe, *overrides, **options):
    return [found.makes for found in steps(load_recipe(recipe, overrides), **options)]


def test_studies_of_the_core_findings_come_before_the_report():
    assert made("nano")[-7:] == [*CORE_STUDIES, "report/nano"]
    assert step("report/nano").inputs["studies"] == tuple(CORE_STUDIES)
    assert made("micro")[-2:] == ["study/accuracy", "report/micro"]


def test_all_findings_need_policies_of_three_sizes():
    others = ["policy/base-pico", "policy/sft-pico", "policy/base-micro", "policy/sft-micro"]
    found = made("nano", findings="all")
    assert [each for each in found if each in STUDIES or each in others] == [*STUDIES[:3], *others, *STUDIES[3:]]
    of_studies = found[found.index(STUDIES[0]) :]
    assert len(set(of_studies)) == len(of_studies)
    found = {each.makes: each for each in steps(load_recipe("nano"), "all")}
    assert found[STUDIES[3]].inputs["policy"] == ("policy/sft-pico", "policy/sft-micro", "policy/sft")
    assert found["report/nano"].inputs["studies"] == tuple(STUDIES)
    assert found["policy/base-pico"].config.preset == "pico"
    assert found["policy/sft-pico"].config == found["policy/sft"].config


def test_a_small_model_of_its_own_size_learns_from_samples_that_the_same_models_judge():
    found = {each.makes: each for each in steps(load_recipe("nano"), "all")}
    study, own, larger = (found[name] for name in ("study/size-distillation", "samples/v1-micro", "samples/v1-rescored"))
    assert study.inputs["policy"] == ("policy/base-micro",)
    assert (study.inputs["own"], study.inputs["larger"]) == ((own.makes,), (larger.makes,))
    assert own.inputs["policy"] == ("policy/sft-micro",) and larger.inputs["samples"] == ("samples/v1",)
    assert own.config == found["samples/v1"].config
    for axis in ("helpfulness", "safety"):
        assert own.inputs[axis] == larger.inputs[axis] == (f"reward_model/{axis}",)


def test_a_study_that_a_recipe_has_no_room_for_is_left_out():
    one_round = made("nano", "rounds=[{version: v1}]", findings="all")
    assert "study/pooling" not in one_round and "study/size-distillation" in one_round
    smallest = made("nano", "pretrain.preset=pico", findings="all")
    assert "study/size-distillation" not in smallest and "study/pooling" in smallest


def test_without_held_out_comparisons_there_is_nothing_to_study():
    assert not [name for name in made("nano", "annotation.num_heldout=0", findings="all") if name.startswith("study/")]


def test_teams_have_no_studies_and_no_report():
    assert made("llama2-7b", findings="all") == made("llama2-7b")
    assert made("llama2-7b")[-1] == "policy/v5-ppo"
