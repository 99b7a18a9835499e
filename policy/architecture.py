"""Llama architectures by name (paper section 2.2, Table 1, and the released ``params.json`` files).

``34b`` was never released; its numbers are those of the Code Llama 34B configuration with Llama 2's rope theta.
``nano``, ``micro`` and ``pico`` are ours: the sandbox's laptop model, half of it, which the tests train, and a fifth of it, so
that size can be studied. They tie the head to the embeddings: a tied model of this size learns to copy out of the prompt much
sooner.
"""

from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM

from policy.config import Preset
from policy.tokenizer import BOS_ID, EOS_ID, PAD_ID

_SHAPES: dict[str, dict[str, Any]] = {
    "pico": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
             "intermediate_size": 176, "max_position_embeddings": 1024},
    "micro": {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4,
              "intermediate_size": 256, "max_position_embeddings": 1024},
    "nano": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
             "intermediate_size": 344, "max_position_embeddings": 1536},
    "7b": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
           "intermediate_size": 11008, "max_position_embeddings": 4096},
    "13b": {"hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 40,
            "intermediate_size": 13824, "max_position_embeddings": 4096},
    "34b": {"hidden_size": 8192, "num_hidden_layers": 48, "num_attention_heads": 64, "num_key_value_heads": 8,
            "intermediate_size": 22016, "max_position_embeddings": 4096},
    "70b": {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
            "intermediate_size": 28672, "max_position_embeddings": 4096},
}  # fmt: skip


def llama_config(preset: Preset, vocab_size: int = 32000) -> LlamaConfig:
    """The transformers configuration of a preset: RMSNorm eps 1e-5, rope theta 10000, no biases, untied head."""
    return LlamaConfig(
        vocab_size=vocab_size,
        rms_norm_eps=1e-5,
        tie_word_embeddings=preset in ("pico", "micro", "nano"),
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
        **_SHAPES[preset],
    )


def new_policy(preset: Preset, vocab_size: int, initializer_range: float = 0.02) -> LlamaForCausalLM:
    """A randomly initialised policy; seed torch first."""
    config = llama_config(preset, vocab_size)
    config.initializer_range = initializer_range
    return LlamaForCausalLM(config)
