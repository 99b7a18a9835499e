"""The critic: an estimate, before each token of a response, of the score that the response will get.

It starts as the helpfulness reward model: the same backbone and scalar head, now applied at every position instead of the last
(the paper is silent on the critic; Stiennon et al. 2020 start it so). From then on it is a model of its own and shares no
weight with the reward model that scores. It reads the policy's token ids, so both must have one tokenizer; where the reward
model is external, the critic starts as the policy's own backbone with a new head.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from policy.logprobs import response_hidden
from reward_model.model import build_reward_model, load_reward_model


class TokenizerMismatch(ValueError):
    """The critic would read token ids of another tokenizer."""


class ValueModel(nn.Module):
    """A backbone with a scalar head; ``backbone`` and ``head`` are used as they are, not copied."""

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, prompt_ids: Sequence[list[int]], response_ids: Sequence[list[int]]) -> Tensor:
        """Values (B, T): column t is the value of the state before response token t. Garbage beyond a response's end."""
        hidden, _, _ = response_hidden(self.backbone, prompt_ids, response_ids)
        return self.head(hidden.to(next(self.head.parameters()).dtype)).squeeze(-1)


def load_value_model(path: Path, tokenizer: PreTrainedTokenizerBase) -> ValueModel:
    """The critic that starts as the reward model in the folder ``path``, for a policy that uses ``tokenizer``.

    Raises TokenizerMismatch, and RewardModelError for an external reward model (use ``new_value_model``).
    """
    model, own_tokenizer = load_reward_model(path)
    if own_tokenizer.get_vocab() != tokenizer.get_vocab():
        raise TokenizerMismatch(
            f"the critic at {path} has a tokenizer of {len(own_tokenizer)} tokens and the policy another, of {len(tokenizer)}; "
            "start the critic from a reward model that was trained from this policy's family"
        )
    assert isinstance(model.score, nn.Module)  # load_reward_model has checked the head
    return ValueModel(model.base_model, model.score)


def new_value_model(policy_path: Path, seed: int) -> ValueModel:
    """The critic that starts as the policy in ``policy_path``, with a head drawn from ``seed`` (see ``build_reward_model``)."""
    model, _ = build_reward_model(policy_path, seed)
    assert isinstance(model.score, nn.Module)
    return ValueModel(model.base_model, model.score)
