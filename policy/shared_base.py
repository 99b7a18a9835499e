"""Several models on one set of weights: each is a model of its own, and its frozen parameters are another's.

They are the same objects, which memory holds once, whichever model computes with them. What a model has for itself are its
adapters (``policy/lora.py``), its head, and its configuration, so that one can attend in its own way while another does not.
Nothing is switched on or off between two calls.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class SharedBaseError(ValueError):
    """Weights that do not make the model that was asked for."""


def on_base(
    base: PreTrainedModel, model_class: type[PreTrainedModel], own: Mapping[str, Tensor], **settings: Any
) -> PreTrainedModel:
    """A ``model_class``, in eval mode, of the weights of ``base``, less its adapters, and of the tensors ``own`` by name.

    Nothing is copied: changing the model's weights in place changes those of ``base``. ``settings`` go into the copy of the
    configuration. Raises SharedBaseError when there is no tensor for some weight.
    """
    config = copy.deepcopy(base.config)
    config.update(settings)
    with torch.device("meta"):
        model = model_class(config)
    tensors = bare_tensors(base) | dict(own)
    names = list(bare_tensors(model))
    if missing := [name for name in names if name not in tensors]:
        raise SharedBaseError(
            f"a {model_class.__name__} was asked for on the weights of a {type(base).__name__}, which lack "
            f"{', '.join(missing)}; give them as its own, or load the model by itself"
        )
    for name in names:
        _put(model, name, tensors[name])
    if base.can_generate() and model.can_generate():
        model.generation_config = copy.deepcopy(base.generation_config)
    return model.eval()


def bare_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Parameters and buffers of ``model`` less its adapters, by the names they have without; a tied one under each of its."""
    parameters, buffers = model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)
    return {name.replace(".base_layer.", "."): tensor for name, tensor in [*parameters, *buffers] if ".lora_" not in name}


def _put(model: PreTrainedModel, name: str, tensor: Tensor) -> None:
    place, _, leaf = name.rpartition(".")
    module = model.get_submodule(place)
    if leaf in module._buffers:
        module._buffers[leaf] = tensor
    else:
        module._parameters[leaf] = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False)
