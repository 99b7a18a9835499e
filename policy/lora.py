"""Low-rank adapters (Hu et al. 2021), put into a model and merged again. The one place that touches ``peft``.

The model keeps its class and its way to be called: adapters are put inside its layers. Merging adds each update to its matrix
and takes the adapters out, so what is saved is a plain checkpoint; the sum is the same up to rounding.
"""

from collections.abc import Sequence

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import LoraModel
from transformers import PreTrainedModel

from policy.config import LoraConfig


class LoraError(ValueError):
    """Adapters that fit no matrix of the model."""


class Adapters:
    """The adapters of ``model``, which is changed in place: only they and the modules ``trained`` have gradients now.

    Their initial weights come from ``seed``; at first they change nothing. Raises LoraError when a target is not in the model.
    """

    def __init__(self, model: PreTrainedModel, config: LoraConfig, seed: int, trained: Sequence[str] = ()):
        present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        if missing := sorted(set(config.targets) - present):
            raise LoraError(f"adapters are asked for in {', '.join(missing)}, which no layer of {type(model).__name__} has")
        adapted = PeftLoraConfig(
            r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=list(config.targets)
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._inside = LoraModel(model, adapted, "default")
        for name in trained:
            model.get_submodule(name).requires_grad_(True)

    def merge(self) -> None:
        """Add the updates to the matrices and take the adapters out of the model."""
        self._inside.merge_and_unload()
