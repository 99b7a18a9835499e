"""What the best of N samples is worth for every N up to k, estimated from k samples of each prompt (paper 3.2.3, Fig 7, 8).

Each estimate is the mean over all C(k, N) subsets of size N, not the value of the first N: a U-statistic, unbiased for N
independent samples and less noisy than any one subset. No subset is enumerated. Of k values in ascending order, the i-th
is the j-th smallest of a random subset of N with probability

    w_j(i) = C(i - 1, j - 1) C(k - i, N - j) / C(k, N)

because j - 1 of the others come from the i - 1 before it, and N - j from the k - i after it. So

    maximum   sum over i of w_N(i) x_(i)
    median    the same with w_j for j = (N + 1) / 2; for even N the mean of j = N / 2 and j = N / 2 + 1
    mean      the mean of all k, whatever N is
    choice    sum over i of w_N(i) v_(i), where v is another value (gold) of the response with the i-th score

All functions take the samples along the last axis, in any order.
"""

import math

import numpy as np

from eval.intervals import FloatArray


def rank_weights(k: int, size: int, rank: int) -> FloatArray:
    """w_rank(i) for i = 1 .. k, (k,): the probability that the i-th smallest of k is the ``rank``-th smallest of ``size``.

    Raises ValueError unless 1 <= rank <= size <= k.
    """
    if not 1 <= rank <= size <= k:
        raise ValueError(f"rank {rank} of {size} out of {k} samples was asked for; ask for 1 <= rank <= size <= samples")
    num_subsets = math.comb(k, size)
    return np.array([math.comb(i - 1, rank - 1) * math.comb(k - i, size - rank) / num_subsets for i in range(1, k + 1)])


def expected_maximum(scores: FloatArray, size: int) -> FloatArray:
    """The expected maximum of ``size`` of the samples: scores (..., k) to (...). Raises ValueError as `rank_weights`."""
    return np.sort(scores, axis=-1) @ rank_weights(scores.shape[-1], size, size)


def expected_median(scores: FloatArray, size: int) -> FloatArray:
    """The expected median of ``size`` of the samples, for an even size the mean of the middle two: scores (..., k) to (...).

    Raises ValueError as `rank_weights`.
    """
    k = scores.shape[-1]
    middle_weights = [rank_weights(k, size, rank) for rank in ((size + 1) // 2, size // 2 + 1)]
    return np.sort(scores, axis=-1) @ (sum(middle_weights) / 2)


def expected_mean(scores: FloatArray, size: int) -> FloatArray:
    """The expected mean of ``size`` of the samples, which is the mean of all k: scores (..., k) to (...).

    Raises ValueError unless 1 <= size <= k.
    """
    if not 1 <= size <= scores.shape[-1]:
        raise ValueError(f"the mean of {size} out of {scores.shape[-1]} samples was asked for; ask for 1 to all of them")
    return scores.mean(axis=-1)


def expected_choice(scores: FloatArray, values: FloatArray, size: int) -> FloatArray:
    """The expected value of the sample with the highest score of ``size`` samples.

    ``scores`` and ``values`` are (P, k), one of each for a sample; returns (P,). Equal scores share their weight, which is the
    expectation when one of the equals is taken at random. Raises ValueError for shapes that differ, and as `rank_weights`.
    """
    if scores.ndim != 2 or scores.shape != values.shape:
        raise ValueError(f"scores {scores.shape} and values {values.shape} must both have the shape (prompts, samples)")
    weights = rank_weights(scores.shape[1], size, size)
    order = np.argsort(scores, axis=1, kind="stable")
    sorted_scores = np.take_along_axis(scores, order, axis=1)
    sorted_values = np.take_along_axis(values, order, axis=1)
    starts_tie = np.ones(scores.shape, dtype=bool)
    starts_tie[:, 1:] = sorted_scores[:, 1:] != sorted_scores[:, :-1]
    tie = np.cumsum(starts_tie) - 1  # number of each run of equal scores, counted across prompts
    tie_weights = np.bincount(tie, np.tile(weights, len(scores))) / np.bincount(tie)
    return (tie_weights[tie].reshape(scores.shape) * sorted_values).sum(axis=1)


def best_of_n_kl(size: int) -> float:
    """log N - (N - 1) / N nats: the KL divergence of best-of-N from the policy that it samples from.

    Stiennon et al. 2020 (arXiv 2009.01325, appendix G.3); derived by Hilton and Gao, "Measuring Goodhart's law" (OpenAI 2022).
    Exact where no two responses have the same score, otherwise an upper bound (Beirami et al., arXiv 2401.01879), as for a
    policy that samples the same response twice. Raises ValueError below 1.
    """
    if size < 1:
        raise ValueError(f"best of {size} was asked for; ask for best of 1 or more")
    return math.log(size) - (size - 1) / size
