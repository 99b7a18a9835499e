"""The stage that trains a reward model, where training goes wrong."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import tiny_policy, tiny_tokenizer
from stage_runs import make, put, put_preferences

from policy.checkpoint import save_checkpoint
from preference_data.comparison import Axis, Comparison
from preference_data.messages import user
from registry.artifact import Artifact
from registry.store import Registry
from reward_model.model import load_reward_model
from reward_model.training import NonFiniteLoss
from stages.catalog import STAGES
from stages.sections import RewardTrainingConfig
from stages.terminal.progress import Progress

Write = Callable[[Path], None]


def train(folder: Path, comparisons: list[Comparison], write_policy: Write, axis: Axis) -> Artifact:
    registry = Registry(folder / "registry")
    put(registry, "policy/given", write_policy)
    put_preferences(registry, "given", comparisons)
    config = RewardTrainingConfig(axis=axis, batch_size=4, microbatch_size=4, max_length=256, mixture="own")
    inputs = {"policy": ["policy/given"], "preferences": ["preferences/given"]}
    return make(registry, STAGES["train-reward"], config, inputs, axis, Progress(), seed=0)


def comparison(number: int, **changed: Any) -> Comparison:
    one = Comparison(
        id=f"pair-{number}", item_id=str(number), prompt_id=f"p{number}", source="test",
        prompt=[user(f"Where is number {number}?")], chosen="The owl.", rejected=f"The fox {number}.", rating="better",
        axis="helpfulness", is_safety=False, chosen_safe=None, rejected_safe=None,
    )  # fmt: skip
    return replace(one, **changed)


# the longest, which is in one batch of three, has a token that the policy gives no number to
COMPARISONS = [comparison(n, rejected="The fox. " * (1 + n) + "漢" * (n == 11)) for n in range(12)]


def write_policy(path: Path) -> None:
    policy = tiny_policy()
    with torch.no_grad():
        policy.model.embed_tokens.weight[tiny_tokenizer()("漢").input_ids[-1]] = math.inf
    save_checkpoint(policy, tiny_tokenizer(), path)


def test_what_has_no_rating_or_label_is_counted_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    labelled = {"axis": "safety", "is_safety": True, "rejected_safe": False}
    given = [
        comparison(n, rating=("better", "unrated")[n % 4 == 0], chosen_safe=(True, None)[n % 2], **labelled) for n in range(12)
    ]
    made = train(tmp_path, given, lambda path: save_checkpoint(tiny_policy(), tiny_tokenizer(), path), "safety")
    said = capsys.readouterr().err
    assert "3 of 12 comparisons are unrated; their margin is 0" in said
    assert "6 of 24 safety responses have no label" in said
    assert made.manifest.metrics["ratings"] == {"better": 9, "unrated": 3}
    assert made.manifest.metrics["safety_labels"] == {"safe": 6, "unsafe": 12, "none": 6}


def test_a_loss_that_is_no_number_leaves_the_model_before_that_step_behind(tmp_path: Path):
    with pytest.raises(NonFiniteLoss, match=r"comparisons have no finite score: pair-11;.* is kept in ") as caught:
        train(tmp_path, COMPARISONS, write_policy, "helpfulness")
    kept, _ = load_reward_model(Path(str(caught.value).rpartition(" is kept in ")[2]))
    assert kept.score.weight.isfinite().all()
    assert not Registry(tmp_path / "registry").revisions("reward_model", "helpfulness")


def test_a_policy_of_no_numbers_is_named_as_the_cause(tmp_path: Path):
    def write_broken(path: Path) -> None:
        policy = tiny_policy()
        with torch.no_grad():
            policy.model.norm.weight.fill_(math.nan)
        save_checkpoint(policy, tiny_tokenizer(), path)

    with pytest.raises(NonFiniteLoss, match=r"at step 1 of 3 .* 4 of the batch's 4 .*check the model you started from"):
        train(tmp_path, COMPARISONS, write_broken, "helpfulness")
