"""The arithmetic of PPO as pure functions: tensors in, tensors out.

What the paper names (3.2.3) is here with what it takes over from Stiennon et al. 2020 (arXiv 2009.01325) and Schulman et
al. 2016, 2017 (arXiv 1506.02438, 1707.06347): whitening, the per-token reward, generalised advantages, the two clipped losses
and the diagnostics of an update.

Conventions. ``B`` responses, ``T`` the length of the longest. ``response_mask`` is True on real response tokens, EOS
included; a row's tokens come first and its padding after. What stands at masked places, even NaN, can change neither a result
nor a gradient: it is overwritten before it is used. Numbers are computed in float32, or in float64 when given so.
"""

import torch
from torch import Tensor


def _clean(x: Tensor, mask: Tensor) -> Tensor:
    """``x`` in float32 or wider, zero at masked places."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).masked_fill(~mask, 0.0)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Scalar mean of ``x`` over the True places of ``mask`` (same shape, at least one True)."""
    return _clean(x, mask).sum() / mask.sum()


def whiten(x: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """(x - mean) / sqrt(variance + eps) over ``mask``: mean 0 and variance 1, always; 0 at masked places.

    The variance is the population's. When all values are equal the result is 0. Paper 3.2.3 whitens the scores so; the
    advantages are whitened in the same way.
    """
    centred = _clean(_clean(x, mask) - masked_mean(x, mask), mask)
    return centred * torch.rsqrt(masked_mean(centred.square(), mask) + eps)


def token_rewards(scores: Tensor, kl: Tensor, response_mask: Tensor, kl_coef: float) -> Tensor:
    """The reward of every token (B, T): paper equation 4, R = score - beta KL, spread over the tokens.

        r_t = -kl_coef * kl_t  +  score where t is the last response token

    ``scores`` (B,) are whitened; ``kl`` (B, T) is log pi(token) - log pi_0(token) in nats (estimator k1, unbiased and not
    clamped at zero). A row sums to score - kl_coef * KL of the response.
    """
    rewards = -kl_coef * _clean(kl, response_mask)
    last = response_mask.sum(dim=1, keepdim=True) - 1
    return rewards.scatter_add(1, last, scores.to(rewards.dtype).unsqueeze(1))


def gae(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float, gae_lambda: float) -> tuple[Tensor, Tensor]:
    """Generalised advantages and returns, each (B, T), 0 at masked places (Schulman et al. 2016, equation 16).

        delta_t = r_t + gamma V_{t+1} - V_t          A_t = delta_t + gamma lambda A_{t+1}          R_t = A_t + V_t

    V and A after a response's last token are 0: a response that ran out of room ends there too.
    """
    rewards, values = _clean(rewards, response_mask), _clean(values, response_mask)
    next_values = torch.cat([values[:, 1:], values.new_zeros(len(values), 1)], dim=1)
    deltas = _clean(rewards + gamma * next_values - values, response_mask)
    advantage = torch.zeros_like(deltas[:, 0])
    columns = []
    for delta in reversed(deltas.unbind(dim=1)):
        advantage = delta + gamma * gae_lambda * advantage
        columns.append(advantage)
    advantages = torch.stack(columns[::-1], dim=1)
    return advantages, advantages + values


def log_ratios(new_logprobs: Tensor, logprobs: Tensor, response_mask: Tensor) -> Tensor:
    """log(pi_new / pi_old) of each token (B, T), 0 at masked places, so that exp of garbage is never taken."""
    return _clean(new_logprobs, response_mask) - _clean(logprobs, response_mask)


def policy_loss(new_logprobs: Tensor, logprobs: Tensor, advantages: Tensor, response_mask: Tensor, clip_range: float) -> Tensor:
    """Clipped surrogate loss, a scalar to minimise (Schulman et al. 2017, equation 7, negated).

    mean over tokens of  max(-A ratio, -A clip(ratio, 1 - clip_range, 1 + clip_range)),   ratio = exp(new - old)
    """
    advantages = _clean(advantages, response_mask).detach()
    ratio = log_ratios(new_logprobs, logprobs.detach(), response_mask).exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return masked_mean(torch.maximum(-advantages * ratio, -advantages * clipped), response_mask)


def value_loss(new_values: Tensor, values: Tensor, returns: Tensor, response_mask: Tensor, value_clip_range: float) -> Tensor:
    """Clipped squared error of the critic, a scalar >= 0.

    mean over tokens of  1/2 max((V_new - R)^2, (V_old + clip(V_new - V_old, -range, range) - R)^2)
    """
    new_values = _clean(new_values, response_mask)
    values, returns = _clean(values, response_mask).detach(), _clean(returns, response_mask).detach()
    clipped = values + (new_values - values).clamp(-value_clip_range, value_clip_range)
    return 0.5 * masked_mean(torch.maximum((new_values - returns).square(), (clipped - returns).square()), response_mask)


def approx_kl(new_logprobs: Tensor, logprobs: Tensor, response_mask: Tensor) -> Tensor:
    """How far the update moved the policy: KL(pi_old || pi_new), nats per token, >= 0 (estimator k3: ratio - 1 - log ratio)."""
    log_ratio = log_ratios(new_logprobs, logprobs, response_mask)
    return masked_mean(torch.expm1(log_ratio) - log_ratio, response_mask)


def clip_fraction(new_logprobs: Tensor, logprobs: Tensor, response_mask: Tensor, clip_range: float) -> Tensor:
    """Share of tokens, in [0, 1], whose ratio has left [1 - clip_range, 1 + clip_range]."""
    ratio = log_ratios(new_logprobs, logprobs, response_mask).exp()
    return masked_mean(((ratio - 1).abs() > clip_range).to(ratio.dtype), response_mask)


def explained_variance(values: Tensor, returns: Tensor, response_mask: Tensor) -> Tensor:
    """1 - Var(returns - values) / Var(returns) over the mask, at most 1; 0 where the returns do not vary."""
    values, returns = values[response_mask].double(), returns[response_mask].double()
    variance = returns.var(correction=0)
    return torch.where(variance > 0, 1 - (returns - values).var(correction=0) / variance, 0.0)
