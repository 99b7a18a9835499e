"""Training a randomly initialised reward model of a large preset on one GPU: tokens per second, utilisation, peak memory.

    python benchmarks/reward_model_at_scale.py --preset 7b --lora --peak-tflops 989

Twenty steps of 64 pairs of 1,024 tokens a side, in bf16 with gradient checkpointing; the first three steps warm up and are not
counted. The pairs have half of their tokens, the prompt, in common. Without ``--lora`` all weights are trained, and AdamW's
moments are bf16 like the weights.

Utilisation counts the model's own arithmetic (6 operations a parameter and token, 4 with adapters, whose base needs no
weight gradients) on the tokens that are computed; what checkpointing computes again is not counted, nor is attention.
"""

import argparse
import random
import statistics
import time

import torch
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerBase

from policy.architecture import llama_config
from policy.chat import CHAT_TEMPLATE
from policy.config import LoraConfig
from policy.tokenizer import train_tokenizer
from preference_data.comparison import Comparison
from preference_data.judgement import make_comparison
from preference_data.messages import user
from reward_model.config import RewardModelConfig
from reward_model.training import train_reward_model
from sandbox.corpus import corpus
from sandbox.world import World

WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="7b")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--microbatch", type=int, default=4)
    parser.add_argument("--length", type=int, default=1024, help="tokens of a side")
    parser.add_argument("--peak-tflops", type=float, default=989, help="of the device in bf16; 989 for H100 and H200")
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    texts = [document.text for document in corpus(World(100), 3000, seed=100) if document.text]
    tokenizer = train_tokenizer(texts, 1600, CHAT_TEMPLATE)
    comparisons = pairs(texts, tokenizer, asked.steps * asked.pairs, asked.length)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    config = llama_config(asked.preset)
    config.num_labels = 1
    with device:
        model = LlamaForSequenceClassification(config)
    torch.set_default_dtype(torch.float32)
    training = RewardModelConfig(
        axis="helpfulness", batch_size=asked.pairs, microbatch_size=asked.microbatch, gradient_checkpointing=True,
        lora=LoraConfig() if asked.lora else None,
    )  # fmt: skip
    seconds, tokens, computed = [], [], []
    before = time.perf_counter()
    for stats in train_reward_model(model, tokenizer, comparisons, training, seed=0):
        now = time.perf_counter()  # the step's numbers were read from the device, so it is done
        seconds.append(now - before)
        tokens.append(stats.num_tokens)
        computed.append(stats.num_tokens * (1 - stats.shared_fraction))
        before = now
    rate = sum(tokens[WARM_UP:]) / sum(seconds[WARM_UP:])
    operations = (4 if asked.lora else 6) * model.num_parameters() * sum(computed[WARM_UP:]) / sum(seconds[WARM_UP:])
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{asked.preset}, {'adapters' if asked.lora else 'all weights'}, {name}, torch {torch.__version__}")
    print(
        f"{rate:,.0f} tokens/s, {sum(computed) / sum(tokens):.2f} of them computed; {statistics.median(seconds):.2f} s a step"
    )
    print(f"{operations / 1e12:.1f} TFLOP/s, {operations / 1e12 / asked.peak_tflops:.1%} of {asked.peak_tflops:g}")
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")


def pairs(texts: list[str], tokenizer: PreTrainedTokenizerBase, count: int, length: int) -> list[Comparison]:
    """Pairs whose sides have about ``length`` tokens, half of them the prompt's."""
    rng = random.Random(0)
    per_text = statistics.fmean(len(ids) for ids in tokenizer(texts[:500], add_special_tokens=False)["input_ids"])
    some = max(1, round(length / 2 / per_text))

    def text() -> str:
        return " ".join(rng.choices(texts, k=some))

    return [
        make_comparison(
            prompt=[user(text())], chosen=text(), rejected=text(), axis="helpfulness", source="bench", rating="better"
        )
        for _ in range(count)
    ]


if __name__ == "__main__":
    main()
