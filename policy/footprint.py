"""How much memory a Llama takes, by arithmetic: nothing is loaded and nothing is built.

Numbers are bytes. Activations are those that autograd keeps for the backward pass of transformers' Llama with fused attention
and no dropout; a test holds them against what it really keeps.
"""

from dataclasses import dataclass

from transformers import LlamaConfig

from policy.config import LoraConfig

FLOAT32 = 4
_MOMENTS = 2  # AdamW keeps two numbers a parameter


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a stage holds at its worst moment, in bytes, by what it is for."""

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    cache: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.cache


def num_parameters(config: LlamaConfig) -> int:
    """Parameters of the language model, its head counted once where it is tied to the embeddings."""
    hidden, kv = config.hidden_size, _kv_width(config)
    attention = 2 * hidden * hidden + 2 * hidden * kv
    layer = attention + 3 * hidden * config.intermediate_size + 2 * hidden
    embeddings = config.vocab_size * hidden * (1 if config.tie_word_embeddings else 2)
    return embeddings + config.num_hidden_layers * layer + hidden


def num_adapter_parameters(config: LlamaConfig, lora: LoraConfig) -> int:
    """Parameters of the adapters of a model: rank times height and width of each matrix that has one."""
    hidden, kv, inner = config.hidden_size, _kv_width(config), config.intermediate_size
    square, narrow, wide = 2 * hidden, hidden + kv, hidden + inner
    sides = {"q_proj": square, "o_proj": square, "k_proj": narrow, "v_proj": narrow}
    sides |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), wide)
    return config.num_hidden_layers * lora.rank * sum(sides.get(target, 0) for target in lora.target_modules)


def activation_bytes(config: LlamaConfig, num_tokens: int, checkpointed: bool = False) -> int:
    """Kept for the backward pass over ``num_tokens`` positions, padding included, the head left out.

    ``checkpointed``: each layer keeps what it reads, and the backward pass computes the rest again, a layer at a time.
    """
    hidden = config.hidden_size
    # two norms keep two rows each, then queries before and after rotation, what attention gave, what is added twice; keys and
    # values; the gated layer's four products
    layer = 8 * hidden + 2 * _kv_width(config) + 4 * config.intermediate_size
    layers = config.num_hidden_layers * hidden + layer if checkpointed else config.num_hidden_layers * layer
    return FLOAT32 * num_tokens * (layers + 2 * hidden)


def logits_bytes(config: LlamaConfig, num_tokens: int) -> int:
    """Logits, their log-softmax, and the gradient of both, where the head is applied to ``num_tokens`` positions."""
    return 3 * FLOAT32 * num_tokens * config.vocab_size


def cache_bytes(config: LlamaConfig, num_tokens: int) -> int:
    """Keys and values of ``num_tokens`` positions in every layer."""
    return 2 * FLOAT32 * num_tokens * config.num_hidden_layers * _kv_width(config)


def training(
    config: LlamaConfig, num_tokens: int, num_logits: int, lora: LoraConfig | None = None, checkpointed: bool = False
) -> Footprint:
    """A model that AdamW trains, or its adapters, on ``num_tokens`` positions at a time of which ``num_logits`` go through the
    head."""
    weights = trained = FLOAT32 * num_parameters(config)
    if lora:
        trained = FLOAT32 * num_adapter_parameters(config, lora)
        weights += trained
    activations = activation_bytes(config, num_tokens, checkpointed) + logits_bytes(config, num_logits)
    return Footprint(weights, trained, _MOMENTS * trained, activations)


def _kv_width(config: LlamaConfig) -> int:
    heads = config.num_key_value_heads or config.num_attention_heads
    return heads * (config.hidden_size // config.num_attention_heads)
