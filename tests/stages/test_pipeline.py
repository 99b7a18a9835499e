"""The order of the recipe's steps, read off the plan."""

from stages.pipeline import consistency_arms, final_policy, measured_policies, steps
from stages.recipe import load_recipe


def plan():
    return steps(load_recipe("nano"))


def test_every_input_is_made_before_it_is_needed():
    made = set()
    for step in plan():
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
    assert [step(f"policy/v{n}").inputs["gatt"] for n in (3, 4, 5)] == [(), ("dialogues/gatt",), ("dialogues/gatt",)]
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


STUDIES = ["study/accuracy", "study/safety-loss", "study/margin", "study/reward-scaling"]


def made(recipe, *overrides, **options):
    return [found.makes for found in steps(load_recipe(recipe, overrides), **options)]


def test_studies_of_the_core_findings_come_before_the_report():
    assert made("nano")[-3:] == [*STUDIES[:2], "report/nano"]
    assert step("report/nano").inputs["studies"] == tuple(STUDIES[:2])
    assert made("micro")[-2:] == ["study/accuracy", "report/micro"]


def test_all_findings_need_policies_of_three_sizes():
    others = ["policy/base-pico", "policy/sft-pico", "policy/base-micro", "policy/sft-micro"]
    assert made("nano", findings="all")[-9:] == [*STUDIES[:3], *others, STUDIES[3], "report/nano"]
    found = {each.makes: each for each in steps(load_recipe("nano"), "all")}
    assert found[STUDIES[3]].inputs["policy"] == ("policy/sft-pico", "policy/sft-micro", "policy/sft")
    assert found["report/nano"].inputs["studies"] == tuple(STUDIES)
    assert found["policy/base-pico"].config.preset == "pico"
    assert found["policy/sft-pico"].config == found["policy/sft"].config
    known = set()
    for each in steps(load_recipe("nano"), "all"):
        assert {text for texts in each.inputs.values() for text in texts} <= known, each.makes
        known.add(each.makes)


def test_without_held_out_comparisons_there_is_nothing_to_study():
    assert not [name for name in made("nano", "annotation.num_heldout=0", findings="all") if name.startswith("study/")]


def test_teams_have_no_studies_and_no_report():
    assert made("llama2-7b", findings="all") == made("llama2-7b")
    assert made("llama2-7b")[-1] == "policy/v5-ppo"
