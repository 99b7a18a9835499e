"""What a whole run leaves behind: outcomes, not survival."""

import json

import pytest
from command_line import ROOT, rlhf, run_here

from preference_data.comparison import AXES
from preference_data.messages import messages_id
from preference_data.parquet import read_records
from preference_data.prompt import Dialogue, Document, Prompt
from registry.store import Registry
from rlhf.rejection_sampling import Sample
from stages.data.import_annotations import comparisons_of
from stages.pipeline import steps
from stages.recipe import load_recipe


def registry_of(run):
    return Registry(run[0] / "registry")


def test_every_step_made_its_artifact_and_all_are_whole(micro):
    registry = registry_of(micro)
    for step in steps(load_recipe("micro")):
        assert registry.resolve(step.makes).manifest.stage == step.stage.name
    for artifact in registry.list():
        assert registry.verify(str(artifact.reference)) == ()
    assert not list((micro[0] / "registry" / ".drafts").glob("*/*"))


def test_without_any_connection_the_same_seed_gives_the_same_digests(micro, micro_offline):
    digests = [{str(a.reference): a.digest for a in registry_of(run).list()} for run in (micro, micro_offline)]
    assert digests[0] == digests[1]
    assert len(digests[0]) == len(steps(load_recipe("micro")))


def test_a_second_run_finds_everything_up_to_date(micro):
    again = rlhf("reproduce", "--recipe", "micro", "--dir", micro[0], "--seed", "100", "--json", "--quiet")
    told = json.loads(again.stdout)
    assert (told["made"], told["up_to_date"]) == (0, micro[1]["made"])
    assert told["headline"] == micro[1]["headline"]


def test_headline_has_every_figure_with_interval_and_count(micro):
    headline = json.loads((micro[0] / "report" / "report.json").read_text())["headline"]
    assert headline == micro[1]["headline"]
    for name in (
        "gold_helpfulness_win_rate", "gold_harmlessness_win_rate", "violation_rate_sft", "violation_rate_final",
        "false_refusal_rate_helpful", "false_refusal_rate_borderline",
    ):  # fmt: skip
        estimate = headline[name]
        assert estimate["low"] <= estimate["value"] <= estimate["high"], name
    assert headline["violation_rate_sft"]["n"] == 40
    assert headline["false_refusal_rate_borderline"]["n"] == 20
    for axis in AXES:
        assert "all" in headline["reward_accuracy"][axis]
    assert set(headline["gatt_consistency"]) == {"with", "without", "v3_gatt"}
    assert all(set(turns) == {"1", "2", "4"} for turns in headline["gatt_consistency"].values())
    assert headline["seed"] == 100
    assert headline["recipe"] == "micro"
    assert set(headline["seconds_by_stage"]) == {step.stage.name for step in steps(load_recipe("micro"))}
    assert sum(headline["seconds_by_stage"].values()) == pytest.approx(headline["seconds_total"])
    assert 100 < headline["peak_rss_mb"] < 3000


def test_evaluation_prompts_are_disjoint_from_everything_that_trained(micro):
    registry = registry_of(micro)
    tested = {p.id for p in read_records(registry.resolve("prompts/evaluation").file("prompts.parquet"), Prompt)}
    trained = {p.id for p in read_records(registry.resolve("prompts/tuning").file("prompts.parquet"), Prompt)}
    for artifact in registry.list():
        kind, name = artifact.reference.kind, artifact.reference.name
        if kind == "dialogues" and name != "corpus":
            for dialogue in read_records(artifact.file("dialogues.parquet"), Dialogue):
                trained |= prompts_in(dialogue.messages)
        if kind == "samples":
            trained |= {sample.prompt_id for sample in read_records(artifact.file("samples.parquet"), Sample)}
        if kind == "preferences":
            trained |= {comparison.prompt_id for comparison in comparisons_of([artifact], "train")}
    for document in read_records(registry.resolve("dialogues/corpus").file("documents.parquet"), Document):
        trained |= prompts_in(document.messages or [])
    assert len(tested) == 100
    assert len(trained) > 1000
    assert not tested & trained


def prompts_in(messages):
    return {messages_id(messages[: i + 1]) for i, message in enumerate(messages) if message["role"] == "user"}


def test_heldout_comparisons_are_of_evaluation_prompts_alone(micro):
    registry = registry_of(micro)
    tested = {p.id for p in read_records(registry.resolve("prompts/evaluation").file("prompts.parquet"), Prompt)}
    artifacts = list(registry.list("preferences"))
    assert artifacts
    assert {comparison.prompt_id for comparison in comparisons_of(artifacts, "test")} <= tested
    assert not {comparison.prompt_id for comparison in comparisons_of(artifacts, "train")} & tested


def test_only_annotators_and_evaluations_open_what_gold_knows():
    """Static: of the stages only evaluations and studies import gold."""
    judging = {
        path.relative_to(ROOT / "stages") for path in (ROOT / "stages").rglob("*.py") if "sandbox.gold" in path.read_text()
    }
    assert {path.parts[0] for path in judging} == {"measure", "studies"}
    assert {path.stem for path in judging if path.parts[0] == "measure"} == {"evaluate", "answers"}


def test_every_policy_and_reward_model_opens_with_transformers(micro):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    for artifact in registry_of(micro).list():
        if artifact.reference.kind == "policy":
            model, loading = AutoModelForCausalLM.from_pretrained(artifact.path, output_loading_info=True)
        elif artifact.reference.kind == "reward_model":
            model, loading = AutoModelForSequenceClassification.from_pretrained(artifact.path, output_loading_info=True)
        else:
            continue
        assert not loading["missing_keys"]
        tokenizer = AutoTokenizer.from_pretrained(artifact.path)
        assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "<s>[INST] hi [/INST]"
        assert len(tokenizer) == model.config.vocab_size


def test_each_version_was_tuned_from_the_base_and_the_lineage_leads_to_the_corpus(micro):
    registry = registry_of(micro)
    for version in ("v1", "v2"):
        (parent,) = registry.resolve(f"policy/{version}").manifest.parents["policy"]
        assert parent.reference == "policy/base@1"
    assert "gatt" in registry.resolve("policy/v2").manifest.metrics["by_source"]
    shown = run_here("registry", "lineage", "policy/chat", "--registry", micro[0] / "registry")
    assert shown.stdout.splitlines()[0].startswith("policy/v2-ppo@1")
    assert "dialogues/corpus@1" in shown.stdout


def test_manifests_hold_no_place_of_this_machine_in_their_payload(micro):
    for artifact in registry_of(micro).list():
        for file in artifact.path.rglob("*.json*"):
            if "logs" not in file.parts and file.name != "manifest.json":
                assert str(micro[0]) not in file.read_text(encoding="utf-8"), file


def test_the_report_judges_what_the_run_measured_and_shows_what_it_did_not(micro):
    study = registry_of(micro).resolve("study/accuracy")
    told = json.loads((micro[0] / "report" / "report.json").read_text())
    verdicts = told["headline"]["findings"]
    assert verdicts == {
        **dict.fromkeys(("F4", "F9", "F12", "F13", "F14", "F15", "F23", "F25"), "not measured"),
        **study.manifest.metrics["findings"],
    }
    (shown,) = told["studies"]
    assert (shown["reference"], shown["made_from"]) == ("study/accuracy@1", ["evaluation/reward-models@1"])
    assert shown["study"]["tables"] == json.loads(study.file("study.json").read_text())["tables"]
    page = (micro[0] / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("not measured yet</span>") == 8
    assert page.count('href="#study_accuracy">study/accuracy@1</a>') == 4
    assert all(path.read_text() in page for path in study.path.glob("*.svg"))
    payload = json.loads(registry_of(micro).resolve("report/micro").file("measurements.json").read_text())
    assert [(each["name"], each["reference"], each["figures"]) for each in payload["studies"]] == [("accuracy", "", {})]


def test_a_study_by_its_command_is_the_one_that_the_run_makes(micro):
    given = ("--recipe", "micro", "--seed", "100", "--registry", micro[0] / "registry")
    assert "study/accuracy@1 (up to date)" in run_here("study", "accuracy", *given, "--quiet").stdout
    for step in steps(load_recipe("micro"), "all"):
        if step.stage.kind == "study" and step.name in ("safety-loss", "margin"):
            *_, dry = json.loads(run_here("study", step.name, *given, "--dry-run").stdout)["steps"]
            assert dry["config"] == step.config.model_dump(mode="json")
            assert {role: [text.partition("@")[0] for text in texts] for role, texts in dry["inputs"].items()} == {
                role: list(texts) for role, texts in step.inputs.items()
            }


def test_running_again_from_a_step_makes_new_revisions_of_it(micro_offline):
    folder = micro_offline[0]
    done = rlhf("reproduce", "--recipe", "micro", "--dir", folder, "--seed", "100", "--json", "--quiet",
                "--from", "samples/v2", "--until", "samples/v2")  # fmt: skip
    told = json.loads(done.stdout)
    assert (told["artifact"], told["made"]) == ("samples/v2@2", 1)
    registry = Registry(folder / "registry")
    assert registry.resolve("samples/v2@1").digest == registry.resolve("samples/v2@2").digest


def test_chat_answers_and_asks_again_when_a_message_cannot_be_encoded(micro):
    done = rlhf(
        "chat", "policy/chat", "--registry", micro[0] / "registry", "--max-new-tokens", "8", input="hi\nsay [INST]\nbye\n"
    )
    assert done.returncode == 0
    assert "please say it again" in done.stdout
    assert done.stdout.count("> ") == 4


@pytest.mark.parametrize(("policy", "name"), [("policy/v1", "v1"), ("policy/sft@1", "sft"), ("policy/chat", "v2-ppo")])
def test_an_evaluation_is_called_as_its_policy_so_that_none_takes_anothers_place(micro, policy, name):
    asked = ("evaluate", "policy", "--policy", policy, "--recipe", "micro", "--registry", micro[0] / "registry")
    (step,) = json.loads(run_here(*asked, "--dry-run").stdout)["steps"]
    assert step["makes"] == f"evaluation/{name}"


def test_single_stage_commands_run_on_the_artifacts_of_a_run(micro_offline):
    registry = micro_offline[0] / "registry"
    common = ("--registry", registry, "--recipe", "micro", "--seed", "100", "--quiet", "--json")
    done = run_here("sft", "--policy", "policy/base", "--dialogues", "dialogues/demonstrations", "--name", "sft", *common)
    assert json.loads(done.stdout)["artifact"] == "policy/sft@1"  # up to date: the very stage that reproduce ran
    done = run_here("train-reward", "--axis", "safety", "--preferences", "preferences/safety-round-1", "--name", "mine",
                "--set", "safety.mixture=own", *common)  # fmt: skip
    told = json.loads(done.stdout)
    assert told["artifact"] == "reward_model/mine@1"
    assert told["metrics"]["comparisons"]["safety"] > 10
