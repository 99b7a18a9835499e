"""What a sampler did to the logits before it drew, read back from the log-probabilities that it recorded.

Pure functions in float64. ``logits`` (M, V) are the model's own, not divided by anything; ``ids`` (M,) the sampled tokens;
``logprobs`` (M,) what was recorded of them. Truncation (top-p, top-k) keeps the likeliest tokens and lets them sum to 1 again:
log-probabilities rise by -log of the mass that was kept, which tells how much that was.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from policy.logprobs import token_logprobs

_TEMPERATURES = [step / 20 for step in range(2, 41)]  # 0.1, 0.15 ... 2
_TOP_PS = [*(step / 20 for step in range(1, 20)), 0.98, 0.99]  # 0.05, 0.1 ... 0.95
_TOP_KS = [5, 10, 20, 40, 50, 100]


@dataclass(frozen=True, slots=True)
class Settings:
    """How tokens are drawn: logits divided by ``temperature``, then the ``top_p`` nucleus or the ``top_k`` likeliest alone."""

    temperature: float
    top_p: float | None = None
    top_k: int | None = None

    @property
    def truncated(self) -> bool:
        return self.top_p is not None or self.top_k is not None

    def __str__(self) -> str:
        top = f", top-p {self.top_p:.2g}" if self.top_p else f", top-k {self.top_k}" if self.top_k else ""
        return f"temperature {self.temperature:.3g}{top}"


def logprobs_under(settings: Settings, logits: Tensor, ids: Tensor) -> Tensor:
    """(M,) log-probabilities of ``ids`` when drawn so. Of a token that is not kept the number means nothing."""
    logits = logits.double() / settings.temperature
    logprobs = token_logprobs(logits, ids)
    return logprobs - kept_mass(_cumulative(logits), settings).log() if settings.truncated else logprobs


def kept_mass(cumulative: Tensor, settings: Settings) -> Tensor:
    """(M,) probability of the tokens that are kept; ``cumulative`` (M, V) begins with the likeliest.

    Top-p as in the reference code: the token that crosses p is kept.
    """
    if settings.top_k is not None:
        return cumulative[:, min(settings.top_k, cumulative.shape[1]) - 1]
    assert settings.top_p is not None
    at = torch.full((len(cumulative), 1), settings.top_p, dtype=cumulative.dtype)
    last = torch.searchsorted(cumulative, at, right=True).clamp_max(cumulative.shape[1] - 1)
    return cumulative.gather(1, last).squeeze(1)


def fitted_settings(logits: Tensor, ids: Tensor, logprobs: Tensor, temperature: float) -> Iterator[list[Settings]]:
    """Settings that may have given ``logprobs``: first another temperature, and top-p or top-k at ``temperature``; then, which
    takes longer, top-p or top-k at a usual other one. What cannot be is left out."""
    truncation = fitted_truncation(logits, ids, logprobs, temperature)
    yield [Settings(fitted_temperature(logits, ids, logprobs)), *([truncation] if truncation else [])]
    at_each = [fitted_truncation(logits, ids, logprobs, other) for other in _TEMPERATURES]
    possible = [each for each in at_each if each]
    yield sorted(possible, key=lambda each: (logprobs_under(each, logits, ids) - logprobs).abs().mean().item())[:1]


def fitted_temperature(logits: Tensor, ids: Tensor, logprobs: Tensor) -> float:
    """The temperature in [0.05, 20] whose softmax(logits / temperature) gives ``logprobs`` best, by least squares."""

    def error(log_temperature: float) -> float:
        found = logprobs_under(Settings(exp(log_temperature)), logits, ids)
        return (found - logprobs).square().mean().item()

    nearest = min(torch.linspace(-3.0, 3.0, 61).tolist(), key=error)
    return exp(minimize_scalar(error, bounds=(nearest - 0.1, nearest + 0.1), method="bounded", options={"xatol": 1e-8}).x)


def fitted_truncation(logits: Tensor, ids: Tensor, logprobs: Tensor, temperature: float) -> Settings | None:
    """The top-p or top-k at ``temperature`` that gives ``logprobs`` best; None where tokens are less likely than without."""
    scaled = logits.double() / temperature
    mass = (token_logprobs(scaled, ids) - logprobs).exp()
    if not mass.quantile(0.95) < 1.05:
        return None
    cumulative = _cumulative(scaled)
    return min(
        _candidates(cumulative, mass, temperature), key=lambda each: (kept_mass(cumulative, each) - mass).abs().mean().item()
    )


def _candidates(cumulative: Tensor, mass: Tensor, temperature: float) -> Iterator[Settings]:
    """The usual settings, and those that the token with the least mass kept points at: no nucleus can hold less than p.

    Of equals the first counts. A k that fits everywhere is no accident, unless it is 1, which any small p gives as well.
    """
    least = int(mass.argmin())
    num_kept = int(torch.searchsorted(cumulative[least], mass[least] * (1 - 1e-5))) + 1
    just_below = [mass[least].item() * (1 - margin) for margin in (1e-4, 1e-5, 1e-6)]  # the mass is known up to rounding
    for top_k in (max(2, num_kept), *_TOP_KS):
        yield Settings(temperature, top_k=top_k)
    for top_p in (*_TOP_PS, *just_below):
        yield Settings(temperature, top_p=top_p)


def _cumulative(logits: Tensor) -> Tensor:
    return logits.softmax(-1).sort(dim=-1, descending=True).values.cumsum(-1)
