"""Any reward model of a registry as a Scorer: one that was trained here, or an external one."""

from pathlib import Path

import torch

from reward_model.external import ExternalScorer
from reward_model.model import is_external
from reward_model.scoring import BatchScorer, RewardScorer


def open_scorer(path: Path, batch_size: int = 64, dtype: torch.dtype = torch.float32) -> BatchScorer:
    """The reward model in the folder ``path``. Raises RewardModelError for a folder that holds none that can be used."""
    kind = ExternalScorer if is_external(path) else RewardScorer
    return kind.load(path, batch_size, dtype)
