"""Any reward model of a registry as a Scorer: one that was trained here, or one from elsewhere."""

from pathlib import Path

import torch

from reward_model.foreign import ForeignScorer
from reward_model.model import is_foreign
from reward_model.scoring import BatchScorer, RewardScorer


def open_scorer(path: Path, batch_size: int = 64, dtype: torch.dtype = torch.float32) -> BatchScorer:
    """The reward model in the folder ``path``. Raises RewardModelError for a folder that holds none that can be used."""
    kind = ForeignScorer if is_foreign(path) else RewardScorer
    return kind.load(path, batch_size, dtype)
