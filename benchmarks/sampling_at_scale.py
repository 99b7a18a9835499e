"""Sampling from a randomly initialised policy of a large preset on one GPU: tokens per second, and how near to its memory.

    python benchmarks/sampling_at_scale.py --preset 7b --bandwidth 3350

Each of 64 prompts of 256 tokens gets 8 responses of 256 tokens, in bf16, by the sampler of the stages, all at once, and by
``generate``, whose batches are halved until they fit into memory. EOS has no probability, so every response is as long as it
may be.

The bound is what decoding cannot be faster than: at each step all weights are read once, and of the cache each prompt's keys
and values once and each response's own. ``--bandwidth`` is the device's, in GB/s (H200: 4800, H100 SXM: 3350).
"""

import argparse
import random
import time
from collections.abc import Callable

import torch
from sampling import generate, silent_eos
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from policy.architecture import llama_config
from policy.chat import CHAT_TEMPLATE, encode_prompt
from policy.footprint import cache_bytes
from policy.generation import TransformersSampler
from policy.tokenizer import train_tokenizer
from preference_data.messages import Messages, user
from sandbox.corpus import corpus
from sandbox.world import World


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="7b")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--length", type=int, default=256, help="tokens of a prompt")
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--new", type=int, default=256, help="tokens of a response")
    parser.add_argument("--bandwidth", type=float, required=True, help="of the device's memory, GB/s")
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    texts = [document.text for document in corpus(World(100), 3000, seed=100) if document.text]
    tokenizer = train_tokenizer(texts, 1600, CHAT_TEMPLATE)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with device:
        model = LlamaForCausalLM(llama_config(asked.preset)).eval()
        silent_eos(model)
    torch.set_default_dtype(torch.float32)
    prompts = prompts_of(texts, tokenizer, asked.prompts, asked.length)
    rows = asked.prompts * asked.k
    sampler = TransformersSampler(model, tokenizer, batch_size=rows, batch_tokens=10**9)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{asked.preset}, {name}, torch {torch.__version__}")

    sampler.sample(prompts[:2], asked.k, 1.0, 1.0, 8, 0)
    ours = rate("ours", rows * asked.new, device, lambda: sampler.sample(prompts, asked.k, 1.0, 1.0, asked.new, 0))
    at_once, theirs = asked.prompts, None
    while theirs is None and at_once:
        try:
            theirs = rate(
                f"generate, {at_once} prompts at once", rows * asked.new, device,
                lambda size=at_once: generate(model, tokenizer, prompts, size, asked.new, asked.k),
            )  # fmt: skip
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            at_once //= 2
    if theirs:
        print(f"ratio {ours / theirs:.2f}")
    weights = 2 * model.num_parameters()
    float32 = cache_bytes(model.config, asked.prompts * asked.length + rows * asked.new // 2)  # responses half grown
    read = weights + float32 / 2
    bound = rows * asked.bandwidth * 1e9 / read
    print(f"{weights / 1e9:.1f} GB of weights and {float32 / 2e9:.1f} GB of cache a step allow {bound:,.0f} tokens/s")
    print(f"ours {ours / bound:.0%} of it")


def rate(what: str, num_tokens: int, device: torch.device, work: Callable[[], object]) -> float:
    """Tokens per second of one call, printed with the peak memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    found = num_tokens / (time.perf_counter() - started)
    peak = f", peak memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if device.type == "cuda" else ""
    print(f"{what}: {found:,.0f} tokens/s{peak}")
    return found


def prompts_of(texts: list[str], tokenizer: PreTrainedTokenizerBase, count: int, length: int) -> list[Messages]:
    """Different prompts of at most ``length`` tokens, and nearly so many."""
    rng, found = random.Random(0), []
    for number in range(count):
        words: list[str] = [f"{number}:"]
        while len(encode_prompt(tokenizer, [user(" ".join(words))]).ids) < length - 8:
            words.append(rng.choice(rng.choice(texts).split()))
        found.append([user(" ".join(words))])
    return found


if __name__ == "__main__":
    main()
