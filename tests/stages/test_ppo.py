"""``rlhf ppo``: what it leaves, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import plain, run_here
from fakes import make_prompts, talking_policy
from stage_runs import put_models, put_prompts

from policy.checkpoint import load_policy
from preference_data.comparison import AXES
from registry.store import Registry
from reward_model.opening import open_scorer
from rlhf.value_model import load_value_model
from stages.train.ppo import VALIDATION_FILE

SETTINGS = (
    "iterations=3", "batch_size=4", "minibatch_size=2", "microbatch_size=2", "max_new_tokens=8", "num_helpful=4",
    "num_adversarial=2", "learning_rate=3e-2", "validation={every: 1, num_prompts: 3}",
)  # fmt: skip
IDS = [[1, 17, 40, 99]], [[300, 5, 2]]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A policy, a reward model an axis, and prompts: 12 of which 4 are tagged, 12 untagged, and some for evaluation."""
    found = Registry(tmp_path_factory.mktemp("registry"))
    put_models(found, "start", talking_policy(), scale=50)
    texts = [f"Question {number}?" for number in range(12)]
    put_prompts(found, "tuning", make_prompts(texts[:4], is_safety=True) + make_prompts(texts[4:]))
    put_prompts(found, "untagged", make_prompts([f"Other {number}?" for number in range(12)]))
    put_prompts(found, "evaluation", make_prompts(["Question 5?", "Other 3?"]))
    put_prompts(found, "elsewhere", make_prompts(["Nobody asked?"]))
    return found


def ppo(registry: Registry, *changes: str, name: str = "mine", words: tuple[str, ...] = (), code: int = 0) -> Any:
    given = {change.partition("=")[0]: change for change in (*SETTINGS, *changes)}
    sets = [word for change in given.values() for word in ("--set", f"ppo.{change}")]
    shared = ["--policy", "policy/start", "--registry", str(registry.root), "--recipe", "micro", "--name", name]
    apart = [] if "--evaluation-prompts" in words else ["--evaluation-prompts", "prompts/elsewhere"]
    return run_here("ppo", *shared, *sets, *apart, *words, code=code)


@pytest.fixture(scope="module")
def made(registry: Registry) -> dict[str, Any]:
    return json.loads(ppo(registry, words=("--json", "--quiet")).stdout)


def test_the_answers_to_held_out_prompts_are_kept_with_their_scores(registry: Registry, made: dict[str, Any]) -> None:
    artifact = registry.resolve("policy/mine")
    rows = [json.loads(line) for line in artifact.file(VALIDATION_FILE).read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert len({row["prompt_id"] for row in rows}) == 3 and sum(row["is_safety"] for row in rows) == 4  # one of the three
    spoken = [row for row in rows if row["response"].strip()]
    dialogues = [[*row["messages"], {"role": "assistant", "content": row["response"]}] for row in spoken]
    for axis in AXES:
        scores = open_scorer(registry.resolve(f"reward_model/{axis}").path).score(dialogues).tolist()
        assert [row[axis] for row in spoken] == pytest.approx(scores, abs=1e-4)
    means = [sum(row["combined"] for row in rows if row["iteration"] == each) / 3 for each in range(4)]
    metrics = made["metrics"]
    assert metrics["validation_score_first"] == pytest.approx(means[0])
    assert metrics["validation_score_best"] == pytest.approx(max(means))
    assert metrics["best_iteration"] == means.index(max(means)) and metrics["iterations"] == 3


def test_the_critic_lies_beside_the_policy_and_another_run_starts_from_it(registry: Registry, made: dict[str, Any]) -> None:
    folder = registry.resolve("policy/mine").path
    _, tokenizer = load_policy(folder)
    ppo(registry, "iterations=1", "value_learning_rate=1e-30", name="next", words=("--critic", "policy/mine", "--quiet"))
    started, after = registry.resolve("reward_model/helpfulness").path, registry.resolve("policy/next").path
    with torch.no_grad():
        before, saved, again = (
            load_value_model(path, tokenizer)(*IDS) for path in (started, folder / "value_model", after / "value_model")
        )
    assert (saved - before).abs().max() > 1e-3
    torch.testing.assert_close(again, saved)


def test_prompts_for_evaluation_are_refused_unless_they_are_allowed(registry: Registry) -> None:
    apart = ("--evaluation-prompts", "prompts/evaluation")
    taken = ("num_helpful=5",)  # with one held out, all of those without the tag but two
    refused = plain(ppo(registry, *taken, "validation={every: 1, num_prompts: 4}", name="over", words=apart, code=2).output)
    assert "1 of the 11 drawn prompts are for evaluation" in refused
    assert "--allow-overlap (in a recipe ppo.allow_overlap=true)" in refused
    allowed = (*apart, "--allow-overlap", "--json", "--quiet")
    told = json.loads(ppo(registry, *taken, "validation={every: 1, num_prompts: 4}", name="over", words=allowed).stdout)
    assert told["metrics"]["overlapping"] == 1


REFUSED = [
    ((), ("--prompts", "prompts/untagged"), "none of the 12 prompts has the safety tag, and the reward combined takes"),
    (("reward=builtins:list",), (), "the reward builtins:list was given"),
    (("reward=statistics:nothing",), (), "the reward statistics:nothing cannot be imported"),
    (("reward=kindness",), (), "reward is 'kindness'; give combined, sum, helpfulness, safety, lagrangian, or a function"),
    (("batch_size=6", "minibatch_size=4"), (), "batch_size 6 is not a multiple of minibatch_size 4: take minibatch_size 3"),
    (("validation={every: 1, num_prompts: 30}",), (), "the validations need other prompts than training: lower"),
    ((), ("--critic", "policy/start"), "the critic of policy/start@1 was asked for, and it holds no value_model/"),
    (("lora={target_modules: [no_proj]}",), (), "adapters were asked for in no_proj, which no layer of LlamaForCausalLM has"),
]


@pytest.mark.parametrize(("changes", "words", "message"), REFUSED)
def test_bad_input_is_refused_and_leaves_nothing(
    registry: Registry, changes: tuple[str, ...], words: tuple[str, ...], message: str
) -> None:
    if "--prompts" in words:
        changes = (*changes, "num_adversarial=0")
    refused = ppo(registry, *changes, name="refused", words=words, code=2)
    assert message in plain(refused.output)
    assert not Path(registry.root / "policy" / "refused").exists()
