"""The critic: values of the states before each response token, from the reward model's weights."""

from pathlib import Path

import pytest
import torch
from external_models import make, publish
from fakes import tiny_policy, tiny_tokenizer

from policy.checkpoint import save_checkpoint
from policy.tokenizer import train_tokenizer
from reward_model.external import save_external
from reward_model.external_checkpoint import load_external
from reward_model.model import RewardModelError, build_reward_model, load_reward_model, save_reward_model
from rlhf.value_model import TokenizerMismatch, load_value_model, new_value_model


@pytest.fixture
def reward_model_path(tmp_path: Path) -> Path:
    save_checkpoint(tiny_policy(), tiny_tokenizer(), tmp_path / "policy")
    save_reward_model(*build_reward_model(tmp_path / "policy", seed=0), tmp_path / "reward_model")
    return tmp_path / "reward_model"


def test_values_are_the_reward_models_head_at_the_token_before(reward_model_path: Path) -> None:
    critic = load_value_model(reward_model_path, tiny_tokenizer())
    reward_model, _ = load_reward_model(reward_model_path)
    prompt_ids, response_ids = [[1, 9, 12, 30], [1, 8]], [[40, 41, 2], [50, 51, 52, 53, 2]]
    with torch.no_grad():
        values = critic(prompt_ids, response_ids)
        assert values.shape == (2, 5)
        for b, (prompt, response) in enumerate(zip(prompt_ids, response_ids, strict=True)):
            for t in range(len(response)):
                # The library's own classifier reads its head at the last token of what it is given.
                state = torch.tensor([[*prompt, *response[:t]]])
                assert values[b, t].item() == pytest.approx(reward_model(state).logits.item(), abs=1e-5)


def test_a_reward_model_of_another_tokenizer_is_refused(reward_model_path: Path) -> None:
    other = train_tokenizer(["quite another text, about other things"] * 5, vocab_size=300, chat_template="")
    with pytest.raises(TokenizerMismatch, match=r"has a tokenizer of \d+ tokens and the policy another.*this policy's family"):
        load_value_model(reward_model_path, other)


def test_an_external_reward_model_is_refused(tmp_path: Path) -> None:
    publish(tmp_path / "theirs", *make("llama"))
    model, tokenizer = load_external(tmp_path / "theirs")
    save_external(model, tokenizer, tmp_path / "kept")
    with pytest.raises(RewardModelError, match=r"is an external reward model.*trained here"):
        load_value_model(tmp_path / "kept", tokenizer)


def test_a_new_critic_is_the_policys_backbone_with_a_head_of_the_seed(tmp_path: Path) -> None:
    policy = tiny_policy()
    save_checkpoint(policy, tiny_tokenizer(), tmp_path)
    critic = new_value_model(tmp_path, seed=3)
    prompt, response = [1, 9, 12, 30], [40, 41, 2]
    with torch.no_grad():
        values = critic([prompt], [response])
        hidden = policy.model(torch.tensor([[*prompt, *response[:-1]]])).last_hidden_state[0, len(prompt) - 1 :]
        torch.testing.assert_close(values[0], hidden @ critic.head.weight[0], atol=1e-5, rtol=1e-5)
    heads = [new_value_model(tmp_path, seed=seed).head.weight for seed in (3, 4)]
    assert torch.equal(heads[0], critic.head.weight) and not torch.equal(heads[1], critic.head.weight)
