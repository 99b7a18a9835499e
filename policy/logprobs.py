"""Log-probabilities of tokens under a policy: pure functions on logits, and one batched pass over responses."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from policy.batch import lengths_mask, pad


def token_logprobs(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """log softmax(logits)[ids]: (..., V), (...) -> (...), in float32 at least."""
    logits = logits.float() if logits.dtype != torch.float64 else logits
    return logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy of softmax(logits) in nats: (..., V) -> (...)."""
    logprobs = (logits.float() if logits.dtype != torch.float64 else logits).log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


def response_logits(
    model: PreTrainedModel, prompt_ids: Sequence[list[int]], response_ids: Sequence[list[int]], temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(logits (B, T, V) divided by ``temperature``, ids (B, T), response_mask (B, T)) of the responses.

    Logits at column t predict response token t. The head is applied to response positions alone.
    """
    hidden, ids, response_mask = response_hidden(model.model, prompt_ids, response_ids)
    return model.lm_head(hidden) / temperature, ids, response_mask


def response_hidden(
    backbone: torch.nn.Module, prompt_ids: Sequence[list[int]], response_ids: Sequence[list[int]]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(hidden (B, T, D), ids (B, T), response_mask (B, T)): last hidden states at the positions before each response token."""
    sequences = [[*prompt, *response] for prompt, response in zip(prompt_ids, response_ids, strict=True)]
    lengths = [len(response) for response in response_ids]
    input_ids = pad(sequences).to(next(backbone.parameters()).device)
    # right padding, which causal attention cannot see: no mask is passed, and the fast kernels apply
    hidden = backbone(input_ids=input_ids, use_cache=False).last_hidden_state
    width = max(lengths)
    starts = torch.tensor([len(prompt) for prompt in prompt_ids], device=input_ids.device)[:, None]
    positions = (starts + torch.arange(width, device=input_ids.device)[None, :]).clamp_max(input_ids.shape[1] - 1)
    rows = torch.arange(len(sequences), device=input_ids.device)[:, None]
    response_mask = lengths_mask(lengths, width).to(input_ids.device)
    return hidden[rows, positions - 1], input_ids[rows, positions].masked_fill(~response_mask, 0), response_mask


@torch.inference_mode()
def response_logprobs(
    model: PreTrainedModel,
    prompt_ids: Sequence[list[int]],
    response_ids: Sequence[list[int]],
    temperature: float = 1.0,
    microbatch_size: int = 64,
) -> list[torch.Tensor]:
    """Per response, the float32 log-probabilities (T_b,) of its tokens at ``temperature``."""
    logprobs: list[torch.Tensor] = []
    for start in range(0, len(prompt_ids), microbatch_size):
        block = slice(start, start + microbatch_size)
        logits, ids, response_mask = response_logits(model, prompt_ids[block], response_ids[block], temperature)
        logprobs += [row[mask] for row, mask in zip(token_logprobs(logits, ids), response_mask, strict=True)]
    return logprobs
