"""What commonly goes wrong in PPO, found in its stats while it trains: pure functions over the history of iterations.

An alarm stops nothing. It gives what was measured, what a healthy run shows, what the difference usually means and what to do.
Single iterations are noisy, so most alarms look at the mean over the last ``WINDOW`` iterations, and those that speak of a
change compare it with the mean over the first ``WINDOW``.

    for stats in ppo(...):
        history.append(stats)
        for alarm in new_alarms(history):
            print(alarm)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from rlhf.ppo_stats import PPOStats

WINDOW = 5  # iterations: halves the noise of one, and is a few per cent of a run
LENGTH_DRIFT = 0.5  # a share of the first length: rewards that like length move it by far more, better answers by less
LENGTH_CORRELATION = 0.5  # from here on length explains a quarter of the scores' variance,
LENGTH_CORRELATION_RISE = 0.3  # and this much above the start it is training that made it so, not the prompts
ENTROPY_LEFT = 1 / 3  # of the first entropy: the responses of a batch begin to be alike
LOWEST_KL = -0.5  # nats per response: k1 is an average over the policy's own responses, and noise at step 0 is near 0.01
FIRST_KL = 0.05  # nats per response, to either side: in the first iteration policy and reference are one, up to rounding
KL_LIMIT = 20.0  # nats per response: as far as choosing the best of a billion, which costs log K - (K - 1) / K
LOWEST_EOS = 0.98  # a share: a few responses in a hundred run out of room at any setting of max_new_tokens
EQUAL_SCORES = 1e-6  # logits of standard deviation: what rounding leaves of none
LARGEST_SCORE = 50.0  # logits: 1 - sigmoid(50) is 2e-22, and no comparison of people was ever that sure
CLIP_LIMIT = 0.5  # a share of tokens: the clip, meant for the few that moved far, then decides the update
LOWEST_EXPLAINED_VARIANCE = -1.0  # the critic adds as much variance as the returns have; 0 is a constant


@dataclass(frozen=True, slots=True)
class Alarm:
    """``kind`` names it; ``found`` and ``expected`` give numbers with units; ``advice``: what it usually means, what to do."""

    kind: str
    found: str
    expected: str
    advice: str

    @property
    def headline(self) -> str:
        return f"{self.kind}: {self.found}; expected {self.expected}"

    def __str__(self) -> str:
        return f"{self.headline}. {self.advice}"


def alarms(history: Sequence[PPOStats], kl_limit: float = KL_LIMIT) -> list[Alarm]:
    """What is wrong at the end of ``history`` (iterations 1, 2, ...). ``kl_limit``: nats per response."""
    if not history:
        return []
    checked = [check(history) for check in _CHECKS]
    return [alarm for alarm in (*checked, _far_away(history, kl_limit)) if alarm is not None]


def new_alarms(history: Sequence[PPOStats], kl_limit: float = KL_LIMIT) -> list[Alarm]:
    """Those at the end of ``history`` that were not there an iteration earlier: each kind once, until it has cleared."""
    before = {alarm.kind for alarm in alarms(history[:-1], kl_limit)}
    return [alarm for alarm in alarms(history, kl_limit) if alarm.kind not in before]


def _length_drift(history: Sequence[PPOStats]) -> Alarm | None:
    if not _has_two_windows(history):
        return None
    start, now = _means(history, lambda stats: stats.response_length)
    low, high = (1 - LENGTH_DRIFT) * start, (1 + LENGTH_DRIFT) * start
    if low <= now <= high:
        return None
    return Alarm(
        "length drift",
        f"{now:.1f} tokens a response",
        f"{low:.1f} to {high:.1f}, as it began with {start:.1f}",
        "The reward likes length itself, or being brief: read the responses, look at the reward model's length correlation, "
        "raise kl_coef",
    )


def _length_rewarded(history: Sequence[PPOStats]) -> Alarm | None:
    known = [stats.length_correlation for stats in history if stats.length_correlation is not None]
    if len(known) < 2 * WINDOW:
        return None
    start, now = fmean(known[:WINDOW]), fmean(known[-WINDOW:])
    if now <= LENGTH_CORRELATION or now - start <= LENGTH_CORRELATION_RISE:
        return None
    return Alarm(
        "score follows length",
        f"correlation {now:.2f}",
        f"at most {max(LENGTH_CORRELATION, start + LENGTH_CORRELATION_RISE):.2f}, as it began with {start:.2f}",
        "Longer responses win whatever they say: judge them by something that took no part in training, raise kl_coef, or "
        "train the reward model on pairs of equal length",
    )


def _entropy_collapse(history: Sequence[PPOStats]) -> Alarm | None:
    if not _has_two_windows(history):
        return None
    start, now = _means(history, lambda stats: stats.entropy)
    if now >= ENTROPY_LEFT * start:
        return None
    return Alarm(
        "entropy collapse",
        f"{now:.3g} nats a token",
        f"at least {ENTROPY_LEFT * start:.3g}, a third of the {start:.3g} it began with",
        "The policy says much the same every time and has little left to learn from: lower learning_rate, raise kl_coef, or "
        "stop at the best validation",
    )


def _below_zero(history: Sequence[PPOStats]) -> Alarm | None:
    now = _recent(history, lambda stats: stats.kl)
    if len(history) < WINDOW or now >= LOWEST_KL:
        return None
    return Alarm(
        "KL below zero",
        f"{now:.2f} nats a response",
        f"0 or more, and {LOWEST_KL:g} with noise",
        "The log-probabilities are not those of the distribution that was sampled (temperature, top-p, dropout, another "
        "padding), or the policy lengthens responses to earn it: rlhf doctor looks for the cause",
    )


def _far_away(history: Sequence[PPOStats], limit: float) -> Alarm | None:
    now = _recent(history, lambda stats: stats.kl)
    if now <= limit:
        return None
    return Alarm(
        "KL out of range",
        f"{now:.1f} nats a response",
        f"at most {limit:g}",
        "So far from the reference the reward models score text unlike any they saw: raise kl_coef, set kl_target, or stop at "
        "the best validation",
    )


def _another_reference(history: Sequence[PPOStats]) -> Alarm | None:
    first = history[0].kl
    if len(history) > 1 or abs(first) <= FIRST_KL:
        return None
    return Alarm(
        "a reference that is another policy",
        f"{first:.2f} nats a response before the first update",
        f"0 to within {FIRST_KL:g}",
        "KL is measured from a policy that training did not start from, or the sampler's log-probabilities are off: rlhf "
        "doctor names the cause",
    )


def _runs_out_of_room(history: Sequence[PPOStats]) -> Alarm | None:
    if not _has_two_windows(history):
        return None
    now = _recent(history, lambda stats: stats.eos_fraction)
    if now >= LOWEST_EOS:
        return None
    return Alarm(
        "responses without end",
        f"{now:.1%} end with EOS",
        f"{LOWEST_EOS:.0%} or more",
        "Responses are cut off: raise max_new_tokens if they are good, missing_eos_penalty if they ramble",
    )


def _absurd_scale(history: Sequence[PPOStats]) -> Alarm | None:
    mean, spread = history[-1].score, history[-1].score_std
    if max(abs(mean), spread) <= LARGEST_SCORE:
        return None
    return Alarm(
        "scores of an absurd scale",
        f"mean {mean:.4g}, standard deviation {spread:.4g} logits",
        f"both within {LARGEST_SCORE:g}",
        "The reward is not the logit of a preference, or reads text in another format than in training: score a few of its own "
        "comparisons with rlhf score",
    )


def _all_equal(history: Sequence[PPOStats]) -> Alarm | None:
    if history[-1].score_std > EQUAL_SCORES:
        return None
    return Alarm(
        "all scores equal",
        f"each is {history[-1].score:.4g}, standard deviation 0",
        "a standard deviation above 0",
        "There is nothing to prefer, so only the KL penalty teaches: check the reward, and that responses are not all empty",
    )


def _clipped(history: Sequence[PPOStats]) -> Alarm | None:
    now = _recent(history, lambda stats: stats.clip_fraction)
    if now <= CLIP_LIMIT:
        return None
    return Alarm(
        "most tokens clipped",
        f"{now:.0%} of ratios left the clip range",
        f"at most {CLIP_LIMIT:.0%}",
        "An update moves the policy too far: lower learning_rate or ppo_epochs, or set max_approx_kl",
    )


def _misled_critic(history: Sequence[PPOStats]) -> Alarm | None:
    now = _recent(history, lambda stats: stats.explained_variance)
    if not _has_two_windows(history) or now >= LOWEST_EXPLAINED_VARIANCE:  # a critic begins as a reward model, far off
        return None
    return Alarm(
        "critic misled",
        f"explained variance {now:.2f}",
        f"{LOWEST_EXPLAINED_VARIANCE:g} or more after {2 * WINDOW} iterations, and near 1 later",
        "The critic is worse than none, so advantages are noise: give it critic_warmup, or another value_learning_rate",
    )


_CHECKS = (
    _another_reference,
    _length_drift,
    _length_rewarded,
    _entropy_collapse,
    _below_zero,
    _runs_out_of_room,
    _absurd_scale,
    _all_equal,
    _clipped,
    _misled_critic,
)


def _has_two_windows(history: Sequence[PPOStats]) -> bool:
    return len(history) >= 2 * WINDOW


def _means(history: Sequence[PPOStats], value: Callable[[PPOStats], float]) -> tuple[float, float]:
    """The means over the first and over the last WINDOW iterations."""
    return fmean(map(value, history[:WINDOW])), _recent(history, value)


def _recent(history: Sequence[PPOStats], value: Callable[[PPOStats], float]) -> float:
    """The mean over the last WINDOW iterations, or over as many as there are."""
    return fmean(map(value, history[-WINDOW:]))
