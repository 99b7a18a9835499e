"""docs/coming-from-trl-ppo.md: its script runs and trains, and its table leaves out no option of either side."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from command_line import ROOT
from fakes import tiny_policy, tiny_tokenizer
from transformers import AutoModelForCausalLM

from policy.checkpoint import save_checkpoint
from reward_model.model import build_reward_model
from rlhf.config import PPOConfig

PAGE = (ROOT / "docs" / "coming-from-trl-ppo.md").read_text(encoding="utf-8")
TRL_OPTIONS = """learning_rate dataset_num_proc num_mini_batches total_episodes local_rollout_forward_batch_size
    num_sample_generations response_length stop_token stop_token_id temperature missing_eos_penalty sft_model_path world_size
    num_total_batches micro_batch_size local_batch_size batch_size local_mini_batch_size mini_batch_size push_to_hub
    reward_model_path model_adapter_name ref_adapter_name num_ppo_epochs whiten_rewards kl_coef kl_estimator cliprange vf_coef
    cliprange_value gamma lam ds3_gather_for_generation""".split()  # the fields of PPOConfig in TRL 1.10.0


def settings_rows() -> list[list[str]]:
    section = PAGE.partition("## Settings")[2].partition("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]


def test_the_table_names_every_option_of_trl() -> None:
    named = {word for row in settings_rows() for word in re.findall(r"`(\w+)`", row[0])}
    assert set(TRL_OPTIONS) <= named


def test_every_setting_of_ours_is_told_and_exists() -> None:
    section = PAGE.partition("## Settings")[2].partition("\n## ")[0]
    assert set(PPOConfig.model_fields) <= set(re.findall(r"\w+", section))
    leading = [re.match(r"`(\w+)", row[2]) for row in settings_rows()]
    assert {found[1] for found in leading if found} <= {*PPOConfig.model_fields, "rlhf"}  # one row leads with a command


def test_our_script_runs_goes_on_and_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if block.startswith("# here"))
    save_checkpoint(tiny_policy(), tiny_tokenizer(), tmp_path / "sft")
    save_checkpoint(*build_reward_model(tmp_path / "sft", 0), tmp_path / "reward-model")
    questions = [f"The fox and {'the owl ' * count}?" for count in range(20)]
    (tmp_path / "questions.txt").write_text("\n".join(questions))
    (tmp_path / "script.py").write_text(script.replace("iterations=16", "iterations=4"))
    monkeypatch.chdir(tmp_path)
    told = runpy.run_path("script.py")
    assert told["stats"].iteration == 4
    assert (tmp_path / "states").is_dir()
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    start = AutoModelForCausalLM.from_pretrained(tmp_path / "sft").state_dict()
    assert any(not torch.equal(saved[name], start[name]) for name in start)

    again = runpy.run_path("script.py")
    assert again["stats"] == told["stats"]  # out of the saved state: times would differ otherwise
