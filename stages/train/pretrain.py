"""A tiny base policy from nothing: tokenizer and model trained on the corpus."""

from pathlib import Path
from typing import Any

from policy.architecture import new_policy
from policy.chat import CHAT_TEMPLATE
from policy.checkpoint import save_checkpoint
from policy.config import PretrainConfig
from policy.placement import device
from policy.pretraining import batches, pretrain
from policy.tokenizer import train_tokenizer
from preference_data.parquet import read_records
from preference_data.prompt import Document
from registry.saved_states import SavedStates
from stages.stage import Inputs, one
from stages.terminal.progress import Progress

_TOKENIZER_DOCUMENTS = 20_000  # enough for word counts to settle


def run(
    config: PretrainConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    artifact = one(inputs, "corpus")
    documents = read_records(artifact.file("documents.parquet"), Document)
    texts = [
        document.text or " ".join(message["content"] for message in document.messages or [])
        for document in documents[:_TOKENIZER_DOCUMENTS]
    ]
    tokenizer = train_tokenizer(texts, config.vocab_size, CHAT_TEMPLATE)
    primer = read_records(artifact.file("primer.parquet"), Document)
    data = batches(tokenizer, {"corpus": documents, "primer": primer}, config)
    num_tokens = sum(batch.numel() for batch in data)
    model = new_policy(config.preset, len(tokenizer), config.initializer_range).to(device())  # type: ignore[arg-type]
    losses = [
        stats.loss
        for stats in progress.track(
            pretrain(model, data, config, states), num_tokens, "pretraining", "token", lambda stats: stats.num_tokens
        )
    ]
    save_checkpoint(model, tokenizer, out)
    last = losses[-50:]
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": num_tokens,
        "vocabulary": len(tokenizer),
        "loss": sum(last) / len(last),
    }
