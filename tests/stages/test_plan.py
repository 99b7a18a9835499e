"""A plan: what is up to date, what the rest needs, where its time comes from, and what is refused."""

import dataclasses
import json

import pytest
import torch
from command_line import run_here

from policy.architecture import llama_config
from policy.footprint import activation_bytes, logits_bytes, num_parameters
from policy.placement import NoSuchDevice
from registry.manifest import Run
from registry.store import Registry
from stages.engine.run import asked_for, fingerprint
from stages.pipeline import budgets, describe_rounds, steps
from stages.plan.memory import Work, works
from stages.plan.table import Machine, make_plan, this_machine
from stages.recipe import load_recipe
from stages.studies.arms.trainings import OPERATIONS_PER_SECOND

LARGE = Machine("cpu", "2 cores", 64 * 10**9, 10**12, OPERATIONS_PER_SECOND, library_bytes=500 * 10**6)
CUDA = dataclasses.replace(LARGE, device="cuda:0", name="a GPU", operations_per_second=1e12)
EVERY_INPUT_OF_SFT = ("dialogues/corpus", "dialogues/demonstrations", "policy/base")


def plan_of(name, folder, *overrides, machine=LARGE, seed=100):
    return make_plan(load_recipe(name, overrides), folder, seed, machine)


def planned(plan, artifact):
    return next(step for step in plan.steps if step.artifact.partition("@")[0] == artifact)


def work_of(name, *overrides, findings="core", device="cpu"):
    recipe = load_recipe(name, overrides)
    pipeline = steps(recipe, findings)
    return {step.makes: work for step, work in zip(pipeline, works(recipe, pipeline, device), strict=True)}


def commit(registry, step, made, device, seconds):
    """What a run of ``step`` on ``device`` leaves in the registry; ``made`` are the artifacts so far, by what makes them."""
    parents = {role: [made[reference] for reference in references] for role, references in step.inputs.items()}
    digests = {role: [artifact.digest for artifact in artifacts] for role, artifacts in parents.items()}
    dtype = step.stage.dtype(device)
    asked = asked_for(step.stage, step.config, digests, 100, dtype, device.partition(":")[0])
    with registry.draft(step.stage.kind, step.name, fingerprint(asked), asked) as draft:
        (draft.path / "file").write_text(f"{step.makes} on {device}")
        run = Run(
            stage=step.stage.name, stage_revision=step.stage.revision, config=step.config.model_dump(mode="json"), seed=100,
            metrics={}, versions={}, dtype=dtype, device=device, git_revision=None, seconds=seconds, peak_rss_mb=1,
        )  # fmt: skip
        made[step.makes] = draft.commit(run, parents)


@pytest.fixture(scope="module")
def sft_on_cuda(tmp_path_factory):
    """A folder in which ``micro`` was run up to SFT, on cuda:1; each step took 77 s."""
    folder, made = tmp_path_factory.mktemp("cuda"), {}
    registry = Registry(folder / "registry")
    for step in steps(load_recipe("micro")):
        if step.makes in (*EVERY_INPUT_OF_SFT, "policy/sft"):
            commit(registry, step, made, "cuda:1", 77.0)
    return folder


def test_tokens_of_nano_by_hand():
    """46 tokens a dialogue (29 + 17); numbers of nano.yaml."""
    tokens = {makes: work.tokens for makes, work in work_of("nano").items() if work}
    assert tokens["policy/base"].trained == 1024 * (390 + 390 + 2636 + 488)
    assert tokens["policy/sft"].trained == 2 * 2900 * 46
    # nine temperatures for 64 prompts, then the prompts themselves; two reward models
    responses = (9 * 64 + 700) * 8
    assert tokens["samples/v1"].sampled == responses * 17
    assert tokens["samples/v1"].read == responses // 8 * 29 + 2 * responses * 46
    assert work_of("nano", "rejection_sampling.temperatures=[1.0]")["samples/v1"].tokens.sampled == 700 * 8 * 17
    # the models of the last round: own comparisons of five rounds, and for safety a ninth of the others beside them
    assert tokens["reward_model/helpfulness"].trained == 2 * 5 * 750 * 46
    assert tokens["reward_model/safety"].trained == 2 * (5 * 600 + -(-5 * 600 // 9)) * 46
    # the samples of the last round or of all rounds, the distilled answers, the demonstrations; Ghost Attention's dialogues
    assert tokens["policy/v1"].trained == 2 * (700 + 200 + 800) * 46
    gatt = tokens["policy/v5"].trained - 2 * (5 * 700 + 200 + 800) * 46
    assert gatt == 2 * 1500 * round(26 / sum(1 / turns for turns in range(1, 27)) * 28)
    assert tokens["policy/v5-ppo"].trained == 2 * 30 * 96 * 46, "policy and critic"
    assert tokens["policy/v5-ppo"].sampled == (30 * 96 + 6 * 400) * 17
    assert tokens["evaluation/sft"].read == 1010 * 29 + 2 * 1010 * 46


def test_a_plan_counts_the_answers_that_ghost_attention_samples_anew():
    sizes = ("gatt.num_dialogues=600", "gatt.k=2", "gatt.min_turns=2", "gatt.max_turns=3")
    once = work_of("nano", *sizes)["dialogues/gatt"].tokens.sampled
    anew = work_of("nano", *sizes, "gatt.intermediate=resampled")["dialogues/gatt"].tokens.sampled
    before_the_last = 600 * (1 * 3 + 2 * 2) / 5  # of two turns in three dialogues of five, of three in two
    assert (once, anew - once) == (600 * 2 * 17, before_the_last * 17)


def test_memory_of_a_team_by_hand():
    """564 tokens a prompt and 234 a response, the longest three times that; numbers of llama2-7b.yaml."""
    work, model = work_of("llama2-7b"), llama_config("7b")
    weights = 4 * num_parameters(model)
    sft, reward, ppo = (work[name] for name in ("policy/sft", "reward_model/safety", "policy/v5-ppo"))
    assert sft.tokens.trained == 2 * 27540 * (564 + 234)
    assert reward.tokens.trained == 2 * (5 * 28_000 + -(-5 * 28_000 // 9)) * 798
    assert (sft.footprint.weights, sft.footprint.gradients, sft.footprint.optimizer) == (weights, weights, 2 * weights)
    positions = 64 * 3 * 798
    assert sft.footprint.activations == activation_bytes(model, positions) + logits_bytes(model, round(positions * 234 / 798))
    assert (ppo.footprint.weights, ppo.footprint.optimizer) == (5 * weights, 2 * 2 * weights)
    assert (work["policy/base"].artifact_bytes, sft.artifact_bytes, ppo.artifact_bytes) == (weights, weights, 2 * weights)


def test_adapters_and_checkpointing_take_less():
    full, adapters = work_of("llama2-7b")["policy/sft"], work_of("llama2-7b-lora")["policy/sft"]
    assert adapters.footprint.optimizer < full.footprint.optimizer / 100 and adapters.state_bytes < full.state_bytes / 100
    ppo = work_of("llama2-7b-lora")["policy/v5-ppo"].footprint
    assert ppo.weights == 4 * num_parameters(llama_config("7b")), "five models on one set of weights"
    checkpointed = work_of("llama2-7b", "safety.gradient_checkpointing=true")["reward_model/safety"].footprint
    assert checkpointed.activations < work_of("llama2-7b")["reward_model/safety"].footprint.activations / 10
    on_gpu = work_of("llama2-7b", device="cuda")["policy/sft"].footprint
    assert on_gpu.activations < full.footprint.activations / 5, "fine-tuning on a GPU checkpoints"


def test_peak_memory_of_micro_is_within_30_percent_of_what_was_measured(micro, tmp_path):
    manifests = [artifact.manifest for artifact in Registry(micro[0] / "registry").list()]
    measured = max(manifest.peak_rss_mb for manifest in manifests) * 1e6
    first = min(manifest.peak_rss_mb for manifest in manifests if manifest.stage == "corpus") * 1e6
    machine = dataclasses.replace(LARGE, library_bytes=int(first))
    assert plan_of("micro", tmp_path, machine=machine).peak_memory_bytes == pytest.approx(measured, rel=0.3)


def test_what_a_run_made_is_up_to_date_and_what_depends_on_a_change_is_not(micro):
    whole = plan_of("micro", micro[0])
    assert {step.state for step in whole.steps} == {"up to date"}
    assert (whole.seconds, whole.disk_bytes, whole.without_time) == (0, 0, ())
    assert whole.steps[-1].artifact == "report/micro@1"
    changed = plan_of("micro", micro[0], "ppo.kl_coef=0.5")
    to_make = [step for step in changed.steps if step.state == "to make"]
    assert [step.artifact for step in to_make] == [
        "policy/v2-ppo", "evaluation/v2-ppo", "evaluation/consistency-v2-ppo", "report/micro"
    ]  # fmt: skip
    assert {step.timing for step in to_make} == {"as last time"}
    ppo = Registry(micro[0] / "registry").resolve("policy/v2-ppo").manifest
    assert to_make[0].seconds == ppo.seconds
    assert {step.state for step in plan_of("micro", micro[0], seed=101).steps} == {"to make"}


def test_what_was_measured_with_the_reward_models_of_an_earlier_round_is_to_be_made_again(micro):
    """They have one name in all rounds, and another round makes newer ones."""
    another = "rounds=[{version: v1, pool: last, gatt: true}, {version: v2, pool: all}, {version: v3, pool: all}]"
    plan = plan_of("micro", micro[0], another)
    states = {step.artifact.partition("@")[0]: step.state for step in plan.steps}
    assert states["policy/v2"] == "up to date" and states["evaluation/consistency-v1"] == "up to date"
    assert states["reward_model/safety"] == states["policy/v3"] == states["evaluation/v1"] == "to make"
    # the model of a third round reads what no run has read, so no run says how long it takes
    assert planned(plan, "evaluation/v1").timing == "as last time"
    assert [step.timing for step in plan.steps if step.artifact == "reward_model/safety"] == ["by arithmetic"]


def test_a_step_that_was_stopped_is_unfinished(tmp_path):
    first = steps(load_recipe("micro"))[0]
    registry = Registry(tmp_path / "registry")
    asked = asked_for(first.stage, first.config, {}, 100, "float32", "cpu")
    with registry.draft("dialogues", "corpus", fingerprint(asked), asked) as draft:
        draft.states.save(1, lambda folder: (folder / "state.json").write_text("{}"))
    assert [step.state for step in plan_of("micro", tmp_path).steps[:2]] == ["unfinished", "to make"]


def test_what_was_made_on_a_gpu_is_up_to_date_for_a_gpu_alone(sft_on_cuda):
    assert planned(plan_of("micro", sft_on_cuda, machine=CUDA), "policy/sft").state == "up to date"
    assert planned(plan_of("micro", sft_on_cuda), "policy/sft").state == "to make"


def test_time_is_that_of_the_last_run_then_the_budget_then_arithmetic(sft_on_cuda):
    changed = ("sft.epochs=2", "budget_seconds={sft: 40, tune: 60}")
    sft = planned(plan_of("micro", sft_on_cuda, *changed, machine=CUDA), "policy/sft")
    assert (sft.state, sft.seconds, sft.timing) == ("to make", 77, "as last time")
    plan = plan_of("micro", sft_on_cuda, *changed)
    sft, tuned, annotated = (planned(plan, name) for name in ("policy/sft", "policy/v1", "annotations/round-1"))
    # micro has two fine-tunings on dialogues (SFT, and after Ghost Attention), and two versions
    assert [(step.seconds, step.timing) for step in (sft, tuned)] == [
        (20, "by the recipe's budget"),
        (30, "by the recipe's budget"),
    ]
    tokens = annotated.work.tokens
    operations = 2 * num_parameters(llama_config("micro", 1200)) * (tokens.read + tokens.sampled)
    assert annotated.timing == "by arithmetic" and annotated.seconds == pytest.approx(operations / 0.75e11)
    trained = planned(plan, "policy/base")
    assert trained.seconds == pytest.approx(6 * plan.parameters * trained.work.tokens.trained / 0.75e11)


def test_budgets_share_what_a_stage_has_among_its_steps():
    recipe = load_recipe("nano")
    by_stage = {}
    for step, seconds in zip(steps(recipe), budgets(recipe, steps(recipe)), strict=True):
        by_stage[step.stage.name] = by_stage.get(step.stage.name, 0) + seconds
    assert {name: seconds for name, seconds in by_stage.items() if seconds} == pytest.approx(recipe.budget_seconds)


def test_what_is_not_known_is_not_counted(tmp_path):
    plan = plan_of("micro", tmp_path, "studies=[versions]")
    study, report, corpus = (planned(plan, name) for name in ("study/versions", "report/micro", "dialogues/corpus"))
    assert (study.work, study.memory_bytes, study.seconds, study.timing) == (None, None, None, "not counted")
    assert (corpus.work, corpus.seconds, corpus.timing) == (Work(), None, "not counted"), "no model, but not no time"
    assert plan.without_memory == (study.artifact, report.artifact) and corpus.artifact in plan.without_time
    # a model of another size, and all that is made from it
    work = work_of("nano", findings="all")
    assert {work[f"policy/{name}-micro"] for name in ("base", "sft")} | {work["samples/v1-micro"]} == {None}
    assert work["policy/base"] and work["policy/sft"]


def test_recipes_at_the_edge_are_planned(tmp_path):
    assert plan_of("micro", tmp_path, "annotation.num_heldout=0").seconds > 0
    assert plan_of("llama2-7b", tmp_path, "expected.num_comparisons={}").seconds > 0


def test_too_little_memory_or_disk_is_refused_with_what_is_needed(tmp_path):
    small = dataclasses.replace(LARGE, memory_bytes=16 * 10**9, free_disk_bytes=10**9, library_bytes=0)
    memory, disk = plan_of("llama2-7b", tmp_path, machine=small).problems
    assert "holds 1.99 TB at once, and cpu (2 cores) has 16 GB of memory; 25 other steps do not fit either" in memory.text
    assert "sharded, it would fill 28 devices of 80 GB" in memory.needs
    assert "and 1 GB are free" in disk.text
    assert plan_of("micro", tmp_path).problems == ()


def test_steps_that_fit_alone_may_not_fit_together(tmp_path):
    alone = max(step.memory_bytes or 0 for step in plan_of("micro", tmp_path).steps)
    machine = dataclasses.replace(LARGE, memory_bytes=alone + 1000)
    (problem,) = plan_of("micro", tmp_path, machine=machine).problems
    assert "one process that runs all steps comes to hold" in problem.text and "--until STEP" in problem.needs


def test_a_gpu_holds_neither_libraries_nor_records(tmp_path):
    sft = planned(plan_of("micro", tmp_path), "policy/sft")
    assert sft.memory_bytes == sft.work.footprint.total + sft.work.data_bytes + LARGE.library_bytes
    sft = planned(plan_of("micro", tmp_path, machine=CUDA), "policy/sft")
    assert sft.memory_bytes == sft.work.footprint.total


def test_a_gpu_that_is_not_here_is_assumed(tmp_path):
    absent = f"cuda:{torch.cuda.device_count()}"
    machine = this_machine(tmp_path, absent)
    assert (machine.memory_bytes, machine.operations_per_second) == (80 * 10**9, 0.4 * 312e12)
    assert machine.note == f"{absent} is not here; the plan assumes an A100 of 80 GB"
    with pytest.raises(NoSuchDevice, match="the device is 'gpu'; give cpu, cuda, or one of several"):
        this_machine(tmp_path, "gpu")


def test_the_command_plans_a_large_recipe_as_json(tmp_path):
    done = run_here("plan", "--recipe", "llama2-70b", "--dir", tmp_path, "--device", "cuda:9", "--json", code=1)
    plan = json.loads(done.stdout)
    assert plan["parameters"] == num_parameters(llama_config("70b"))
    assert plan["missing_files"] == ["data/demonstrations.jsonl", "data/prompts.jsonl", "data/constraints.jsonl"]
    assert "at once, and cuda:9 (A100 of 80 GB, assumed) has 80 GB of memory" in plan["problems"][0]["text"]
    assert plan["steps"][-1]["artifact"] == "policy/v5-ppo" and plan["steps"][-1]["seconds"] > 0
    assert plan["steps"][0]["seconds"] is None and plan["without_time"][0] == "dialogues/demonstrations"
    assert plan["rounds"] == describe_rounds(load_recipe("llama2-70b"))
    assert not (tmp_path / "registry").exists()


def test_the_command_shows_a_plan(tmp_path):
    done = run_here("plan", "--recipe", "micro", "--dir", tmp_path, "--set", "studies=[versions]")
    assert "\n".join(["", "", *describe_rounds(load_recipe("micro")), "", "micro: "]) in done.stdout
    number = len(steps(load_recipe("micro", ["studies=[versions]"])))
    assert f"{number} of {number} steps to make" in done.stdout
    (study,) = [line for line in done.stdout.splitlines() if line.startswith("study/versions\t")]
    assert study.split("\t")[2:] == ["not counted"] * 9 + ["-"]
    assert "; 2 steps not counted\n" in done.stdout and "by arithmetic is a lower bound" in done.stdout
    assert f"next: rlhf reproduce --recipe micro --dir {tmp_path} --seed 0 --set 'studies=[versions]'\n" in done.stdout
    refused = run_here("plan", "--recipe", "llama2-70b", "--dir", tmp_path, "--device", "cuda:9", code=1)
    assert "\ndoes not fit: " in refused.stdout and "\nneeds: one device with " in refused.stdout
    assert "note: cuda:9 is not here" in refused.stdout
