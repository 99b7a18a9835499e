"""What N samples of a prompt are worth for every N up to k, from k that were sampled once (paper 3.2.3, Figures 7 and 8).

Each estimate is the mean over all C(k, N) subsets of size N, not the value of the first N: a U-statistic, unbiased for what N
independent samples give, and steadier than any one subset. No subset is enumerated. Of k values in ascending order, the i-th
is the j-th smallest of a random subset of N with probability

    w_j(i) = C(i - 1, j - 1) C(k - i, N - j) / C(k, N)

because j - 1 of the others come from the i - 1 before it, and N - j from the k - i after it. So

    maximum   sum over i of w_N(i) x_(i)
    median    that of j = (N + 1) / 2; the mean of j = N / 2 and j = N / 2 + 1 where N is even
    mean      the mean of all k, whatever N is
    choice    sum over i of w_N(i) v_(i), v being another value (gold) of the response with the i-th score

All functions take the samples in the last axis, which they may hold in any order.
"""

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def rank_weights(k: int, size: int, rank: int) -> FloatArray:
    """w_rank(i) for i = 1 .. k, (k,): how likely the i-th smallest of k is the ``rank``-th smallest of ``size`` of them.

    Raises ValueError unless 1 <= rank <= size <= k.
    """
    if not 1 <= rank <= size <= k:
        raise ValueError(f"rank {rank} of {size} out of {k} samples was asked for; it takes 1 <= rank <= size <= samples")
    subsets = math.comb(k, size)
    return np.array([math.comb(i - 1, rank - 1) * math.comb(k - i, size - rank) / subsets for i in range(1, k + 1)])


def expected_maximum(scores: FloatArray, size: int) -> FloatArray:
    """The expected maximum of ``size`` out of the samples: scores (..., k) to (...). Raises ValueError as `rank_weights`."""
    return np.sort(scores, axis=-1) @ rank_weights(scores.shape[-1], size, size)


def expected_median(scores: FloatArray, size: int) -> FloatArray:
    """The expected median, of an even ``size`` the mean of the two middle ones: scores (..., k) to (...). Raises ValueError
    as `rank_weights`."""
    k = scores.shape[-1]
    middle = [rank_weights(k, size, rank) for rank in ((size + 1) // 2, size // 2 + 1)]
    return np.sort(scores, axis=-1) @ (sum(middle) / 2)


def expected_mean(scores: FloatArray, size: int) -> FloatArray:
    """The expected mean, which is that of all k whatever ``size`` is: scores (..., k) to (...). Raises ValueError for a size
    that k samples do not hold."""
    if not 1 <= size <= scores.shape[-1]:
        raise ValueError(f"the mean of {size} out of {scores.shape[-1]} samples was asked for; ask for 1 to all of them")
    return scores.mean(axis=-1)


def expected_choice(scores: FloatArray, values: FloatArray, size: int) -> FloatArray:
    """The expected value of the one that scores highest of ``size`` out of the samples.

    ``scores`` and ``values`` are (P, k), one of each for a sample; returns (P,). Equal scores share their weight: it is the
    expectation over which of the equals is taken. Raises ValueError for shapes that differ, and as `rank_weights`.
    """
    if scores.ndim != 2 or scores.shape != values.shape:
        raise ValueError(f"scores {scores.shape} and values {values.shape} must be of one shape (prompts, samples)")
    weights = rank_weights(scores.shape[1], size, size)
    order = np.argsort(scores, axis=1, kind="stable")
    ranked, carried = np.take_along_axis(scores, order, axis=1), np.take_along_axis(values, order, axis=1)
    begins = np.ones(ranked.shape, dtype=bool)
    begins[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    group = np.cumsum(begins) - 1  # of equal scores of one prompt, numbered through all prompts
    shared = np.bincount(group, np.tile(weights, len(ranked))) / np.bincount(group)
    return (shared[group].reshape(ranked.shape) * carried).sum(axis=1)


def best_of_n_kl(size: int) -> float:
    """log N - (N - 1) / N nats: the KL divergence of best-of-N from the policy that it samples from.

    Stiennon et al. 2020 (arXiv 2009.01325, appendix G.3); derived by Hilton and Gao, "Measuring Goodhart's law" (OpenAI 2022).
    It is exact where no two responses score alike, and an upper bound otherwise (Beirami et al., arXiv 2401.01879), as for a
    policy that says the same thing twice. Raises ValueError below 1.
    """
    if size < 1:
        raise ValueError(f"best of {size} was asked for; it takes one sample at least")
    return math.log(size) - (size - 1) / size
