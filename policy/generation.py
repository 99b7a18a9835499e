"""Sampling responses: the ``Sampler`` protocol, and its engine on transformers.

A response's randomness comes from (seed, prompt, position among its k) alone: each has its own stream of uniform numbers,
one a token, and a token is the point where the cumulative probabilities pass the number. So a response does not depend on
which others share its batch, beyond the rounding of batched floating point.

Each prompt is prefilled once for all its k responses; rows that sampled EOS leave the batch, some at a time.
"""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from policy.chat import decode_response, encode_prompts
from policy.kv_cache import COMPACTED_AT, Prefixes, PromptCache, ResponseCache, SharedPrompts, shared_prompts
from preference_data.messages import Messages, messages_id

BATCH_SIZE, BATCH_TOKENS = 512, 32_768


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


@dataclass(frozen=True, slots=True)
class Row:
    """A response to sample: its prompt, as messages and as ids, and its numbers (max_new_tokens,) in [0, 1), one a token."""

    prompt: Messages
    ids: list[int]
    uniforms: np.ndarray


# Tokens (B,) and their log-probabilities (B,) from logits (B, V) and numbers (B,).
Draw = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Sampler(Protocol):
    def sample(
        self,
        prompts: Sequence[Messages],
        k: int,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        seed: int,
        top_k: int = 0,
    ) -> list[list[Response]]:
        """k responses for each prompt, in the order of the prompts. top_p 1 and top_k 0 leave every token."""
        ...


class TransformersSampler:
    """Samples from a Llama of transformers.

    ``batch_size``: most responses decoded together; ``batch_tokens``: most tokens whose keys and values they may come to hold,
    a prompt's counted once, so that long prompts make small batches. Where memory does not suffice, batches are decoded in
    halves from then on, and ``say`` is called. ``kept_tokens``: most tokens of dialogues whose keys and values are kept, so
    that their next turn reads only what is new.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = BATCH_SIZE,
        batch_tokens: int = BATCH_TOKENS,
        kept_tokens: int = 0,
        say: Callable[[str], object] = warnings.warn,
    ):
        self.model, self.tokenizer, self.batch_size, self.batch_tokens = model, tokenizer, batch_size, batch_tokens
        self.prefixes, self.say = Prefixes(kept_tokens), say
        self._fits = batch_size  # rows known to fit into memory

    def sample(
        self,
        prompts: Sequence[Messages],
        k: int,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        seed: int,
        top_k: int = 0,
    ) -> list[list[Response]]:
        """See Sampler. Raises ContextOverflow, MessagesError."""
        groups: list[list[Response]] = [[] for _ in prompts]
        for indices, responses in self.sample_batches(prompts, k, temperature, top_p, max_new_tokens, seed, top_k):
            for index, group in zip(indices, responses, strict=True):
                groups[index] = group
        return groups

    def sample_batches(
        self,
        prompts: Sequence[Messages],
        k: int,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        seed: int,
        top_k: int = 0,
    ) -> Iterator[tuple[list[int], list[list[Response]]]]:
        """As ``sample``, batch by batch: (indices of the prompts, their responses). Longest prompts come first."""
        check_request(k, temperature, top_p, top_k)
        encoded = [encoded.ids for encoded in encode_prompts(self.tokenizer, prompts)]
        check_context(prompts, encoded, max_new_tokens, self.model.config.max_position_embeddings)
        order = sorted(range(len(prompts)), key=lambda index: -len(encoded[index]))
        draw = partial(sample_token, temperature=temperature, top_p=top_p, top_k=top_k)
        start = 0
        while start < len(order):
            held = len(encoded[order[start]]) + k * max_new_tokens
            indices = order[start : start + max(1, min(self.batch_size // k, self.batch_tokens // held))]
            start += len(indices)
            rows = [
                Row(prompts[index], encoded[index], uniforms(seed, messages_id(prompts[index]), position, max_new_tokens))
                for index in indices
                for position in range(k)
            ]
            responses = self._decode_in_memory(rows, draw)
            yield indices, [responses[i * k : (i + 1) * k] for i in range(len(indices))]

    def _decode_in_memory(self, rows: list[Row], draw: Draw) -> list[Response]:
        """Decode ``rows`` together, or in halves where they are too many."""
        if len(rows) <= self._fits:
            try:
                return self._decode(rows, draw)
            except RuntimeError as error:
                if not _out_of_memory(error) or len(rows) == 1:
                    raise
            self._fits = len(rows) // 2
            self.say(f"{len(rows)} responses at once do not fit into memory; continuing with {self._fits}")
        half = len(rows) - len(rows) // 2
        return [*self._decode_in_memory(rows[:half], draw), *self._decode_in_memory(rows[half:], draw)]

    @torch.inference_mode()
    def _decode(self, batch: list[Row], draw: Draw) -> list[Response]:
        """Decode ``batch``, in which the rows of a prompt are neighbours."""
        device, num_rows, max_new_tokens = self.model.device, len(batch), len(batch[0].uniforms)
        logits, shared = self._read(batch)
        lengths = torch.tensor([len(row.ids) for row in batch], device=device)
        numbers = torch.from_numpy(np.stack([row.uniforms for row in batch])).to(device)
        tokens = torch.full((num_rows, max_new_tokens), self.tokenizer.pad_token_id, device=device)
        logprobs = torch.zeros((num_rows, max_new_tokens), device=device)
        taken = torch.zeros(num_rows, dtype=torch.long, device=device)
        rows = torch.arange(num_rows, device=device)
        alive = torch.ones_like(rows, dtype=torch.bool)
        cache = ResponseCache(len(shared.layers), max_new_tokens)

        def keep(leaving: torch.Tensor) -> None:
            """Keep what was read of the rows that leave the batch; the last token of a response never was."""
            if self.prefixes.max_tokens:
                for place in leaving.nonzero().squeeze(-1).tolist():
                    row = batch[rows[place]]
                    ids = [*row.ids, *tokens[rows[place], : taken[rows[place]] - 1].tolist()]
                    self.prefixes.keep(row.prompt, ids, place, shared, cache)

        with shared_prompts(self.model):
            for t in range(max_new_tokens):
                token, logprob = draw(logits, numbers[rows, t])
                live = rows[alive]
                tokens[live, t], logprobs[live, t], taken[live] = token[alive], logprob[alive].float(), t + 1
                alive &= token != self.tokenizer.eos_token_id
                num_alive = int(alive.sum())
                if t + 1 == max_new_tokens or not num_alive:
                    keep(torch.ones_like(alive))
                    break
                if num_alive <= COMPACTED_AT * len(rows):
                    keep(~alive)
                    stay = alive.nonzero().squeeze(-1)
                    rows, token, lengths, alive = rows[stay], token[stay], lengths[stay], alive[stay]
                    cache.batch_select_indices(stay)
                    shared.select(stay)
                output = self.model(
                    input_ids=token[:, None], position_ids=(lengths + t)[:, None], past_key_values=cache, prompts=shared
                )
                logits = output.logits[:, -1]
        return [
            self._response(row.ids, tokens[place, : taken[place]].tolist(), logprobs[place, : taken[place]].tolist())
            for place, row in enumerate(batch)
        ]

    def _read(self, batch: list[Row]) -> tuple[torch.Tensor, SharedPrompts]:
        """Read each prompt once, less what is kept of it: (logits of each row's next token (R, V), keys and values)."""
        device = self.model.device
        starts = [place for place, row in enumerate(batch) if not place or row.prompt is not batch[place - 1].prompt]
        counts = torch.tensor([*starts[1:], len(batch)]) - torch.tensor(starts)
        prefixes = [self.prefixes.take(batch[place].prompt, batch[place].ids) for place in starts]
        unread = [batch[place].ids[len(prefix.ids) :] for place, prefix in zip(starts, prefixes, strict=True)]
        width = max(len(ids) for ids in unread)
        # Left padding, so that every row's next token stands in the same column; positions count real tokens.
        input_ids = torch.tensor([[self.tokenizer.pad_token_id] * (width - len(ids)) + ids for ids in unread], device=device)
        padding = torch.tensor([width - len(ids) for ids in unread], device=device)[:, None]
        columns = torch.arange(width, device=device)[None, :]
        read = torch.tensor([len(prefix.ids) for prefix in prefixes], device=device)[:, None]
        cache = PromptCache(self.model.config.num_hidden_layers)
        mask = torch.cat([cache.fill(prefixes).to(device), columns >= padding], dim=1)
        output = self.model(
            input_ids=input_ids,
            attention_mask=mask.long(),
            position_ids=(columns - padding + read).clamp_min(0),
            past_key_values=cache,
            logits_to_keep=1,
        )
        of_rows = torch.arange(len(starts)).repeat_interleave(counts).to(device)
        return output.logits[:, -1][of_rows], SharedPrompts(cache, mask, of_rows)

    def _response(self, prompt_ids: list[int], ids: list[int], logprobs: list[float]) -> Response:
        return Response(decode_response(self.tokenizer, ids), ids, logprobs, ids[-1] == self.tokenizer.eos_token_id, prompt_ids)


def sample_token(
    logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float, top_k: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(tokens (B,), their log-probabilities (B,)) from logits (B, V) by inverse transform of ``uniform`` (B,) in [0, 1).

    Temperature, then top-k, then top-p, as transformers has them. Top-p as in the reference code: a token is dropped when the
    cumulative probability of those before it exceeds p, so the one that crosses p is kept. Temperature 0 takes the most
    likely token, top_k 0 leaves all.
    """
    logits = logits.float() if logits.dtype != torch.float64 else logits
    if temperature == 0:
        token = logits.argmax(-1)
        return token, logits.log_softmax(-1).gather(-1, token[:, None]).squeeze(-1)
    logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -torch.inf)
    if top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(-1)
        dropped = (probabilities.cumsum(-1) - probabilities) > top_p
        logits = logits.scatter(-1, order, ordered.masked_fill(dropped, -torch.inf))
    probabilities = logits.softmax(-1)
    cumulative = probabilities.cumsum(-1)
    whole = cumulative[:, -1:]
    # Below the whole, also where rounding makes the number 1: a token that is passed there has a probability above 0.
    threshold = (uniform[:, None].to(whole.dtype) * whole).minimum(whole.nextafter(torch.zeros_like(whole)))
    token = torch.searchsorted(cumulative, threshold, right=True)
    return token.squeeze(-1), probabilities.gather(-1, token).log().squeeze(-1)


def check_request(k: int, temperature: float, top_p: float, top_k: int) -> None:
    """Raise ValueError for a request that has no meaning."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if not 0 <= temperature < math.inf or not 0 < top_p <= 1 or top_k < 0:
        raise ValueError(
            "temperature is finite and 0 or above, top_p above 0 and at most 1, top_k 0 or above; got "
            f"{temperature}, {top_p} and {top_k}"
        )
    if temperature == 0 and k > 1:
        raise ValueError(f"temperature 0 gives k = {k} equal responses; use k = 1 or a temperature above 0")


def check_context(prompts: Sequence[Messages], encoded: Sequence[list[int]], max_new_tokens: int, context: int) -> None:
    """Raise ContextOverflow unless each prompt leaves room for ``max_new_tokens`` in ``context`` tokens."""
    for messages, ids in zip(prompts, encoded, strict=True):
        if len(ids) + max_new_tokens > context:
            raise ContextOverflow(
                f"a prompt of {len(ids)} tokens and {max_new_tokens} new tokens do not fit the context of {context} tokens "
                f"(it begins {messages[0]['content'][:60]!r}); shorten the prompt or ask for fewer new tokens"
            )


def response_key(seed: int, prompt_id: str, position: int) -> bytes:
    """16 bytes that all randomness of the response at ``position`` among a prompt's k comes from."""
    return hashlib.sha256(f"{seed}:{prompt_id}:{position}".encode()).digest()[:16]


def uniforms(seed: int, prompt_id: str, position: int, count: int) -> np.ndarray:
    """The ``count`` numbers in [0, 1) of a response, one a token."""
    key = int.from_bytes(response_key(seed, prompt_id, position), "little")
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def _out_of_memory(error: RuntimeError) -> bool:
    """On a GPU torch has a class for it; on a CPU its allocator is named in the message."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
