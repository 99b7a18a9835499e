"""Speed as a ratio against a peer, ours and theirs in turn, three times; the median of the ratios counts.

    python benchmarks/throughput.py

- pretraining: ``policy.pretraining`` against transformers' ``Trainer``, same model, blocks and optimizer
- sampling: ``TransformersSampler`` against ``model.generate(num_return_sequences=k)``, same prompts and lengths at most
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
import transformers
from transformers import Trainer, TrainingArguments

from policy.architecture import new_policy
from policy.chat import CHAT_TEMPLATE, encode_prompts
from policy.config import PretrainConfig
from policy.generation import TransformersSampler
from policy.pretraining import batches, pretrain
from policy.tokenizer import train_tokenizer
from sandbox.corpus import corpus
from sandbox.dialogues import Questioner, helpful_case
from sandbox.world import World

ROUNDS, K, NUM_PROMPTS, NEW_TOKENS = 3, 8, 64, 32
NUM_TOKENS, BLOCK_SIZE = 60_000, 128
CONFIG = PretrainConfig(preset="nano", vocab_size=1600, phases=({"num_tokens": NUM_TOKENS, "block_size": BLOCK_SIZE},))


def main() -> None:
    transformers.utils.logging.disable_progress_bar()
    documents = corpus(World(100), 3000, seed=100)
    texts = [document.text or " ".join(message["content"] for message in document.messages or []) for document in documents]
    tokenizer = train_tokenizer(texts, CONFIG.vocab_size, CHAT_TEMPLATE)
    data = batches(tokenizer, {"corpus": documents}, CONFIG)
    compare("pretraining, tokens/s", NUM_TOKENS, lambda: ours(data, len(tokenizer)), lambda: theirs(data, len(tokenizer)))

    torch.manual_seed(0)
    model = new_policy("nano", len(tokenizer)).eval()
    rng = random.Random(0)
    prompts = [helpful_case(Questioner(World(100), "train"), rng, "bench").prompt.messages for _ in range(NUM_PROMPTS)]
    sampler = TransformersSampler(model, tokenizer)
    compare(
        f"sampling {K} a prompt, responses/s",
        NUM_PROMPTS * K,
        lambda: sampler.sample(prompts, K, 1.0, 1.0, NEW_TOKENS, 0),
        lambda: generate(model, tokenizer, prompts),
    )


def ours(data: list[torch.Tensor], vocab_size: int) -> None:
    torch.manual_seed(0)
    for _ in pretrain(new_policy("nano", vocab_size), data, CONFIG):
        pass


def theirs(data: list[torch.Tensor], vocab_size: int) -> None:
    torch.manual_seed(0)
    rows = [{"input_ids": row, "labels": row} for batch in data for row in batch]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=CONFIG.batch_tokens // BLOCK_SIZE, num_train_epochs=1,
            learning_rate=CONFIG.learning_rate,
            report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        Trainer(new_policy("nano", vocab_size), arguments, train_dataset=rows).train()


@torch.inference_mode()
def generate(model: transformers.PreTrainedModel, tokenizer: transformers.PreTrainedTokenizerBase, prompts: list) -> None:
    encoded = [found.ids for found in encode_prompts(tokenizer, prompts)]
    width = max(map(len, encoded))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in encoded])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in encoded])
    model.generate(ids, attention_mask=mask, do_sample=True, num_return_sequences=K, max_new_tokens=NEW_TOKENS)


def compare(what: str, amount: int, first: Callable[[], object], second: Callable[[], object]) -> None:
    first(), second()  # warm-up
    speeds = [(amount / timed(first), amount / timed(second)) for _ in range(ROUNDS)]
    ratio = statistics.median(one / other for one, other in speeds)
    mine, peer = (statistics.median(column) for column in zip(*speeds, strict=True))
    print(f"{what}: ours {mine:,.0f}, peer {peer:,.0f}, ratio {ratio:.2f}")


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
