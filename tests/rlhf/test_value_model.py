"""The critic: values of the states before each response token, from the reward model's weights."""

from pathlib import Path

import pytest
import torch
from fakes import tiny_policy, tiny_tokenizer

from policy.checkpoint import save_checkpoint
from policy.tokenizer import train_tokenizer
from reward_model.model import build_reward_model, load_reward_model, save_reward_model
from rlhf.value_model import TokenizerMismatch, load_value_model


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
