"""An external reward model through the command line: registered once, then used wherever a reward model is."""

import json
import re
import shutil

import pytest
import torch
from command_line import plain, run_here
from external_models import LLAMA_TEMPLATE, llama_tokenizer, make, publish, written
from fakes import make_prompts
from row_files import write
from safetensors.torch import load_file, save_file
from stage_runs import put_policy, put_prompts, put_reward_model
from transformers import pipeline

from policy.checkpoint import load_policy
from preference_data.messages import assistant, user
from preference_data.parquet import read_records
from registry.artifact import Artifact
from registry.store import Registry
from reward_model.scoring import RewardScorer
from rlhf.rejection_sampling import Sample
from stages.doctor.rewards import reward_checks

SIXES = ("batch_size=6", "minibatch_size=6", "microbatch_size=6")


def theirs(folder, name, dialogues):
    """The scores of the library's pipeline, one text at a time."""
    scorer = pipeline("text-classification", model=str(folder), function_to_apply="none")
    return [scorer(written(name, each), add_special_tokens=False)[0]["score"] for each in dialogues]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("elsewhere") / "their-model", *make("llama"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory, folder):
    """A policy, prompts and a safety model of ours, and ``reward_model/theirs``."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    put_policy(registry, "tiny")
    put_reward_model(registry, "safety", "policy/tiny", seed=1, scale=100)
    texts = [f"Question {number}?" for number in range(9)]
    put_prompts(registry, "tuning", make_prompts(texts[:3], is_safety=True) + make_prompts(texts[3:]))
    run_here("add-reward-model", folder, "--axis", "helpfulness", "--name", "theirs", "--registry", registry.root, "--quiet")
    return registry


@pytest.fixture
def empty(tmp_path):
    return Registry(tmp_path / "empty")


def bring(folder, registry, *arguments, code=0, axis="helpfulness"):
    words = ("--axis", axis, "--name", "theirs", "--registry", registry.root, "--quiet")
    return run_here("add-reward-model", folder, *words, *arguments, code=code)


def test_it_is_told_what_was_made_and_what_comes_next(folder, empty):
    done = bring(folder, empty)
    assert "reward_model/theirs@1 in" in done.stdout and "next: rlhf score FILE --model reward_model/theirs@1" in done.stdout
    told = json.loads(bring(folder, empty, "--json").stdout)
    artifact = empty.resolve("reward_model/theirs")
    assert (told["artifact"], told["digest"]) == ("reward_model/theirs@1", artifact.digest)
    parameters = sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    assert told["metrics"] == {
        "architecture": "LlamaForSequenceClassification", "parameters": parameters, "dtype": "float32", "hub_commit": None,
        "vocabulary": len(llama_tokenizer()), "context": 256,
    }  # fmt: skip
    assert artifact.manifest.stage == "add-reward-model" and artifact.manifest.config["axis"] == "helpfulness"
    assert {"model.safetensors", "scorer.json", "chat_template.jinja"} <= {entry.path for entry in artifact.manifest.files}
    assert not empty.verify("reward_model/theirs")


def test_other_weights_in_the_same_folder_are_another_revision_and_the_same_ones_elsewhere_the_same_digest(
    folder, empty, tmp_path
):
    first = json.loads(bring(folder, empty, "--json").stdout)["digest"]
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert json.loads(bring(moved, empty, "--json").stdout) | {"seconds": 0} | {"metrics": 0} == {
        "artifact": "reward_model/theirs@2", "digest": first, "seconds": 0, "metrics": 0,
    }  # fmt: skip
    weights = load_file(moved / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, moved / "model.safetensors", {"format": "pt"})
    told = json.loads(bring(moved, empty, "--json").stdout)
    assert told["artifact"] == "reward_model/theirs@3" and told["digest"] != first


def test_a_dry_run_says_what_would_be_copied_and_makes_nothing(folder, empty):
    (step,) = json.loads(bring(folder, empty, "--dry-run", "--hub-revision", "abc").stdout)["steps"]
    assert (step["stage"], step["makes"], step["inputs"]) == ("add-reward-model", "reward_model/theirs", {})
    config = step["config"]
    assert (config["checkpoint"], config["hub_revision"], config["axis"]) == (str(folder), "abc", "helpfulness")
    assert len(config["sha256"]) == 64 and not empty.root.exists()


def test_a_template_from_a_file_is_kept_with_it(folder, empty, tmp_path):
    bare = publish(tmp_path / "bare", make("llama")[0], llama_tokenizer(None))
    refused = bring(bare, empty, code=2)
    assert "has no chat template, so nothing says how it reads a dialogue" in plain(refused.output)
    assert not list(empty.root.rglob("manifest.json"))
    file = tmp_path / "their.jinja"
    assert "there is no file" in plain(bring(bare, empty, "--chat-template", file, code=2).output)
    file.write_text(LLAMA_TEMPLATE)
    bring(bare, empty, "--chat-template", file)
    kept = empty.open("reward_model/theirs")
    assert kept.file("chat_template.jinja").read_text() == LLAMA_TEMPLATE
    file.write_text(LLAMA_TEMPLATE + "{{ '' }}")
    assert "reward_model/theirs@2" in bring(bare, empty, "--chat-template", file).stdout


def test_another_axis_is_refused(folder, empty):
    assert "'harm' is not one of" in plain(bring(folder, empty, axis="harm", code=2).output)


def test_what_is_no_reward_model_is_refused(folder, empty, registry):
    refused = bring(registry.open("policy/tiny").path, empty, code=2)
    assert "is a LlamaForCausalLM, and a reward model is a sequence classifier with one output" in plain(refused.output)
    assert not list(empty.root.rglob("manifest.json"))


def test_a_safety_model_is_registered_with_a_word_on_its_scale(folder, empty):
    done = run_here("add-reward-model", folder, "--axis", "safety", "--name", "theirs", "--registry", empty.root)
    assert "must be the probability of a safe response" in plain(done.output)


def test_rows_get_their_scores_and_those_that_the_template_refuses_are_rejected(folder, registry, tmp_path):
    dialogues = [[user(f"Question {n}?"), assistant("the owl " * n + "sleeps.")] for n in range(5)]
    rows = [{"messages": each, "id": number} for number, each in enumerate(dialogues)]
    rows.insert(2, {"messages": [{"role": "system", "content": "Be brief."}, *dialogues[0]], "id": "with a system message"})
    write(tmp_path / "answers.jsonl", rows)
    told = json.loads(
        run_here(
            "score", tmp_path / "answers.jsonl", "--model", "reward_model/theirs", "--model", "reward_model/safety",
            "--registry", registry.root, "--json", "--quiet",
        ).stdout
    )  # fmt: skip
    assert (told["scored"], told["rejected"]) == (5, 1)
    scored = [json.loads(line) for line in (tmp_path / "answers.scored.jsonl").read_text().splitlines()]
    assert [row["id"] for row in scored] == [0, 1, 2, 3, 4]
    logits = [row["scores"]["reward_model/theirs@1"]["logit"] for row in scored]
    assert logits == pytest.approx(theirs(folder, "llama", dialogues), abs=1e-5)
    ours = RewardScorer.load(registry.open("reward_model/safety").path).score(dialogues).tolist()
    assert [row["scores"]["reward_model/safety@1"]["logit"] for row in scored] == pytest.approx(ours, abs=1e-5)
    (reject,) = [json.loads(line) for line in (tmp_path / "answers.scored.rejects.jsonl").read_text().splitlines()]
    assert reject["line"] == 3 and "no system message, please" in reject["reason"]


def test_the_card_gives_the_score(folder, registry, capsys):
    artifact = registry.open("reward_model/theirs")
    (code,) = re.findall(r"```python\n(.*?)```", artifact.file("README.md").read_text(), re.DOTALL)
    names = {"FOLDER": str(artifact.path)}
    exec(code, names)
    printed = float(capsys.readouterr().out.split()[-1])
    assert printed == pytest.approx(theirs(folder, "llama", [names["dialogue"]])[0], abs=1e-5)


def test_samples_are_chosen_by_their_helpfulness_and_our_safety(folder, registry):
    run_here(
        "rejection-sample", "--policy", "policy/tiny", "--helpfulness", "reward_model/theirs",
        "--registry", registry.root, "--recipe", "micro", "--quiet",
        *(word for change in ("num_helpful=4", "num_adversarial=2", "max_new_tokens=48", "k=8", "temperatures=[1.0]")
          for word in ("--set", f"rejection_sampling.{change}")),
    )  # fmt: skip
    samples = read_records(registry.open("samples/v1").file("samples.parquet"), Sample)
    spoken = [each for each in samples if each.response.strip()]
    dialogues = [[*each.prompt, assistant(each.response)] for each in spoken]
    assert len(spoken) > 12
    helpfulness = theirs(folder, "llama", dialogues)
    safety = RewardScorer.load(registry.open("reward_model/safety").path).score(dialogues).tolist()
    assert [each.helpfulness_score for each in spoken] == pytest.approx(helpfulness, abs=1e-5)
    assert [each.safety_score for each in spoken] == pytest.approx(safety, abs=1e-5)
    unsafe = [each.is_safety or each.safety_score < -1.7346 for each in spoken]  # whose sigmoid is 0.15
    assert 0 < sum(unsafe) < len(spoken)
    expected = [s if by_safety else h for h, s, by_safety in zip(helpfulness, safety, unsafe, strict=True)]
    assert [each.combined_score for each in spoken] == pytest.approx(expected, abs=1e-5)


def test_ppo_is_rewarded_by_it_and_starts_its_critic_from_the_policy(registry):
    settings = ("iterations=1", *SIXES, "num_helpful=4", "num_adversarial=2", "max_new_tokens=8", "validation.every=0")
    done = run_here(
        "ppo", "--policy", "policy/tiny", "--helpfulness", "reward_model/theirs", "--name", "rewarded",
        "--registry", registry.root, "--recipe", "micro",
        *(word for change in settings for word in ("--set", f"ppo.{change}")),
    )  # fmt: skip
    said = "reward_model/theirs@1 is an external reward model, so the critic starts as policy/tiny@1 with a new head"
    assert said in plain(done.output)
    made = registry.open("policy/rewarded")
    assert [parent.reference for parent in made.manifest.parents["helpfulness"]] == ["reward_model/theirs@1"]
    before, after = (load_policy(each.path)[0] for each in (registry.open("policy/tiny"), made))
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)


def test_the_doctor_looks_at_it(registry):
    dialogues = [[user(f"Question {n}?"), assistant("the owl " * n + "sleeps.")] for n in range(12)]
    checks = list(reward_checks("helpfulness", registry.open("reward_model/theirs").path, dialogues, 0.15))
    assert [check.name for check in checks] == ["helpfulness scores", "helpfulness alone and batched"]
    assert checks[0].state != "wrong" and "12 responses" in checks[0].found and checks[1].state == "ok"
    refused = [[{"role": "system", "content": "Be brief."}, *dialogues[0]]]
    (check,) = reward_checks("helpfulness", registry.open("reward_model/theirs").path, refused, 0.15)
    assert check.state == "wrong" and "no system message, please" in check.found


def preferences(registry: Registry, tmp_path) -> Artifact:
    judged = {"response_a": "Yes.", "response_b": "No.", "choice": "a", "annotator": "ada"}
    rows = [{"prompt": f"Question {n}?", **judged} for n in range(4)]
    write(tmp_path / "judged.jsonl", rows)
    words = ("--axis", "helpfulness", "--registry", registry.root, "--quiet", "--rejects", tmp_path / "rejects.jsonl")
    run_here("import", tmp_path / "judged.jsonl", *words)
    return registry.resolve("preferences/judged")


def test_what_is_counted_or_shown_in_the_policys_chat_format_refuses_it(registry, tmp_path):
    words = ("--model", "reward_model/theirs", "--registry", registry.root)
    said = "reward_model/theirs@1"
    judged = preferences(registry, tmp_path)
    limit = ("--axis", "helpfulness", "--max-tokens", "50", "--name", "counted")
    counted = run_here("import", tmp_path / "judged.jsonl", *limit, *words, code=2)
    shown = run_here("data", "show", str(judged.reference), *words, code=2)
    for done in (counted, shown):
        assert said in plain(done.output) and "an external reward model, which has its own chat format" in plain(done.output)
