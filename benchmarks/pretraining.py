"""Pretraining as a ratio against a peer.

    python benchmarks/pretraining.py

``policy.pretraining`` against transformers' ``Trainer``, same model, blocks and optimizer.
"""

import tempfile

import torch
import transformers
from ratios import compare
from transformers import Trainer, TrainingArguments

from policy.architecture import new_policy
from policy.chat import CHAT_TEMPLATE
from policy.config import PretrainConfig
from policy.pretraining import batches, pretrain
from policy.tokenizer import train_tokenizer
from sandbox.corpus import corpus
from sandbox.world import World

NUM_TOKENS, BLOCK_SIZE = 60_000, 128
CONFIG = PretrainConfig(preset="nano", vocab_size=1600, phases=({"num_tokens": NUM_TOKENS, "block_size": BLOCK_SIZE},))


def main() -> None:
    transformers.utils.logging.disable_progress_bar()
    documents = corpus(World(100), 3000, seed=100)
    texts = [document.text or " ".join(message["content"] for message in document.messages or []) for document in documents]
    tokenizer = train_tokenizer(texts, CONFIG.vocab_size, CHAT_TEMPLATE)
    data = batches(tokenizer, {"corpus": documents}, CONFIG)
    compare("pretraining, tokens/s", NUM_TOKENS, lambda: ours(data, len(tokenizer)), lambda: theirs(data, len(tokenizer)))


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


if __name__ == "__main__":
    main()
