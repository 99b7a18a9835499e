"""The figure of the checkpoints that PPO passes through: numbers in, one SVG."""

from collections.abc import Mapping, Sequence
from itertools import cycle

from markupsafe import Markup

from eval.intervals import Estimate
from eval.report.figure import BLUE, GREEN, GREY, ORANGE, RED, legend_above, panel, solid_line

MOST_TICKS = 8
_BESIDE = 0.012  # of the whole width, so that the intervals of both sides can be told apart


def reward_and_judges(
    iterations: Sequence[int], score: Sequence[Estimate], judges: Mapping[str, Sequence[Estimate]], kl: Mapping[int, float]
) -> Markup:
    """The reward's own mean score (left, in its unit) and what judges on [0, 1] think (right), by iteration.

    ``kl``: iteration -> nats a response from the policy that training began with, written below the iterations known.
    """
    with panel("mean score of the reward and what judges think of the same answers, by checkpoint", 4.6, 3.2) as drawn:
        left = drawn.axes
        solid_line(left, iterations, score, "score of the reward (left)", BLUE)
        left.set_ylabel("score of the reward", color=BLUE)
        right, beside = left.twinx(), [each + _BESIDE * iterations[-1] for each in iterations]
        right.grid(visible=False)
        right.spines["right"].set_visible(True)
        right.spines["right"].set_color(GREY)
        for (name, found), colour, marker in zip(judges.items(), cycle((RED, GREEN, ORANGE)), cycle("s^v"), strict=False):
            solid_line(right, beside, found, name, colour, marker)
            left.errorbar([], [], yerr=[], label=f"{name} (right)", color=colour, marker=marker)  # one legend for both sides
        right.set_ylabel("judges, on [0, 1]")
        step = -(-len(iterations) // MOST_TICKS)
        ticks = list(iterations[::step])
        left.set_xticks(ticks, [f"{each}\n{kl[each]:.2f}" if each in kl else str(each) for each in ticks])
        left.set_xlabel("iteration; below it KL from the start, in nats a response" if kl else "iteration")
        legend_above(left)
    return drawn.svg
