"""``rlhf doctor``: a sound registry is healthy, and each thing that is broken is named, with what to do."""

import copy
import errno
import fcntl
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import plain, run_here
from fakes import make_prompts, tiny_policy, tiny_tokenizer
from rich.console import Console
from stage_runs import REWARD_MODELS, make, put_dialogues, put_models, put_policy, put_prompts
from tokenizers import AddedToken
from transformers import LlamaForSequenceClassification, LlamaTokenizer
from typer.testing import CliRunner

from commands.cli import app
from policy.chat import CHAT_TEMPLATE, encode_dialogue
from policy.generation import TransformersSampler
from preference_data.messages import assistant, user
from preference_data.prompt import Dialogue, make_dialogue
from registry.store import Registry
from reward_model.model import build_reward_model, save_reward_model
from rlhf.config import PPOConfig
from rlhf.step_zero import sample_as_ppo
from stages.catalog import STAGES
from stages.doctor.format import DIALOGUES, TAGGED_ANSWER, embeddings, format_checks, special_tokens
from stages.doctor.machine import LEAST_DISK, disk, library_checks, locks
from stages.doctor.masks import count_masks, masks_check
from stages.doctor.rewards import alike, reward_checks, scale
from stages.doctor.step_zero import step_zero_checks
from stages.pipeline import steps
from stages.recipe import load_recipe
from stages.sections import PPOStageConfig
from stages.terminal.progress import Progress

WORDS = ["fox", "owl", "plum", "sea", "pot", "garden", "kitchen", "Napoleon"]


@pytest.fixture(scope="session")
def _made(tmp_path_factory) -> Path:
    """A registry with a policy, two reward models, prompts and dialogues, all tiny."""
    registry = Registry(tmp_path_factory.mktemp("doctor") / "registry")
    policy = tiny_policy()
    policy.lm_head.weight.data *= 6
    put_models(registry, "sft", policy, scale=30)
    put_prompts(registry, "tuning", make_prompts([f"The {word}?" for word in WORDS]))
    put_dialogues(registry, "demonstrations", dialogues())
    return registry.root


@pytest.fixture
def root(_made, monkeypatch) -> Path:
    monkeypatch.delenv("RLHF_REGISTRY", raising=False)
    return _made


@pytest.fixture
def folder(root, tmp_path) -> Path:
    """A Hugging Face folder of the policy, to be broken."""
    from registry.upkeep import export

    export(Registry(root), "policy/sft", tmp_path / "model")
    return tmp_path / "model"


def dialogues() -> list[Dialogue]:
    return [make_dialogue([user(f"{word}?"), assistant(f"The {word}.")], family="fact", source="test") for word in WORDS]


def run(*arguments):
    """(exit code, checks by name, everything said)."""
    done = CliRunner().invoke(app, ["doctor", *map(str, arguments), "--json"])
    found = json.loads(done.stdout) if done.stdout.startswith("{") else {"checks": []}
    if found["checks"]:
        assert found["healthy"] == (done.exit_code == 0) == all(check["state"] != "wrong" for check in found["checks"])
        assert len({check["name"] for check in found["checks"]}) == len(found["checks"])
        assert all(check["advice"] for check in found["checks"] if check["state"] in ("wrong", "skipped"))
    return done.exit_code, {check["name"]: check for check in found["checks"]}, done.output


def wrong(checks) -> list[str]:
    return [name for name, check in checks.items() if check["state"] == "wrong"]


# The command


def test_with_nothing_to_look_at_it_says_what_it_skipped_and_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("RLHF_REGISTRY", raising=False)
    code, checks, _ = run("--registry", tmp_path / "none")
    assert code == 0
    assert {name for name, check in checks.items() if check["state"] == "skipped"} == {
        "step 0", "helpfulness scores", "safety scores",
    }  # fmt: skip
    assert checks["step 0"]["advice"].startswith("give --policy REF")
    assert checks["tokenizer"]["state"] == "note" and "a fresh tokenizer" in checks["tokenizer"]["found"]
    for name in ("python", "libraries", "disk", "locks", "special tokens", "turns", "round trip", "tags", "template", "masks"):
        assert checks[name]["state"] == "ok", checks[name]
    assert list(tmp_path.iterdir()) == []


def test_a_sound_registry_is_healthy(root) -> None:
    before = sorted(root.rglob("*"))
    code, checks, said = run("--registry", root, "--recipe", "micro")
    assert code == 0, said
    for name in ("step 0 prompts", "step 0 ratio", "step 0 KL", "embeddings", "masks", "helpfulness alone and batched"):
        assert checks[name]["state"] == "ok", checks[name]
    assert checks["tokenizer"]["found"].startswith("that of policy/sft@1")
    assert (
        "8 responses" in checks["step 0 ratio"]["found"] and "(tolerance 0.0001 in float32)" in checks["step 0 ratio"]["found"]
    )
    assert checks["step 0 KL"]["found"].startswith("0 nats a response")
    assert checks["masks"]["found"].startswith("dialogues/demonstrations@1: 8 dialogues")
    assert "below the threshold 0.15" in checks["safety scores"]["found"]
    assert sorted(root.rglob("*")) == before


def test_people_read_one_line_a_check_and_what_to_do_next(root) -> None:
    lines = run_here("doctor", "--registry", root, "--recipe", "micro").stdout.splitlines()
    assert lines[0].startswith("ok       python: ")
    assert lines[-2:] == ["nothing is wrong", "next: rlhf plan --recipe micro"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy", "policy/none"), "'policy/none' is not in"),
        (("--policy", "./nowhere"), "./nowhere is not a model folder"),
        (("--helpfulness", "policy/sft"), "and one of kind reward_model is needed"),
        (("--prompts", "prompts/tunning"), "Did you mean prompts/tuning?"),
        (("--recipe", "microo"), "there is no recipe 'microo'"),
        (("--set", "ppo.temperature=0"), "ppo.temperature"),
    ],
)
def test_bad_usage_is_refused(root, arguments, message) -> None:
    said = run_here("doctor", "--registry", root, *arguments, code=2).output
    assert message in plain(said) and "ok       " not in said


def test_a_folder_from_outside_is_looked_at_with_what_there_is(folder, tmp_path) -> None:
    code, checks, said = run("--policy", folder, "--registry", tmp_path / "none")
    assert code == 0, said
    assert checks["prompts"]["state"] == "skipped" and "built-in prompts are answered" in checks["prompts"]["found"]
    assert checks["step 0 ratio"]["state"] == checks["step 0 KL"]["state"] == "ok"
    for name in ("model.safetensors", "config.json"):
        (folder / name).unlink()
    code, checks, _ = run("--policy", folder, "--registry", tmp_path / "none")
    assert code == 0 and checks["template"]["state"] == "ok"
    assert checks["step 0"]["state"] == "skipped" and "holds no model" in checks["step 0"]["found"]


def edit(path: Path, change) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_a_pad_token_that_is_eos_is_named(folder, root) -> None:
    edit(folder / "tokenizer_config.json", lambda values: values.update(pad_token="</s>"))
    code, checks, _ = run("--policy", folder, "--registry", root)
    assert code == 1
    assert "pad is EOS (id 2)" in checks["special tokens"]["found"] and "unk_token" in checks["special tokens"]["advice"]
    assert "the pad token is EOS" in checks["step 0"]["found"]
    assert set(wrong(checks)) == {"special tokens", "step 0"}
    said = run_here("doctor", "--policy", folder, "--registry", root, code=1).stdout
    assert "WRONG    special tokens: pad is EOS" in said and "checks found something wrong" in said


def test_a_tensor_that_the_folder_lacks_shows_as_a_kl(folder, root) -> None:
    """transformers draws it anew at each loading: policy and reference part before any update."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    code, checks, _ = run("--policy", folder, "--registry", root)
    assert code == 1 and wrong(checks) == ["step 0 KL"]
    assert (
        "cause: weights: 1 tensors of policy and reference differ, model.layers.1.mlp.up_proj.weight"
        in checks["step 0 KL"]["found"]
    )


def test_a_file_that_is_no_longer_what_was_committed_is_named(root, tmp_path) -> None:
    shutil.copytree(root, tmp_path / "registry")
    weights = next((tmp_path / "registry" / "reward_model" / "safety").rglob("model.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    code, checks, _ = run("--registry", tmp_path / "registry")
    assert code == 1
    assert "reward_model/safety@1 is not what was committed: model.safetensors" in checks["safety artifact"]["found"]
    assert wrong(checks) == ["safety artifact"]
    assert checks["safety scores"]["state"] == "skipped" and checks["helpfulness scores"]["state"] != "wrong"


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_damaged_files_are_findings_and_no_crash(folder, root, name) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    code, checks, _ = run("--policy", folder, "--registry", root)
    assert code == 1
    assert wrong(checks) == (["tokenizer"] if name == "tokenizer.json" else ["step 0"])


def test_a_teams_recipe_names_the_checkpoint_to_look_at(folder, tmp_path) -> None:
    code, checks, said = run("--recipe", "llama2-7b", "--set", f"base.checkpoint={folder}", "--registry", tmp_path / "none")
    assert code == 0, said
    assert checks["tokenizer"]["found"].startswith(f"that of {folder}") and checks["step 0 ratio"]["state"] == "ok"


def test_a_micro_run_is_healthy(micro) -> None:
    code, checks, said = run("--recipe", "micro", "--registry", micro[0] / "registry")
    assert code == 0, said
    states = {name: check["state"] for name, check in checks.items()}
    assert "skipped" not in states.values()
    assert states["step 0 ratio"] == states["step 0 KL"] == states["template refusals"] == "ok"
    assert {step.makes for step in steps(load_recipe("micro"))} >= {"prompts/tuning", "dialogues/demonstrations"}


# The chat format


def checked(tokenizer, in_registry=True):
    return {check.name: check for check in format_checks(tokenizer, in_registry)}


def broken(**changes):
    tokenizer = copy.deepcopy(tiny_tokenizer())
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return tokenizer


def test_the_battery_has_all_it_speaks_of() -> None:
    assert {len(messages) for messages in DIALOGUES} == {2, 3, 5}
    assert all(check.state == "ok" for check in checked(tiny_tokenizer()).values())
    assert len(checked(tiny_tokenizer())) == 6


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"pad_token": "</s>"}, "pad is EOS (id 2)"),
        ({"pad_token": "<s>"}, "pad is BOS (id 1)"),
        ({"bos_token": None}, "there is no BOS"),
        ({"eos_token": None}, "there is no EOS"),
        ({"unk_token": None}, "there is no unk"),
        ({"eos_token": "<0x00>"}, "unk, BOS, EOS and pad have the ids (0, 1, 3, 0) and must have (0, 1, 2, 0)"),
    ],
)
def test_special_tokens_that_are_missing_or_mixed_up(changes, found) -> None:
    check = special_tokens(broken(**changes))
    assert check.state == "wrong" and found in check.found


def test_a_pad_token_that_is_missing_is_unk() -> None:
    check = special_tokens(broken(pad_token=None))
    assert check.state == "ok" and "unk stands in" in check.found


class Padded(type(tiny_tokenizer())):
    """A tokenizer whose pad id lies outside of its vocabulary."""

    pad_token_id = 9999


class Meddling(type(tiny_tokenizer())):
    """A tokenizer whose subclasses meddle with the text, or with the ids that become of it."""

    def before(self, text):
        return text

    def after(self, text, ids):
        return ids

    def __call__(self, text, **options):
        texts = [text] if isinstance(text, str) else text
        found = super().__call__([self.before(each) for each in texts], **options)
        ids = [self.after(each, its_ids) for each, its_ids in zip(texts, found["input_ids"], strict=True)]
        found["input_ids"] = ids[0] if isinstance(text, str) else ids
        return found


class AddsBos(Meddling):
    """Puts BOS in front although it is told not to."""

    def after(self, text, ids):
        return [1, *ids]


class NeverSplits(Meddling):
    """Reads special tokens out of plain text, as the slow ones do."""

    def __call__(self, text, **options):
        return super().__call__(text, **{**options, "split_special_tokens": False})


class Lossy(Meddling):
    """Forgets capitals."""

    def before(self, text):
        return text.lower().replace("[inst]", "[INST]").replace("[/inst]", "[/INST]")


class Merges(Meddling):
    """Has tokens that cross the end of the prompt."""

    def after(self, text, ids):
        return ids if text.endswith("[/INST]") else [*ids[:1], 7, *ids[1:]]


def of_kind(kind):
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.__class__ = kind
    return tokenizer


def test_tokenizers_that_cannot_carry_the_format() -> None:
    assert "pad has the id 9999" in special_tokens(of_kind(Padded)).found

    check = checked(of_kind(AddsBos))["turns"]
    assert check.state == "wrong" and "2 BOS and 1 EOS where 1 and 1 belong" in check.found

    check = checked(of_kind(NeverSplits))["turns"]
    assert check.state == "wrong" and "2 BOS and 2 EOS where 1 and 1 belong" in check.found and len(TAGGED_ANSWER) == 2

    check = checked(of_kind(Lossy))["round trip"]
    assert check.state == "wrong" and "['Paris.'] are read back as ['paris.']" in check.found

    checks = checked(of_kind(Merges))
    assert "merges '[/INST]' with the answer" in checks["turns"].found and set(checks) == {"special tokens", "turns"}

    assert checked(broken(eos_token=None))["turns"].state == "skipped"


def test_unknown_characters_are_padding_here() -> None:
    """Without byte fallback what the tokenizer does not know becomes ``<unk>``."""
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.backend_tokenizer.model.byte_fallback = False
    check = checked(tokenizer)["round trip"]
    assert check.state == "wrong" and "holds unk, which is padding here" in check.found


def test_tags_that_are_special_tokens_are_named() -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_tokens([AddedToken("[INST]", special=True, normalized=False)])
    check = checked(tokenizer)["tags"]
    assert check.state == "wrong" and check.found == "[INST] is a special token"


def test_templates_that_say_something_else() -> None:
    twice = broken(chat_template=CHAT_TEMPLATE.replace("bos_token + '[INST] '", "bos_token + bos_token + '[INST] '"))
    check = checked(twice)["template"]
    assert check.state == "wrong" and check.found.startswith("at token 2: found '<s> [INST] What is")

    loose = CHAT_TEMPLATE.replace("{%- if tag in message['content'] -%}", "{%- if false -%}")
    check = checked(broken(chat_template=loose))["template refusals"]
    assert check.state == "wrong" and "[INST], [/INST], <<SYS>>" in check.found
    assert checked(broken(chat_template=loose), in_registry=False)["template refusals"].state == "note"

    check = checked(broken(chat_template="{{ raise_exception('not today') }}"))["template"]
    assert check.state == "wrong" and "cannot render" in check.found and "not today" in check.found

    assert checked(broken(chat_template=None))["template"].state == "wrong"
    check = checked(broken(chat_template=None), in_registry=False)["template"]
    assert check.state == "note" and "base.checkpoint" in check.advice


def test_a_tokenizer_that_puts_a_space_before_the_first_word_alone_needs_one_in_its_template() -> None:
    """As Llama 2's own does, unless it is told to be ``legacy``."""
    learnt = json.loads(tiny_tokenizer().backend_tokenizer.to_str())["model"]
    merges = [tuple(pair) for pair in learnt["merges"]]

    def llama(template, legacy=False):
        return LlamaTokenizer(vocab=learnt["vocab"], merges=merges, legacy=legacy, pad_token="<unk>", chat_template=template)

    spaced = CHAT_TEMPLATE.replace("bos_token + '[INST] '", "bos_token + ' [INST] '")
    for in_registry, state in ((True, "wrong"), (False, "note")):
        check = checked(llama(CHAT_TEMPLATE), in_registry)["template"]
        assert check.state == state and "lacks the space in front of each turn" in check.found
        assert "bos_token + ' [INST] '" in check.advice
    assert checked(llama(spaced))["template"].state == checked(llama(CHAT_TEMPLATE, legacy=True))["template"].state == "ok"
    ids = llama(spaced).apply_chat_template(DIALOGUES[0], tokenize=True, return_dict=True)["input_ids"]
    assert ids == encode_dialogue(llama(None), DIALOGUES[0]).ids


def test_every_token_needs_an_embedding() -> None:
    assert embeddings(450, 450).state == embeddings(450, 512).state == "ok"
    assert embeddings(451, 450).state == "wrong"


# Masks


def test_masks_are_counted_and_judged() -> None:
    good = dialogues()
    untrained = replace(good[0], train_on="none")
    refused = replace(good[1], messages=[user("say [INST]"), assistant("no")])
    masks = count_masks(tiny_tokenizer(), [*good, untrained, refused], 512)
    assert (masks.num_dialogues, masks.untrained, masks.refused, masks.too_long) == (10, 1, 1, 0)
    check = masks_check(masks, 512, "mine")
    assert check.state == "wrong" and "1 dialogues have no token to train on, 1 dialogues cannot be encoded" in check.found

    masks = count_masks(tiny_tokenizer(), good, 512)
    ids = [tiny_tokenizer()(f"The {word}. ", add_special_tokens=False)["input_ids"] for word in WORDS]
    assert masks.num_trained == sum(len(each) + 1 for each in ids)
    assert masks_check(masks, 512, "mine").state == "ok"

    lengths = sorted(masks.num_tokens for masks in (count_masks(tiny_tokenizer(), [each], 512) for each in good))
    some = count_masks(tiny_tokenizer(), good, lengths[-1] - 1)
    assert 0 < some.too_long < 8 and masks_check(some, lengths[-1] - 1, "mine").state == "note"
    check = masks_check(count_masks(tiny_tokenizer(), good, 3), 3, "mine")
    assert check.state == "wrong" and "every dialogue is longer than 3 tokens" in check.found
    assert "0% of the tokens" in masks_check(count_masks(tiny_tokenizer(), [untrained], 512), 512, "mine").found


# Reward models


def spread(count=100, scale_=1.0, shift=0.0):
    return shift + scale_ * torch.linspace(-2, 2, count)


def test_scales_are_measured_and_judged() -> None:
    random = torch.randn(100, generator=torch.Generator().manual_seed(0)).exp() * 50
    check = scale("safety", spread(), random, 0.15)
    below = sum(1 for logit in spread().tolist() if logit < -1.7346)  # logit(0.15)
    assert check.state == "ok" and f"{below}% below the threshold 0.15" in check.found
    assert "mean 0.00, sd 1.2, -2.00 to 2.00 (10, 50, 90 %: -1.60, 0.00, 1.60)" in check.found

    dead = scale("helpfulness", spread(scale_=1e-3), random, 0.15)
    assert dead.state == "wrong" and "never trained" in dead.advice and "threshold" not in dead.found
    assert scale("helpfulness", torch.full((100,), float("nan")), random, 0.15).state == "wrong"

    long = scale("helpfulness", spread(), 10 * spread() + 30, 0.15)
    assert long.state == "note" and "correlation with length 1.00" in long.found and "hardly more than length" in long.advice
    full = scale("helpfulness", spread(shift=9), random, 0.15)
    assert full.state == "note" and "100% beyond a sigmoid of 0.99" in full.found and "saturated" in full.advice
    low = scale("safety", spread(shift=-5), random, 0.15)
    assert low.state == "note" and "helpfulness never counts" in low.advice
    assert "correlation" not in scale("safety", spread(), torch.full((100,), 7.0), 0.15).found


def test_a_score_that_depends_on_its_batch_is_wrong() -> None:
    assert alike("safety", torch.tensor([1.0, -100.0]), torch.tensor([1.000009, -100.0009])).state == "ok"
    check = alike("safety", torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1]))
    assert check.state == "wrong" and "differs from the same in a batch by 0.048" in check.found
    assert alike("safety", torch.tensor([1.0]), torch.tensor([float("nan")])).state == "wrong"


def test_a_reward_model_without_its_head_is_refused(folder) -> None:
    (check,) = reward_checks("safety", folder, [dialogues()[0].messages], 0.15)
    assert check.state == "wrong" and "has no score.weight" in check.found


def test_a_dead_head_is_found_through_the_command(root, tmp_path) -> None:
    model, tokenizer = build_reward_model(Registry(root).resolve("policy/sft").path, 0)
    assert isinstance(model, LlamaForSequenceClassification)
    with torch.no_grad():
        model.get_parameter("score.weight").zero_()
    save_reward_model(model, tokenizer, tmp_path)
    checks = list(reward_checks("helpfulness", tmp_path, [each.messages for each in dialogues()], 0.15))
    assert [check.state for check in checks] == ["wrong", "ok"]


# PPO's step 0 (its causes: tests/rlhf/test_step_zero.py)


class HalfTemperature(TransformersSampler):
    """Samples at half the temperature that it is asked for."""

    def sample(self, prompts, k, temperature, *settings):
        return super().sample(prompts, k, temperature / 2, *settings)


class DropsBOS(TransformersSampler):
    """Reports prompts without their BOS."""

    def sample(self, *settings):
        return [[replace(response, prompt_ids=response.prompt_ids[1:])] for (response,) in super().sample(*settings)]


def step_zero_of(sampler, policy, reference):
    config = PPOConfig(max_new_tokens=12)
    sampling = sample_as_ppo(sampler(policy, tiny_tokenizer()), [[user(f"The {word}?")] for word in WORDS], config, 0)
    return {check.name: check for check in step_zero_checks(sampling, policy, reference, tiny_tokenizer())}


def test_step_0_names_the_cause_and_what_ppo_does_until_it_is_fixed() -> None:
    dropping = tiny_policy()
    for layer in dropping.model.layers:
        layer.self_attn.attention_dropout = 0.2
    ratio = step_zero_of(TransformersSampler, dropping.train(), tiny_policy())["step 0 ratio"]
    assert ratio.state == "wrong" and "cause: dropout: two forward passes over the same tokens differ" in ratio.found
    assert ratio.advice.startswith("call .eval() on the policy")
    assert "until this is fixed, PPO recomputes the log-probabilities" in ratio.advice

    checks = step_zero_of(DropsBOS, tiny_policy(), tiny_policy())
    for name in ("step 0 prompts", "step 0 ratio"):
        assert checks[name].state == "wrong" and "cause: template: 8 of 8 prompts" in checks[name].found

    checks = step_zero_of(TransformersSampler, tiny_policy(), tiny_policy(seed=4))
    assert checks["step 0 ratio"].state == checks["step 0 prompts"].state == "ok"
    assert checks["step 0 KL"].state == "wrong" and "cause: weights: " in checks["step 0 KL"].found


def test_step_0_detects_a_sampler_with_another_temperature_and_names_no_usual_cause() -> None:
    checks = step_zero_of(HalfTemperature, tiny_policy(), tiny_policy())
    ratio = checks["step 0 ratio"]
    assert ratio.state == "wrong" and "no usual cause explains it (template, dropout, padding, dtype)" in ratio.found
    assert "Still possible: a sampler that uses another temperature" in ratio.found
    assert "until this is fixed, PPO recomputes the log-probabilities" in ratio.advice
    assert checks["step 0 KL"].state == checks["step 0 prompts"].state == "ok"


def test_ppo_says_when_it_recomputes_and_what_to_run(root, tmp_path) -> None:
    """A policy whose frequencies change with the length of what it reads: with a cache, the first tokens keep the old ones."""
    registry = Registry(tmp_path / "registry")
    shutil.copytree(root, registry.root)
    policy = tiny_policy()
    short, long = [1.0] * 4, [8.0] * 4
    policy.config.rope_parameters = {
        "rope_type": "longrope", "rope_theta": 1e4, "short_factor": short, "long_factor": long, "factor": 1.0,
        "original_max_position_embeddings": 14,
    }  # fmt: skip
    put_policy(registry, "stretched", policy=policy)
    config = PPOStageConfig(
        iterations=1, batch_size=4, minibatch_size=4, microbatch_size=4, max_new_tokens=12, num_helpful=4, num_adversarial=0,
        reward="sum",
    )  # fmt: skip
    output = io.StringIO()
    inputs = {"policy": ["policy/stretched"], "prompts": ["prompts/tuning"], **REWARD_MODELS}
    progress = Progress(console=Console(file=output))
    made = make(registry, STAGES["ppo"], config, inputs, "stretched-ppo", progress, seed=0)
    assert "the log-probabilities of the forward pass are used. rlhf doctor looks for the cause" in output.getvalue()
    metrics = made.manifest.metrics
    assert metrics["recomputed"] == 1 and metrics["ratio_error"] > 1e-4 and metrics["kl"] == 0.0

    code, checks, _ = run("--policy", "policy/stretched", "--registry", registry.root, "--set", "ppo.max_new_tokens=12")
    assert code == 1 and wrong(checks) == ["step 0 ratio"]
    assert "or cached decoding" in checks["step 0 ratio"]["found"]


# The machine


def test_versions_out_of_range_and_missing_libraries_are_named(tmp_path, monkeypatch) -> None:
    about = tmp_path / "patient-1.0.dist-info"
    about.mkdir()
    lines = [
        "Metadata-Version: 2.1", "Name: patient", "Version: 1.0", "Requires-Python: >=4",
        "Requires-Dist: torch>=99", "Requires-Dist: no-such-library>=1", "Requires-Dist: typer>=0.1",
        "Provides-Extra: fast", 'Requires-Dist: no-such-engine; extra == "fast"',
        "Provides-Extra: slim", 'Requires-Dist: rich>=1; extra == "slim"',
    ]  # fmt: skip
    (about / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    checks = {check.name: check for check in library_checks("patient")}
    assert checks["python"].state == "wrong" and "does not fit >=4" in checks["python"].found
    libraries = checks["libraries"]
    assert libraries.state == "wrong" and f"torch {torch.__version__} does not fit >=99" in libraries.found
    assert "no-such-library is missing" in libraries.found and "typer" not in libraries.found
    assert libraries.advice == 'pip install "torch>=99" "no-such-library>=1"'
    assert (checks["extra fast"].state, checks["extra slim"].found) == ("note", "installed")
    assert "no-such-engine is missing" in checks["extra fast"].found
    (check,) = library_checks("nobody-installed-this")
    assert check.state == "skipped"


def test_disk_and_locks(tmp_path, monkeypatch) -> None:
    assert disk(tmp_path, LEAST_DISK - 1).state == "wrong" and disk(tmp_path, LEAST_DISK).state == "ok"
    assert locks(tmp_path).state == "ok" and not list(tmp_path.iterdir())
    file = tmp_path / "file"
    file.touch()
    assert locks(file).state == "note" and "cannot be written" in locks(file).found

    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    check = locks(tmp_path)
    assert check.state == "wrong" and "has no working locks (No locks available)" in check.found
