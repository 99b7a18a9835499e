"""Sampling as ratios against ``model.generate``: ours and theirs in turn, three times; the median of the ratios counts.

    python benchmarks/sampling.py [--policy FOLDER]

The policy is one of the size ``nano``, trained here for about a minute so that it ends its answers as a supervised one does,
or the checkpoint that is given (``policy/sft`` of a run). Prompts are the sandbox's.

- answers as they come: 16 to a prompt, against ``generate(num_return_sequences=16)`` with each of several numbers of prompts in
  a batch (its best counts)
- how much more 16 answers to a prompt cost than one, of the same prompts: a ratio of our own times
- answers of one length: the same without EOS, which the policy cannot say there
"""

import argparse
import random
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from ratios import compare, timed
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from policy.architecture import new_policy
from policy.chat import CHAT_TEMPLATE, encode_prompts
from policy.checkpoint import load_policy
from policy.config import FinetuneConfig, PretrainConfig
from policy.finetuning import finetune
from policy.generation import TransformersSampler
from policy.pretraining import batches, pretrain
from policy.tokenizer import EOS_ID, train_tokenizer
from preference_data.messages import Messages
from sandbox.corpus import corpus, demonstrations
from sandbox.dialogues import Questioner, helpful_case
from sandbox.world import World

WORLD, NUM_PROMPTS, K, NEW_TOKENS, SAME_LENGTH = World(100), 64, 16, 64, 32
PROMPTS_AT_ONCE = (2, 4, 8, 16)  # of the peer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--policy", type=Path, help="a checkpoint folder of this project's")
    given = parser.parse_args().policy
    model, tokenizer = load_policy(given) if given else trained()
    rng, questioner = random.Random(0), Questioner(WORLD, "train")
    prompts = [helpful_case(questioner, rng, "bench").prompt.messages for _ in range(NUM_PROMPTS)]
    sampler = TransformersSampler(model, tokenizer)

    def ours(k: int = K) -> list:
        return sampler.sample(prompts, k, 1.0, 1.0, NEW_TOKENS, 0)

    responses = [response for group in ours() for response in group]
    print(
        f"prompts of {statistics.fmean(len(response.prompt_ids) for response in responses):.0f} tokens on average, answers of "
        f"{statistics.fmean(len(response.ids) for response in responses):.0f}, the longest "
        f"{max(len(response.ids) for response in responses)}; {statistics.fmean(r.finished for r in responses):.0%} end"
    )
    against_generate(f"{K} answers a prompt", ours, model, tokenizer, prompts, NEW_TOKENS)
    costs = [timed(ours) / timed(lambda: ours(1)) for _ in range(3)]
    print(f"{K} answers to each prompt cost {statistics.median(costs):.2f} times one answer to each")
    silent_eos(model)
    against_generate(
        f"{K} answers of {SAME_LENGTH} tokens",
        lambda: sampler.sample(prompts, K, 1.0, 1.0, SAME_LENGTH, 0),
        model, tokenizer, prompts, SAME_LENGTH,
    )  # fmt: skip


def against_generate(
    what: str,
    ours: Callable[[], object],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Messages],
    new_tokens: int,
) -> None:
    """``ours`` against generate with each number of prompts at once; the lowest ratio is that at its best."""
    ratios = []
    for size in PROMPTS_AT_ONCE:
        title = f"{what}, against generate with {size} prompts at once, answers/s"
        ratios.append(compare(title, len(prompts) * K, ours, partial(generate, model, tokenizer, prompts, size, new_tokens)))
    print(f"{what}, against generate at its best: {min(ratios):.2f}")


def trained() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A policy that answers in the sandbox's manner; that it is often wrong is nothing to its speed."""
    phases = ({"num_tokens": 400_000, "block_size": 64}, {"num_tokens": 400_000, "block_size": 128})
    config = PretrainConfig(preset="nano", vocab_size=1600, phases=phases, learning_rate=3e-3)
    documents = corpus(WORLD, 20_000, seed=100)
    texts = [each.text or " ".join(message["content"] for message in each.messages or []) for each in documents]
    tokenizer = train_tokenizer(texts, config.vocab_size, CHAT_TEMPLATE)
    torch.manual_seed(0)
    model = new_policy("nano", len(tokenizer), 0.06)
    for _ in pretrain(model, batches(tokenizer, {"corpus": documents}, config), config):
        pass
    dialogues = demonstrations(WORLD, 800, 0.06, seed=100)
    finetune(model, tokenizer, dialogues, FinetuneConfig(learning_rate=1e-3, batch_size=32, epochs=1), 0, lambda stats: None)
    return model.eval(), tokenizer


def silent_eos(model: PreTrainedModel) -> None:
    """Leave EOS no probability."""
    bias = torch.zeros(model.lm_head.out_features, dtype=model.dtype, device=model.device)
    bias[EOS_ID] = -1e9
    model.lm_head.bias = torch.nn.Parameter(bias)


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Messages],
    at_once: int,
    new_tokens: int,
    k: int = K,
) -> None:
    """Left-padded batches in the order of the prompts, the whole distribution."""
    encoded = [found.ids for found in encode_prompts(tokenizer, prompts)]
    for start in range(0, len(encoded), at_once):
        batch = encoded[start : start + at_once]
        width = max(map(len, batch))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in batch], device=model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch], device=model.device)
        model.generate(
            ids, attention_mask=mask, do_sample=True, top_k=0, num_return_sequences=k, max_new_tokens=new_tokens
        )  # fmt: skip


if __name__ == "__main__":
    main()
