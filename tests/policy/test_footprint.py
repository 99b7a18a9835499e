"""Memory by arithmetic, held against what torch and transformers really keep."""

import pytest
import torch
from fakes import tiny_policy
from transformers import LlamaConfig, LlamaForCausalLM

from policy.architecture import llama_config
from policy.config import LoraConfig
from policy.footprint import activation_bytes, cache_bytes, logits_bytes, num_adapter_parameters, num_parameters, training
from policy.kv_cache import PromptCache
from policy.lora import Adapters

GROUPED = {"hidden_size": 256, "intermediate_size": 896, "num_attention_heads": 8, "num_key_value_heads": 2,
           "num_hidden_layers": 5, "head_dim": 32}  # fmt: skip


def shapes() -> list[LlamaConfig]:
    grouped = llama_config("70b", 500)
    grouped.update(GROUPED)
    return [llama_config("micro", 500), llama_config("nano", 700), grouped]


@pytest.mark.parametrize("config", shapes(), ids=["micro", "nano", "grouped"])
def test_parameters_are_those_of_the_model(config):
    assert num_parameters(config) == sum(parameter.numel() for parameter in LlamaForCausalLM(config).parameters())


@pytest.mark.parametrize(("preset", "billions"), [("7b", 6.74), ("13b", 13.02), ("34b", 33.74), ("70b", 68.98)])
def test_parameters_of_the_released_models(preset, billions):
    assert num_parameters(llama_config(preset)) / 1e9 == pytest.approx(billions, abs=0.005)


def kept_for_backward(model: LlamaForCausalLM, ids: torch.Tensor) -> int:
    """Bytes that autograd saves in the layers, each storage once, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept_alive = model.model(input_ids=ids, use_cache=False)
    assert kept_alive is not None
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


@pytest.mark.parametrize("config", shapes(), ids=["micro", "nano", "grouped"])
def test_activations_are_what_autograd_keeps(config):
    model = LlamaForCausalLM(config).train()
    ids = torch.randint(3, config.vocab_size, (3, 80))
    assert activation_bytes(config, ids.numel()) == pytest.approx(kept_for_backward(model, ids), rel=0.05)


def test_checkpointed_layers_keep_what_they_read_and_one_of_them_the_rest():
    config = llama_config("nano", 700)
    model = LlamaForCausalLM(config).train()
    read: list[torch.Tensor] = []
    for layer in model.model.layers:
        layer.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    ids = torch.randint(3, config.vocab_size, (3, 80))
    model(input_ids=ids)
    one_layer = llama_config("nano", 700)
    one_layer.update({"num_hidden_layers": 1})
    expected = sum(hidden.nbytes for hidden in read) + kept_for_backward(LlamaForCausalLM(one_layer).train(), ids)
    assert activation_bytes(config, ids.numel(), checkpointed=True) == pytest.approx(expected, rel=0.05)


def test_a_cache_is_as_large_as_the_one_that_the_sampler_fills():
    config = shapes()[2]
    cache = PromptCache(config.num_hidden_layers)
    LlamaForCausalLM(config)(input_ids=torch.randint(3, 500, (4, 12)), past_key_values=cache)
    held = sum(states.nbytes for layer in cache.layers for states in (layer.keys, layer.values))
    assert cache_bytes(config, 4 * 12) == held


def test_training_holds_weights_gradients_and_two_moments():
    config = llama_config("micro", 500)
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(input_ids=torch.randint(3, 500, (2, 8))).logits.sum().backward()
    optimizer.step()
    held = training(config, num_tokens=16, num_logits=4)
    assert held.weights == sum(parameter.nbytes for parameter in model.parameters())
    assert held.gradients == sum(parameter.grad.nbytes for parameter in model.parameters())
    moments = sum(state[name].nbytes for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq"))
    assert held.optimizer == moments
    assert held.activations == activation_bytes(config, 16) + logits_bytes(config, 4)
    assert held.total == held.weights + held.gradients + held.optimizer + held.activations


@pytest.mark.parametrize("targets", [LoraConfig().target_modules, ("q_proj", "v_proj"), ("down_proj",)])
def test_adapters_are_counted_as_they_are_made(targets):
    policy = tiny_policy()
    lora = LoraConfig(rank=3, target_modules=targets)
    Adapters(policy, lora, seed=0)
    trained = sum(parameter.numel() for parameter in policy.parameters() if parameter.requires_grad)
    assert num_adapter_parameters(policy.config, lora) == trained
