"""Small reward models and comparisons that the tests of the reward model share."""

import torch
from fakes import tiny_policy
from transformers import LlamaForSequenceClassification

from preference_data.comparison import Comparison
from preference_data.messages import user


def tiny_reward_model(dtype: torch.dtype = torch.float32) -> LlamaForSequenceClassification:
    """A random tiny reward model, the same each time."""
    trunk = tiny_policy()
    trunk.config.num_labels = 1
    model = LlamaForSequenceClassification(trunk.config)
    model.model = trunk.model
    with torch.no_grad():
        model.score.weight.normal_(0, 0.2, generator=torch.Generator().manual_seed(0))
    return model.to(dtype).eval()


def unchecked(number, chosen, rejected, rating="better", chosen_safe=None, rejected_safe=None) -> Comparison:
    """A comparison that nobody looked at: its responses may be alike, and it has no ids."""
    prompt = [user(f"Which one is older, the fox or number {number}?")]
    return Comparison(
        id="", item_id="", prompt_id="", source="", prompt=prompt, chosen=chosen, rejected=rejected, rating=rating,
        axis="helpfulness", is_safety=False, chosen_safe=chosen_safe, rejected_safe=rejected_safe,
    )  # fmt: skip
