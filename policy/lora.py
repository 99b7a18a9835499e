"""Low-rank adapters (Hu et al. 2021), put into a model and merged again. The one place that touches ``peft``.

The model keeps its class and its way to be called: adapters are put inside its layers. Merging adds each update to its matrix;
what is saved then is a plain checkpoint, and the sum is the same up to rounding. A model has two kinds of adapters: ``fix``
puts in an update that stays as it is, ``Adapters`` one that is trained, on top of that where there is one.
"""

import warnings
from collections.abc import Sequence

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import LoraModel
from peft.tuners.lora import Linear
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from policy.adapters import Factors
from policy.config import LoraConfig
from policy.shared_base import on_base

_TRAINED, _FIXED = "default", "fixed"
_HEAD = "lm_head"


class LoraError(ValueError):
    """Adapters that fit no matrix of the model."""


def fix(model: PreTrainedModel, factors: Factors) -> None:
    """Add ``factors`` to the matrices of ``model``, beside them. No weight of the model is trained from then on.

    What they add to a policy's head is left out in a model without one. Raises LoraError for any other module that the model
    lacks.
    """
    model.requires_grad_(False)
    present = {name for name, _ in model.named_modules()}
    if missing := sorted(set(factors) - present - {_HEAD}):
        raise LoraError(f"an update of {', '.join(missing[:3])} was asked for, which {type(model).__name__} does not have")
    fitting = {name: factors[name] for name in factors if name in present}
    if not fitting:
        return
    ranks = {name: a.shape[0] for name, (_, a) in fitting.items()}
    config = PeftLoraConfig(
        r=max(ranks.values()), target_modules=sorted(ranks), rank_pattern=ranks, alpha_pattern=ranks
    )  # alpha is the rank: the scaling is in the factors
    _inject(model, config, _FIXED, seed=0)
    for name, layer in _layers(model).items():
        with torch.no_grad():
            for matrix, values in zip(_matrices(layer, _FIXED), fitting[name], strict=True):
                matrix.copy_(values)
    model.requires_grad_(False)


class Adapters:
    """The adapters of ``model``, which is changed in place: only they and the modules ``trained`` have gradients now.

    Their initial weights come from ``seed``; at first they change nothing. What is trained is float32 or wider, also in a model
    of half precision. Raises LoraError when a target is not in the model, or is the head of a model whose head and embeddings
    are one matrix.
    """

    def __init__(self, model: PreTrainedModel, config: LoraConfig, seed: int, trained: Sequence[str] = ()):
        present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        if missing := sorted(set(config.target_modules) - present):
            raise LoraError(f"adapters were asked for in {', '.join(missing)}, which no layer of {type(model).__name__} has")
        if _HEAD in config.target_modules and model.config.tie_word_embeddings:
            raise LoraError(
                f"adapters were asked for in {_HEAD}, whose matrix is the embeddings too; leave it out of target_modules"
            )
        adapted = PeftLoraConfig(
            r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=list(config.target_modules)
        )
        fixed = [parameter for name, parameter in model.named_parameters() if f".{_FIXED}." in name]
        self.model = model
        self._inside = _inject(model, adapted, _TRAINED, seed)
        if fixed:
            self._inside.set_adapter([_FIXED, _TRAINED])
            for parameter in fixed:
                parameter.requires_grad_(False)
        for name in trained:
            model.get_submodule(name).requires_grad_(True)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))

    def factors(self) -> Factors:
        """What they add to the matrices now; the scaling by alpha / rank is in B."""
        factors = {}
        for name, layer in _layers(self.model).items():
            if _TRAINED in layer.lora_A:
                b, a = _matrices(layer, _TRAINED)
                factors[name] = (b.detach() * layer.scaling[_TRAINED], a.detach().clone())
        return factors

    @torch.no_grad()
    def merged(self) -> PreTrainedModel:
        """Another model without adapters, to be saved: its matrices are merged one by one, on the CPU. Both share the
        matrices without adapters."""
        own = {f"{name}.weight": _merged(layer) for name, layer in _layers(self.model).items()}
        return on_base(self.model, type(self.model), own)

    def merge(self) -> None:
        """Add the updates to the matrices and take the adapters out of the model. Not for weights that others share."""
        self._inside.merge_and_unload()


def _inject(model: PreTrainedModel, config: PeftLoraConfig, name: str, seed: int) -> LoraModel:
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # the adapters of ``fix``
        torch.manual_seed(seed)
        return LoraModel(model, config, name)


def _layers(model: PreTrainedModel) -> dict[str, Linear]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, Linear)}


def _matrices(layer: Linear, name: str) -> tuple[Parameter, Parameter]:
    """B (out, rank) and A (rank, in) of the adapter ``name``."""
    return layer.get_parameter(f"lora_B.{name}.weight"), layer.get_parameter(f"lora_A.{name}.weight")


def _merged(layer: Linear) -> Tensor:
    weight = layer.get_parameter("base_layer.weight").detach().cpu().clone()
    for name in layer.active_adapters:
        if name in layer.lora_A:
            weight += layer.get_delta_weight(name).cpu()
    return weight
