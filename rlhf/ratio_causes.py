"""Why the ratio is not 1 at PPO's step 0: suspects are tried in turn, and the first that explains what was seen is named.

    template      the sampler read prompts in another format than ``policy/chat.py``'s, whatever it says it read
    dropout       two forward passes over the same tokens differ, or sampling is off as far as dropout would move it
    padding       a response has other log-probabilities alone than beside others
    temperature   what was recorded is of another temperature than was asked for
    top-p, top-k  it is of the likeliest tokens alone, made to sum to 1 again (``rlhf/ratio_fits.py``)
    dtype         it carries the rounding of another precision, or precision is too low for sampling to repeat a forward pass
    weights       the reference is not the policy

A suspect explains when, with it out of the way, nearly all tokens are within tolerance and the mean error is at most half of
what it was. One cause is named at a time: mend it and look again. Models are left as they were.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from scipy.stats import spearmanr
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from policy.chat import encode_prompts
from policy.logprobs import response_logits
from rlhf.ratio_fits import Settings, fitted_settings, logprobs_under
from rlhf.step_zero import Sampling, forward_logprobs, is_half, ratio_errors, tolerance, unpadded_logprobs

CauseName = Literal[
    "template", "dropout", "padding", "temperature", "top-p", "top-k", "temperature and top-p", "dtype", "weights"
]

_FITTED_TOKENS = 512  # logits of the whole vocabulary are looked at for so many


@dataclass(frozen=True, slots=True)
class Cause:
    """``found``: what was seen; ``advice``: what to do about it."""

    name: CauseName
    found: str
    advice: str


@dataclass(frozen=True, eq=False, slots=True)
class _Case:
    """A sampling whose ratios are off. Tensors (N,) run over the tokens of all responses in a row."""

    sampling: Sampling
    policy: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    logprobs: Tensor
    new_logprobs: Tensor

    @property
    def errors(self) -> Tensor:
        return ratio_errors(self.new_logprobs, self.logprobs)

    def forward(self, model: PreTrainedModel) -> Tensor:
        return forward_logprobs(model, self.sampling.responses, self.sampling.temperature)

    def is_left(self, errors: Tensor, before: Tensor | None = None) -> bool:
        """Whether ``errors`` are what rounding leaves of ``before`` (of this case's own, when not given)."""
        before = self.errors if before is None else before
        most = errors.quantile(0.95 if is_half(self.policy.dtype) else 0.99)  # half precision has a long tail
        return bool(most <= tolerance(self.policy.dtype) and errors.mean() <= before.mean() / 2)


def ratio_cause(sampling: Sampling, policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Cause | None:
    """The cause of ratios that are off, or None where no suspect explains them."""
    new_logprobs = forward_logprobs(policy, sampling.responses, sampling.temperature)
    case = _Case(sampling, policy, tokenizer, sampling.logprobs, new_logprobs)
    if cause := prompt_cause(sampling, tokenizer):
        return cause
    exact = (_random_forward, _padded_forward, _other_settings, _other_prompt)
    # the rounding of half precision can look like a leak that is gone alone; in float32 neither looks like the other
    rest = (_rounded, _padded_sampling) if is_half(policy.dtype) else (_padded_sampling, _rounded)
    suspects: tuple[Callable[[_Case], Cause | None], ...] = (*exact, *rest, _random_sampling)
    return next((cause for suspect in suspects if (cause := suspect(case))), None)


def prompt_cause(sampling: Sampling, tokenizer: PreTrainedTokenizerBase) -> Cause | None:
    """A sampler that read other prompt ids than ``policy/chat.py`` makes. PPO would train on these, with a ratio of 1."""
    expected = [encoded.ids for encoded in encode_prompts(tokenizer, sampling.prompts)]
    others = [
        (response.prompt_ids, ids)
        for response, ids in zip(sampling.responses, expected, strict=True)
        if response.prompt_ids != ids
    ]
    if not others:
        return None
    found = f"{len(others)} of {len(expected)} prompts were read in another format: {first_difference(tokenizer, *others[0])}"
    return Cause("template", found, "let the sampler encode prompts with policy/chat.py and the policy's own tokenizer")


def ref_cause(policy: PreTrainedModel, ref_policy: PreTrainedModel, sampling: Sampling) -> Cause | None:
    """The cause of a KL to a reference that should be the policy, or None where nothing sets them apart."""
    if policy.dtype != ref_policy.dtype:
        found = f"the policy is in {_name(policy.dtype)}, the reference in {_name(ref_policy.dtype)}"
        return Cause("dtype", found, "load both in one precision")
    reference = dict(ref_policy.named_parameters())
    others = [
        name
        for name, weight in policy.named_parameters()
        if name not in reference or not torch.equal(weight, reference[name].to(weight.device))
    ]
    if others:
        found = f"{len(others)} tensors of policy and reference differ, {others[0]} among them"
        return Cause("weights", found, "load both from one folder; what a folder lacks is drawn anew at each loading")
    for model, what in ((policy, "policy"), (ref_policy, "reference")):
        runs = [forward_logprobs(model, sampling.responses, sampling.temperature) for _ in range(2)]
        if not torch.equal(*runs):
            found = f"two forward passes of the {what} differ{_mode(model)}"
            return Cause("dropout", found, "call .eval() on every model of PPO")
    return None


def first_difference(tokenizer: PreTrainedTokenizerBase, found: Sequence[int], expected: Sequence[int]) -> str:
    """Where two unequal lists of ids part, as text."""
    place = 0
    while place < min(len(found), len(expected)) and found[place] == expected[place]:
        place += 1

    def shown(ids: Sequence[int]) -> str:
        return repr(tokenizer.decode(list(ids[place : place + 6]))) if place < len(ids) else "the end"

    return f"at token {place + 1} stands {shown(found)} instead of {shown(expected)}"


def _random_forward(case: _Case) -> Cause | None:
    spread = ratio_errors(case.forward(case.policy), case.new_logprobs)
    if not spread.mean() > case.errors.mean() / 10:
        return None
    found = f"two forward passes over the same tokens differ, the ratio by up to {spread.max():.2g}{_mode(case.policy)}"
    return Cause("dropout", found, "call .eval() on the policy before it samples and learns")


def _random_sampling(case: _Case) -> Cause | None:
    with _training(case.policy):
        spread = (case.forward(case.policy) - case.new_logprobs).abs().mean()
    if not 1 / 5 < (case.logprobs - case.new_logprobs).abs().mean() / spread < 5:
        return None
    found = "the forward pass repeats itself, but what was recorded is off as far as dropout would move it"
    return Cause("dropout", found, "call .eval() on the model that samples")


def _padded_forward(case: _Case) -> Cause | None:
    # in float32, where a leak cannot be taken for rounding
    model = copy.deepcopy(case.policy).float() if is_half(case.policy.dtype) else case.policy
    errors = ratio_errors(case.forward(model), unpadded_logprobs(model, case.sampling.responses, case.sampling.temperature))
    if not errors.max() > tolerance(model.dtype):
        return None
    found = f"in the forward pass the padding beside a response moves its ratio by up to {errors.max():.2g}"
    return Cause("padding", found, "padding stands on the right, so attention must be causal in the model and its kernels")


def _padded_sampling(case: _Case) -> Cause | None:
    asked = case.sampling
    settings = (1, asked.temperature, 1.0, asked.max_new_tokens, asked.seed)
    alone = replace(asked, responses=[asked.sampler.sample([prompt], *settings)[0][0] for prompt in asked.prompts])
    if not case.is_left(ratio_errors(unpadded_logprobs(case.policy, alone.responses, asked.temperature), alone.logprobs)):
        return None
    found = "sampled one at a time, without padding, the same prompts have a ratio of 1, and sampled together they have not"
    return Cause("padding", found, "while sampling, mask the padding and count positions from a row's first real token")


def _other_settings(case: _Case) -> Cause | None:
    some = torch.arange(0, len(case.logprobs), -(-len(case.logprobs) // _FITTED_TOKENS))
    logits, ids = _logits(case, some)
    logprobs, asked = case.logprobs[some], Settings(case.sampling.temperature)
    before = least = ratio_errors(logprobs_under(asked, logits, ids), logprobs)
    best: Settings | None = None
    for sort in fitted_settings(logits, ids, logprobs, asked.temperature):
        for settings in sort:
            left = ratio_errors(logprobs_under(settings, logits, ids), logprobs)
            if case.is_left(left, before) and left.mean() < least.mean() / 2:
                best, least = settings, left
        if best:
            break
    if best is None:
        return None
    found = f"what was recorded is of {best}, and {asked} was asked for"
    if not best.truncated:
        return Cause("temperature", found, "divide the logits by one temperature while sampling, recording and learning")
    advice = "sample with top-p 1 and no top-k: a token that falls out of the updated policy's nucleus has no ratio"
    if best.temperature != asked.temperature:
        return Cause("temperature and top-p", found, advice)
    return Cause("top-k" if best.top_k else "top-p", found, advice)


def _other_prompt(case: _Case) -> Cause | None:
    for how, prompt_ids in _misreadings(case):
        pairs = zip(case.sampling.responses, prompt_ids, strict=True)
        misread = [replace(response, prompt_ids=ids) for response, ids in pairs]
        new_logprobs = forward_logprobs(case.policy, misread, case.sampling.temperature)
        if case.is_left(ratio_errors(new_logprobs, case.logprobs)):
            return Cause("template", f"the sampler read each prompt {how}", "hand it the ids of policy/chat.py instead of text")
    return None


def _misreadings(case: _Case) -> Iterator[tuple[str, list[list[int]]]]:
    tokenizer, prompts = case.tokenizer, case.sampling.prompts
    read = [response.prompt_ids for response in case.sampling.responses]
    yield "with a second BOS in front", [[tokenizer.bos_token_id, *ids] for ids in read]
    yield "without its BOS", [ids[1:] for ids in read]
    yield "with EOS after it", [[*ids, tokenizer.eos_token_id] for ids in read]
    bare = [[message for message in messages if message["role"] != "system"] for messages in prompts]
    yield "without its system message", [encoded.ids for encoded in encode_prompts(tokenizer, bare)]
    plain = tokenizer([messages[-1]["content"].strip() for messages in prompts], add_special_tokens=False)["input_ids"]
    yield "as plain text, without the chat format", [[tokenizer.bos_token_id, *ids] for ids in plain]


def _rounded(case: _Case) -> Cause | None:
    """Is the error as large as what another precision does to the forward pass, and do the same tokens rise and fall?"""
    off = case.logprobs - case.new_logprobs
    own = _name(case.policy.dtype)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        if dtype == case.policy.dtype:
            continue
        model = copy.deepcopy(case.policy)
        model.to(dtype)  # type: ignore[arg-type]
        rounding = unpadded_logprobs(model, case.sampling.responses, case.sampling.temperature) - case.new_logprobs
        alike = spearmanr(off, rounding).statistic
        if not (0.4 < off.abs().mean() / rounding.abs().mean() < 2.5 and alike > 3 * len(off) ** -0.5):
            continue
        found = f"what was recorded carries the rounding of {_name(dtype)}, and the forward pass is in {own}"
        if is_half(case.policy.dtype):
            found = f"{own} rounds so much that a forward pass in {_name(dtype)} is as far away as sampling is"
        return Cause("dtype", found, "sample and learn in one precision; float32 holds the ratio within 1e-4")
    return None


@torch.inference_mode()
def _logits(case: _Case, some: Tensor) -> tuple[Tensor, Tensor]:
    """(logits (M, V), ids (M,)) of the tokens at the places ``some`` (M,), the logits not divided by any temperature."""
    wanted, place, logits, ids = set(some.tolist()), 0, [], []
    for response in case.sampling.responses:
        rows = [row for row in range(len(response.ids)) if place + row in wanted]
        place += len(response.ids)
        found, its_ids, _ = response_logits(case.policy, [response.prompt_ids], [response.ids])
        logits.append(found[0, rows].double().cpu())
        ids.append(its_ids[0, rows].cpu())
    return torch.cat(logits), torch.cat(ids)


@contextmanager
def _training(model: torch.nn.Module) -> Iterator[None]:
    """Train mode for a while; every module gets its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.train()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _mode(model: PreTrainedModel) -> str:
    return "; the model is in train mode" if model.training else ", although the model is in eval mode"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
