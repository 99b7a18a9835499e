"""Why the ratio is not 1 at PPO's step 0. The usual causes are tried in turn, and the first that explains the error is named.

    template   the sampler read other prompt ids than ``policy/chat.py`` makes
    dropout    the forward pass, or the sampler with the same seed, does not give the same log-probabilities twice
    padding    a response has other log-probabilities alone than in a batch
    dtype      the error is the rounding of another precision
    weights    the reference is not the policy

One cause is named at a time: fix it and run the doctor again. The models are left as they were.

Left out are faults that ``policy/generation.py`` cannot have: a temperature, top-p or top-k that PPO did not ask for. Such a
sampler is detected, as its ratio is off too, but no cause is named.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.stats import spearmanr
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from policy.chat import encode_prompts
from rlhf.step_zero import Sampling, forward_logprobs, is_half, ratio_errors, recorded_logprobs, tolerance, unpadded_logprobs

CauseName = Literal["template", "dropout", "padding", "dtype", "weights"]


@dataclass(frozen=True, slots=True)
class Cause:
    """``found``: what was seen; ``advice``: what to do about it."""

    name: CauseName
    found: str
    advice: str


# Looks for one cause: (what was sampled, policy, log-probabilities (N,) of its forward pass over the sampled tokens).
Suspect = Callable[[Sampling, PreTrainedModel, Tensor], Cause | None]


def prompt_cause(sampling: Sampling, tokenizer: PreTrainedTokenizerBase) -> Cause | None:
    """A sampler that read other prompt ids than ``policy/chat.py`` makes. PPO would train on them, with a ratio of 1."""
    expected = [encoded.ids for encoded in encode_prompts(tokenizer, sampling.prompts)]
    read = [response.prompt_ids for response in sampling.responses]
    differing = [index for index in range(len(read)) if read[index] != expected[index]]
    if not differing:
        return None
    difference = first_difference(tokenizer, read[differing[0]], expected[differing[0]])
    found = f"{len(differing)} of {len(read)} prompts were read in another format: {difference}"
    return Cause("template", found, "let the sampler encode prompts with policy/chat.py and the policy's own tokenizer")


def ratio_cause(sampling: Sampling, policy: PreTrainedModel) -> Cause | None:
    """The cause of ratios that are off for prompts read correctly, or None where none of the usual causes explains them."""
    new_logprobs = forward_logprobs(policy, sampling.responses, sampling.temperature)
    # in half precision, less rounding when sampled alone can look like an effect of padding: there dtype comes first
    padding_and_dtype = (_other_dtype, _padded_sampling) if is_half(policy.dtype) else (_padded_sampling, _other_dtype)
    suspects: tuple[Suspect, ...] = (_random_forward, _padded_forward, *padding_and_dtype, _random_sampling)
    return next((cause for suspect in suspects if (cause := suspect(sampling, policy, new_logprobs))), None)


def ref_cause(policy: PreTrainedModel, ref_policy: PreTrainedModel, sampling: Sampling) -> Cause | None:
    """The cause of a KL to a reference that should be the policy, or None where the two are equal."""
    if policy.dtype != ref_policy.dtype:
        found = f"the policy is in {_name(policy.dtype)}, the reference in {_name(ref_policy.dtype)}"
        return Cause("dtype", found, "load both in one precision")
    ref_weights = dict(ref_policy.named_parameters())
    differing = [
        name
        for name, weight in policy.named_parameters()
        if name not in ref_weights or not torch.equal(weight, ref_weights[name].to(weight.device))
    ]
    if differing:
        found = f"{len(differing)} tensors of policy and reference differ, {differing[0]} among them"
        return Cause("weights", found, "load both from one folder; weights missing from it are random at every load")
    for model, name in ((policy, "policy"), (ref_policy, "reference")):
        first, second = (forward_logprobs(model, sampling.responses, sampling.temperature) for _ in range(2))
        if not torch.equal(first, second):
            found = f"two forward passes of the {name} differ{_mode(model)}"
            return Cause("dropout", found, "call .eval() on every model of PPO")
    return None


def first_difference(tokenizer: PreTrainedTokenizerBase, found: Sequence[int], expected: Sequence[int]) -> str:
    """Where two unequal lists of ids begin to differ, as text."""
    place = _num_equal(found, expected)

    def shown(ids: Sequence[int]) -> str:
        return repr(tokenizer.decode(list(ids[place : place + 6]))) if place < len(ids) else "the end"

    return f"at token {place + 1}: found {shown(found)} instead of {shown(expected)}"


def _random_forward(sampling: Sampling, policy: PreTrainedModel, new_logprobs: Tensor) -> Cause | None:
    again = forward_logprobs(policy, sampling.responses, sampling.temperature)
    spread = ratio_errors(again, new_logprobs)
    if not spread.mean() > ratio_errors(new_logprobs, sampling.logprobs).mean() / 10:
        return None
    found = f"two forward passes over the same tokens differ, the ratio by up to {spread.max():.2g}{_mode(policy)}"
    return Cause("dropout", found, "call .eval() on the policy before it samples and learns")


def _padded_forward(sampling: Sampling, policy: PreTrainedModel, new_logprobs: Tensor) -> Cause | None:
    # in float32, where an effect of padding cannot be confused with rounding
    model = copy.deepcopy(policy).float() if is_half(policy.dtype) else policy
    padded = forward_logprobs(model, sampling.responses, sampling.temperature)
    errors = ratio_errors(padded, unpadded_logprobs(model, sampling.responses, sampling.temperature))
    if not errors.max() > tolerance(model.dtype):
        return None
    found = f"in the forward pass, padding after a response changes its ratio by up to {errors.max():.2g}"
    return Cause("padding", found, "padding is on the right, so attention must be causal in the model and its kernels")


def _padded_sampling(sampling: Sampling, policy: PreTrainedModel, new_logprobs: Tensor) -> Cause | None:
    """Sampled alone, nearly all tokens must be within tolerance, and the mean error at most half of what it was."""
    alone = [response for prompt in sampling.prompts for response in sampling.sample([prompt])]
    errors = ratio_errors(unpadded_logprobs(policy, alone, sampling.temperature), recorded_logprobs(alone))
    nearly_all = errors.quantile(0.95 if is_half(policy.dtype) else 0.99)  # half precision has a long tail
    before = ratio_errors(new_logprobs, sampling.logprobs)
    if not (nearly_all <= tolerance(policy.dtype) and errors.mean() <= before.mean() / 2):
        return None
    found = "sampled one at a time, without padding, the same prompts have a ratio of 1; sampled together they do not"
    return Cause("padding", found, "mask the padding while sampling, and count positions from the first real token of a row")


def _other_dtype(sampling: Sampling, policy: PreTrainedModel, new_logprobs: Tensor) -> Cause | None:
    """Is the error as large as the rounding of another precision, and does it go up and down with it from token to token?"""
    error = sampling.logprobs - new_logprobs
    own = _name(policy.dtype)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        if dtype == policy.dtype:
            continue
        model = copy.deepcopy(policy)
        model.to(dtype)  # type: ignore[arg-type]
        rounding = unpadded_logprobs(model, sampling.responses, sampling.temperature) - new_logprobs
        correlation = spearmanr(error, rounding).statistic
        if 0.4 < error.abs().mean() / rounding.abs().mean() < 2.5 and correlation > 3 * len(error) ** -0.5:
            found = f"the recorded log-probabilities carry the rounding of {_name(dtype)}, and the forward pass is in {own}"
            if is_half(policy.dtype):
                found = f"{own} rounds so much that a forward pass in {_name(dtype)} is as far away as the sampler is"
            return Cause("dtype", found, "sample and learn in one precision; float32 keeps the ratio within 1e-4")
    return None


def _random_sampling(sampling: Sampling, policy: PreTrainedModel, new_logprobs: Tensor) -> Cause | None:
    """Sampled twice, tokens must differ about as much as the sampler differs from the forward pass."""
    first, second = [], []
    for response, again in zip(sampling.responses, sampling.sample(sampling.prompts), strict=True):
        num_equal = _num_equal(response.ids, again.ids)
        first += response.logprobs[:num_equal]
        second += again.logprobs[:num_equal]
    spread = ratio_errors(torch.tensor(second), torch.tensor(first))
    if not spread.mean() > ratio_errors(new_logprobs, sampling.logprobs).mean() / 2:
        return None
    found = f"sampled twice with the same seed, equal tokens differ in log-probability, the ratio by up to {spread.max():.2g}"
    return Cause("dropout", found, "call .eval() on the model that samples")


def _num_equal(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids are equal from the start."""
    num_equal = 0
    while num_equal < min(len(first), len(second)) and first[num_equal] == second[num_equal]:
        num_equal += 1
    return num_equal


def _mode(model: PreTrainedModel) -> str:
    return "; the model is in train mode" if model.training else ", although the model is in eval mode"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
