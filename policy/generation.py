"""Sampling responses: the ``Sampler`` protocol, and its engine on transformers.

A response's randomness comes from (seed, prompt, position among its k) alone: each has its own stream of uniform numbers,
one a token, and a token is the point where the cumulative probabilities pass the number. So a response does not depend on
which others share its batch, beyond the rounding of batched floating point.

Each prompt is prefilled once for all its k responses; rows that sampled EOS leave the batch, some at a time.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from policy.chat import decode_response, encode_prompts
from policy.kv_cache import Prefix, Prefixes, RoomyCache
from preference_data.messages import Messages, messages_id

# Finished rows leave the batch when no more than this share of it still speaks: leaving copies the cache.
_COMPACTED_AT = 0.7
BATCH_SIZE, BATCH_TOKENS = 256, 16_384


class ContextOverflow(ValueError):
    """A prompt that leaves no room for a response."""


@dataclass(frozen=True, slots=True)
class Response:
    """One sampled response. ``ids`` ends with EOS where ``finished``; ``logprobs`` are its tokens' log-probabilities
    under the distribution that was sampled (temperature and top-p applied); ``prompt_ids`` is what the model read."""

    text: str
    ids: list[int]
    logprobs: list[float]
    finished: bool
    prompt_ids: list[int]


class Sampler(Protocol):
    def sample(
        self, prompts: Sequence[Messages], k: int, temperature: float, top_p: float, max_new_tokens: int, seed: int
    ) -> list[list[Response]]:
        """k responses for each prompt, in the order of the prompts."""
        ...


class TransformersSampler:
    """Samples from a transformers causal LM.

    ``batch_size``: responses decoded together at most; ``batch_tokens``: their positions at most, prompts and new tokens, so
    that long prompts make small batches (on a CPU the cache of a large one leaves the processor's own, and crawls).
    ``kept_tokens``: tokens of dialogues whose keys and values are kept at most, so that their next turn reads only what is
    new; for k = 1.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = BATCH_SIZE,
        batch_tokens: int = BATCH_TOKENS,
        kept_tokens: int = 0,
    ):
        self.model, self.tokenizer, self.batch_size, self.batch_tokens = model, tokenizer, batch_size, batch_tokens
        self.prefixes = Prefixes(kept_tokens)

    def sample(
        self, prompts: Sequence[Messages], k: int, temperature: float, top_p: float, max_new_tokens: int, seed: int
    ) -> list[list[Response]]:
        """See Sampler. Raises ContextOverflow, MessagesError."""
        found: list[list[Response]] = [[] for _ in prompts]
        for indices, responses in self.sample_batches(prompts, k, temperature, top_p, max_new_tokens, seed):
            for index, group in zip(indices, responses, strict=True):
                found[index] = group
        return found

    def sample_batches(
        self, prompts: Sequence[Messages], k: int, temperature: float, top_p: float, max_new_tokens: int, seed: int
    ) -> Iterator[tuple[list[int], list[list[Response]]]]:
        """As ``sample``, batch by batch: (indices of the prompts, their responses). Longest prompts come first."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if temperature == 0 and k > 1:
            raise ValueError(f"temperature 0 gives k = {k} equal responses; take k = 1 or a temperature above 0")
        encoded = [encoded.ids for encoded in encode_prompts(self.tokenizer, prompts)]
        context = self.model.config.max_position_embeddings
        for messages, ids in zip(prompts, encoded, strict=True):
            if len(ids) + max_new_tokens > context:
                raise ContextOverflow(
                    f"a prompt of {len(ids)} tokens and {max_new_tokens} new tokens do not fit the context of {context} tokens "
                    f"(it begins {messages[0]['content'][:60]!r}); shorten the prompt or ask for fewer new tokens"
                )
        order = sorted(range(len(prompts)), key=lambda index: -len(encoded[index]))
        start = 0
        while start < len(order):
            longest = len(encoded[order[start]]) + max_new_tokens
            indices = order[start : start + max(1, min(self.batch_size, self.batch_tokens // longest) // k)]
            start += len(indices)
            streams = [
                _uniforms(seed, messages_id(prompts[index]), position, max_new_tokens)
                for index in indices
                for position in range(k)
            ]
            rows = self._decode(
                [prompts[index] for index in indices],
                [encoded[index] for index in indices],
                k,
                temperature,
                top_p,
                np.stack(streams),
            )
            yield indices, [rows[i * k : (i + 1) * k] for i in range(len(indices))]

    @torch.inference_mode()
    def _decode(
        self,
        prompts: list[Messages],
        encoded: list[list[int]],
        k: int,
        temperature: float,
        top_p: float,
        uniforms: np.ndarray,
    ) -> list[Response]:
        """Decode k rows a prompt. ``uniforms``: (rows, max_new_tokens) in [0, 1)."""
        model, device, pad_id = self.model, self.model.device, self.tokenizer.pad_token_id
        max_new_tokens = uniforms.shape[1]
        prefixes = [self.prefixes.take(prompt, ids) for prompt, ids in zip(prompts, encoded, strict=True)]
        cache, logits, mask = self._read(encoded, prefixes, max_new_tokens)
        logits = logits.repeat_interleave(k, dim=0)
        if k > 1:
            cache.batch_repeat_interleave(k)
        mask = mask.repeat_interleave(k, dim=0)
        lengths = torch.tensor([len(ids) for ids in encoded], device=device).repeat_interleave(k)
        draws = torch.from_numpy(uniforms).to(device)
        rows = torch.arange(len(prompts) * k, device=device)
        tokens = torch.full((len(rows), max_new_tokens), pad_id, device=device)
        logprobs = torch.zeros((len(rows), max_new_tokens), device=device)
        taken = torch.zeros(len(rows), dtype=torch.long, device=device)
        alive = torch.ones(len(rows), dtype=torch.bool, device=device)

        def keep(leaving: torch.Tensor) -> None:
            """Keep what was read of the rows that leave the batch; the last token of a response never was."""
            if k == 1 and self.prefixes.max_tokens:
                for i in leaving.nonzero().squeeze(-1).tolist():
                    row = int(rows[i])
                    ids = [*encoded[row], *tokens[row, : taken[row] - 1].tolist()]
                    self.prefixes.keep(prompts[row], ids, cache, i, mask[i])

        for t in range(max_new_tokens):
            token, logprob = sample_token(logits, draws[rows, t], temperature, top_p)
            live = rows[alive]
            tokens[live, t], logprobs[live, t], taken[live] = token[alive], logprob[alive].float(), t + 1
            alive &= token != self.tokenizer.eos_token_id
            if t + 1 == max_new_tokens or not alive.any():
                keep(torch.ones_like(alive))
                break
            if alive.sum() <= _COMPACTED_AT * len(rows):
                keep(~alive)
                stay = alive.nonzero().squeeze(-1)
                rows, token, mask, lengths, alive = rows[stay], token[stay], mask[stay], lengths[stay], alive[stay]
                cache.batch_select_indices(stay)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            output = model(
                input_ids=token[:, None],
                attention_mask=mask.long(),
                position_ids=(lengths + t)[:, None],
                past_key_values=cache,
            )
            logits = output.logits[:, -1]
        return [
            self._response(encoded[row // k], tokens[row, : taken[row]].tolist(), logprobs[row, : taken[row]].tolist())
            for row in range(len(tokens))
        ]

    def _read(
        self, encoded: list[list[int]], prefixes: list[Prefix], room: int
    ) -> tuple[RoomyCache, torch.Tensor, torch.Tensor]:
        """Read what the prefixes leave of each prompt: (cache, logits of the next token (B, V), mask (B, columns))."""
        device = self.model.device
        unread = [ids[len(prefix.ids) :] for ids, prefix in zip(encoded, prefixes, strict=True)]
        width = max(len(ids) for ids in unread)
        # Left padding, so that every row's next token stands in the same column; positions count real tokens.
        input_ids = torch.tensor([[self.tokenizer.pad_token_id] * (width - len(ids)) + ids for ids in unread], device=device)
        padding = torch.tensor([width - len(ids) for ids in unread], device=device)[:, None]
        columns = torch.arange(width, device=device)[None, :]
        read = torch.tensor([len(prefix.ids) for prefix in prefixes], device=device)[:, None]
        if any(prefix.ids for prefix in prefixes):
            room += width
        cache = RoomyCache(self.model.config.num_hidden_layers, room)
        mask = torch.cat([cache.fill(prefixes).to(device), columns >= padding], dim=1)
        output = self.model(
            input_ids=input_ids,
            attention_mask=mask.long(),
            position_ids=(columns - padding + read).clamp_min(0),
            past_key_values=cache,
            logits_to_keep=1,
        )
        return cache, output.logits[:, -1], mask

    def _response(self, prompt_ids: list[int], ids: list[int], logprobs: list[float]) -> Response:
        return Response(decode_response(self.tokenizer, ids), ids, logprobs, ids[-1] == self.tokenizer.eos_token_id, prompt_ids)


def sample_token(
    logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(tokens (B,), their log-probabilities (B,)) from logits (B, V) by inverse transform of ``uniform`` (B,) in [0, 1).

    Top-p as in the reference code: a token is dropped when the cumulative probability of those before it exceeds p, so the
    one that crosses p is kept. Temperature 0 takes the most likely token.
    """
    logits = logits.float() if logits.dtype != torch.float64 else logits
    if temperature == 0:
        token = logits.argmax(-1)
        return token, logits.log_softmax(-1).gather(-1, token[:, None]).squeeze(-1)
    logits = logits / temperature
    if top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(-1)
        dropped = (probabilities.cumsum(-1) - probabilities) > top_p
        logits = logits.scatter(-1, order, ordered.masked_fill(dropped, -torch.inf))
    logprobs = logits.log_softmax(-1)
    cumulative = logprobs.exp().cumsum(-1)
    threshold = uniform.to(cumulative.dtype) * cumulative[:, -1]
    token = torch.searchsorted(cumulative, threshold[:, None], right=True).squeeze(-1).clamp_max(logits.shape[-1] - 1)
    return token, logprobs.gather(-1, token[:, None]).squeeze(-1)


def _uniforms(seed: int, prompt_id: str, position: int, count: int) -> np.ndarray:
    key = hashlib.sha256(f"{seed}:{prompt_id}:{position}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"))).random(count)
