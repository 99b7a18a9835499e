"""A tiny base model from nothing: documents to blocks of tokens, and next-token prediction on them (paper 2.2).

The optimizer and schedule are the paper's (AdamW 0.9/0.95, cosine to a tenth, clipping at 1.0), at the sandbox's scale.
This is our own short loop: at one million parameters a trainer's bookkeeping costs as much as the model does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from policy.chat import encode_dialogues
from policy.config import PretrainConfig
from policy.optimization import adamw, share_of_peak
from policy.training_state import States, TrainingState
from preference_data.prompt import Document


@dataclass(frozen=True, slots=True)
class PretrainStats:
    """One optimizer step. ``loss``: nats per token; ``num_tokens``: tokens of the step."""

    step: int
    num_steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    num_tokens: int


def document_ids(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document]) -> list[list[int]]:
    """Per document its ids: BOS text EOS, or a dialogue in the chat format."""
    dialogues = iter(
        encode_dialogues(tokenizer, [document.messages for document in documents if document.messages is not None])
    )
    texts = [document.text for document in documents if document.text is not None]
    plain = iter(tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"] if texts else [])
    return [
        [tokenizer.bos_token_id, *next(plain), tokenizer.eos_token_id] if document.messages is None else next(dialogues).ids
        for document in documents
    ]


def batches(
    tokenizer: PreTrainedTokenizerBase, documents: Mapping[str, Sequence[Document]], config: PretrainConfig
) -> list[torch.Tensor]:
    """Batches (batch_tokens / block_size, block_size) of ids, phase by phase: documents end to end, cut into blocks.

    ``documents``: those of the corpus and of the primer. A phase continues where the last one with the same documents ended,
    starts over when they run out, and is rounded down to whole batches.
    """
    streams = {
        name: cycle(chain.from_iterable(document_ids(tokenizer, documents[name])))
        for name in {phase.documents for phase in config.phases}
    }
    data: list[torch.Tensor] = []
    for phase in config.phases:
        size = phase.num_tokens // config.batch_tokens * config.batch_tokens
        ids = torch.tensor(list(islice(streams[phase.documents], size)))
        data += ids.view(-1, config.batch_tokens // phase.block_size, phase.block_size)
    return data


def pretrain(
    model: PreTrainedModel, data: Sequence[torch.Tensor], config: PretrainConfig, states: States | None = None
) -> Iterator[PretrainStats]:
    """Train on the batches of ``data``, each (B, L), once and in their order; one step and one stats record a batch.

    ``states``: saved states to resume from, and to save to.
    """
    optimizer = adamw(model, config.learning_rate, config)
    state = TrainingState(states, {"model": model}, {"optimizer": optimizer}, PretrainStats)
    yield from state.restore()
    model.train()
    for step, ids in enumerate(data[state.step :], start=state.step):
        share = share_of_peak(step + 1, len(data), config)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * share
        batch = ids.to(model.device)
        logits = model(input_ids=batch, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch[:, 1:].reshape(-1))
        loss.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield state.done(
            PretrainStats(step + 1, len(data), loss.item(), config.learning_rate * share, grad_norm.item(), batch.numel())
        )
    model.eval()
