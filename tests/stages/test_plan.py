"""A plan: what is up to date, what the rest needs, and what is refused."""

import json

import pytest
from command_line import rlhf

from policy.architecture import llama_config
from policy.footprint import num_parameters
from registry.store import Registry
from stages.engine.run import asked_for, fingerprint
from stages.pipeline import describe_rounds, steps
from stages.plan.plan import Machine, make_plan
from stages.plan.rehearsal import Arithmetic
from stages.plan.study_workload import WholeWorkload
from stages.plan.work import Pass
from stages.recipe import load_recipe

LARGE = Machine(cores=2, memory=64 * 10**9, free_disk=10**12, libraries=500 * 10**6)


class PassClock:
    """One second a batch, whatever it is."""

    how = "by decree"

    def seconds(self, each):
        return 1.0


def plan_of(name, folder, *overrides, machine=LARGE, seed=100):
    return make_plan(load_recipe(name, overrides), folder, seed, PassClock(), machine)


def work_of(name, *overrides, findings="core"):
    recipe = load_recipe(name, overrides)
    workload = WholeWorkload(recipe)
    return {step.makes: workload.of(step) for step in steps(recipe, findings)}


def test_every_study_that_trains_is_reckoned():
    work = work_of("nano", findings="all")
    arms = {name: work[f"study/{name}"].passes[0].count * 64 / (2 * 5 * 750) for name in ("margin", "reward-scaling")}
    assert arms == {"margin": pytest.approx(3), "reward-scaling": pytest.approx(3 * 4)}


def test_counts_of_nano_by_hand():
    """46 tokens a dialogue (29 + 17); numbers of nano.yaml."""
    work = work_of("nano")
    pretraining = work["policy/base"].passes
    assert [(each.kind, each.count, each.rows, each.length) for each in pretraining] == [
        ("pretrain", 390, 32, 32), ("pretrain", 390, 16, 64), ("pretrain", 2636, 8, 128), ("pretrain", 488, 2, 512),
        ("encode documents", 132_000, 1, 0),
    ]  # fmt: skip
    (sft,) = work["policy/sft"].passes
    assert (sft.count, sft.rows, sft.length) == (2 * 2900 / 32, 32, 46)
    search, sampling, scoring = work["samples/v1"].passes
    assert search.count * search.rows == 9 * 64 * 8, "nine temperatures"
    assert sampling.count * sampling.rows == 700 * 8
    assert scoring.count * scoring.rows == 2 * (9 * 64 + 700) * 8
    one = work_of("nano", "rejection_sampling.temperatures=[1.0]")["samples/v1"]
    assert [each.count * each.rows for each in one.passes] == [700 * 8, 2 * 700 * 8]
    assert one.footprint == work["samples/v1"].footprint
    # own comparisons of five rounds for helpfulness; for safety a ninth of the other axis beside them
    assert work["reward_model/helpfulness"].passes[0].count * 64 == pytest.approx(2 * 5 * 750)
    assert work["reward_model/safety"].passes[0].count * 64 == pytest.approx(2 * (5 * 600 + -(-5 * 600 // 9)))
    # both arms of the study read what the last safety model did
    assert work["study/safety-loss"].passes[0].count * 64 == pytest.approx(2 * 2 * (5 * 600 + -(-5 * 600 // 9)))
    assert work["study/safety-loss"].passes[1].tokens == pytest.approx(2 * 2 * 5 * 6 * 67 * 46), "held out"
    # the samples of all rounds, the distilled answers, the Ghost Attention dialogues, the demonstrations
    last = work["policy/v5"].passes
    assert sum(each.count for each in last) * 16 / 2 == 5 * 700 + 200 + 1500 + 800
    assert sum(each.count for each in work["policy/v1"].passes) * 16 / 2 == 700 + 200 + 800
    ppo = work["policy/v5-ppo"]
    assert [each.kind for each in ppo.passes] == ["sample", "read", "update"]
    assert ppo.passes[2].count == 30 * 4
    policy = 4 * num_parameters(llama_config("nano", 1600))
    assert (ppo.footprint.weights, ppo.footprint.optimizer) == (5 * policy, 2 * 2 * policy)
    answers, scores = work["evaluation/sft"].passes
    assert answers.count * answers.rows == 1010 and scores.count * scores.rows == 2020


def test_files_of_a_team_are_as_large_as_the_recipe_expects():
    work = work_of("llama2-7b")
    (sft,) = work["policy/sft"].passes
    assert sft.count == 2 * 27540 / 64 and sft.length == 564 + 234
    assert work["reward_model/safety"].passes[0].count * 1024 == pytest.approx(2 * (5 * 28_000 + -(-5 * 28_000 // 9)))
    assert work["policy/base"].artifact_bytes == 4 * num_parameters(llama_config("7b"))


def test_peak_memory_of_micro_is_within_30_percent_of_what_was_measured(micro, tmp_path):
    registry = Registry(micro[0] / "registry")
    measured = max(artifact.manifest.peak_rss_mb for artifact in registry.list()) * 1e6
    first = min(artifact.manifest.peak_rss_mb for artifact in registry.list() if artifact.manifest.stage == "corpus") * 1e6
    machine = Machine(2, 64 * 10**9, 10**12, libraries=int(first))
    assert plan_of("micro", tmp_path, machine=machine).peak_memory == pytest.approx(measured, rel=0.3)


def test_what_a_run_made_is_up_to_date_and_what_depends_on_a_change_is_not(micro):
    whole = plan_of("micro", micro[0])
    assert {step.state for step in whole.steps} == {"up to date"}
    assert (whole.seconds, whole.disk) == (0, 0)
    assert whole.steps[-1].artifact == "report/micro@1"
    changed = plan_of("micro", micro[0], "ppo.kl_coef=0.5")
    to_make = [step.artifact for step in changed.steps if step.state == "to make"]
    assert to_make == ["policy/v2-ppo", "evaluation/v2-ppo", "evaluation/consistency-v2-ppo", "report/micro"]
    assert {step.state for step in plan_of("micro", micro[0], seed=101).steps} == {"to make"}


def test_what_was_measured_with_the_reward_models_of_an_earlier_round_is_to_be_made_again(micro):
    """They have one name in all rounds, and another round makes newer ones."""
    another = "rounds=[{version: v1, pool: last, gatt: true}, {version: v2, pool: all}, {version: v3, pool: all}]"
    planned = {step.artifact.partition("@")[0]: step.state for step in plan_of("micro", micro[0], another).steps}
    assert planned["policy/v2"] == "up to date" and planned["evaluation/consistency-v1"] == "up to date"
    assert planned["reward_model/safety"] == planned["policy/v3"] == planned["evaluation/v1"] == "to make"


def test_recipes_at_the_edge_are_planned(tmp_path):
    assert plan_of("micro", tmp_path, "annotation.num_heldout=0").seconds > 0
    assert plan_of("llama2-7b", tmp_path, "expected.num_comparisons={}").seconds > 0


def test_steps_that_fit_alone_may_not_fit_together(tmp_path):
    alone = max(step.memory for step in plan_of("micro", tmp_path).steps)
    machine = Machine(cores=2, memory=alone + 1000, free_disk=10**12, libraries=0)
    (problem,) = plan_of("micro", tmp_path, machine=machine).problems
    assert "one process that runs all steps comes to hold" in problem.text and "--until STEP" in problem.needs


def test_a_step_that_was_stopped_is_unfinished(tmp_path):
    first = steps(load_recipe("micro"))[0]
    registry = Registry(tmp_path / "registry")
    asked = asked_for(first.stage, first.config, {}, 100, "float32", "cpu")
    with registry.draft("dialogues", "corpus", fingerprint(asked), asked) as draft:
        draft.states.save(1, lambda folder: (folder / "state.json").write_text("{}"))
    assert [step.state for step in plan_of("micro", tmp_path).steps[:2]] == ["unfinished", "to make"]


def test_time_is_the_number_of_batches_times_the_clock(tmp_path):
    planned = plan_of("micro", tmp_path)
    sft = next(step for step in planned.steps if step.artifact == "policy/sft")
    assert sft.seconds == 160 / 16
    assert planned.seconds == pytest.approx(sum(step.seconds for step in planned.steps))


def test_too_little_memory_or_disk_is_refused_with_what_is_needed(tmp_path):
    small = Machine(cores=2, memory=16 * 10**9, free_disk=10**9, libraries=0)
    memory, disk = plan_of("llama2-7b", tmp_path, machine=small).problems
    assert "holds 1.99 TB at once, and this machine has 16 GB of memory; 25 other steps do not fit either" in memory.text
    assert "divided evenly it would fill 28 devices of 80 GB" in memory.needs
    assert "and 1 GB are free" in disk.text
    assert plan_of("micro", tmp_path).problems == ()


def test_a_large_model_is_reckoned_and_not_built():
    clock = Arithmetic(llama_config("70b"))
    clock.__dict__.update(operations=1e12, bandwidth=1e11)  # what the machine would have been asked
    parameters = num_parameters(llama_config("70b"))
    assert clock.seconds(Pass("finetune", 1, 2, 100)) == pytest.approx(6 * parameters * 200 / 1e12)
    assert clock.seconds(Pass("read", 1, 2, 100)) == pytest.approx(2 * parameters * 200 / 1e12)
    # three times the mean of ten new tokens, each a pass over four-byte weights; the prompt is read once for two responses
    decoding = 3 * 10 * 4 * parameters / 1e11
    assert clock.seconds(Pass("sample", 1, 2, 30, 10, 2)) == pytest.approx(2 * parameters * 20 / 1e12 + decoding)


def test_the_command_plans_a_large_recipe_on_this_machine(tmp_path):
    done = rlhf("plan", "--recipe", "llama2-70b", "--dir", tmp_path, "--json")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["parameters"] == num_parameters(llama_config("70b"))
    assert told["missing_files"] == ["data/demonstrations.jsonl", "data/prompts.jsonl", "data/constraints.jsonl"]
    assert "at once, and this machine has" in told["problems"][0]["text"]
    assert told["steps"][-1]["artifact"] == "policy/v5-ppo" and told["steps"][-1]["seconds"] > 0
    assert told["rounds"] == describe_rounds(load_recipe("llama2-70b"))
    assert not (tmp_path / "registry").exists()
    shown = rlhf("plan", "--recipe", "llama2-70b", "--dir", tmp_path)
    assert shown.returncode == 1
    assert "\ndoes not fit: " in shown.stdout and "\nneeds: one device with " in shown.stdout


def test_the_command_rehearses_a_small_recipe(tmp_path):
    done = rlhf("plan", "--recipe", "micro", "--dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\n".join(["", "", *describe_rounds(load_recipe("micro")), "", "micro: "]) in done.stdout
    assert "35 of 35 steps to make" in done.stdout and "cores), by a rehearsal" in done.stdout
    assert f"next: rlhf reproduce --recipe micro --dir {tmp_path} --seed 0" in done.stdout
