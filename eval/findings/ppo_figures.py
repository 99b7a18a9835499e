"""The figure of the checkpoints of PPO: numbers in, one SVG."""

from collections.abc import Mapping, Sequence
from itertools import cycle

from markupsafe import Markup

from eval.intervals import Estimate
from eval.report.figure import BLUE, GREEN, GREY, ORANGE, RED, legend_above, panel, solid_line

MOST_TICKS = 8
_OFFSET = 0.012  # of the whole width, so that intervals of the two axes do not overlap


def reward_and_judges(
    iterations: Sequence[int], score: Sequence[Estimate], judges: Mapping[str, Sequence[Estimate]], kl: Mapping[int, float]
) -> Markup:
    """Mean score of the reward (left, in its unit) and the means of judges on [0, 1] (right), by iteration.

    ``kl``: iteration -> nats per response from the policy that training began with, written below the iterations it has.
    """
    with panel("mean score of the reward and what judges think of the same answers, by checkpoint", 4.6, 3.2) as drawn:
        left = drawn.axes
        solid_line(left, iterations, score, "score of the reward (left)", BLUE)
        left.set_ylabel("score of the reward", color=BLUE)
        right, shifted = left.twinx(), [iteration + _OFFSET * iterations[-1] for iteration in iterations]
        right.grid(visible=False)
        right.spines["right"].set_visible(True)
        right.spines["right"].set_color(GREY)
        for (name, means), colour, marker in zip(judges.items(), cycle((RED, GREEN, ORANGE)), cycle("s^v"), strict=False):
            solid_line(right, shifted, means, name, colour, marker)
            left.errorbar([], [], yerr=[], label=f"{name} (right)", color=colour, marker=marker)  # one legend for both sides
        right.set_ylabel("judges, on [0, 1]")
        step = -(-len(iterations) // MOST_TICKS)
        ticks = list(iterations[::step])
        left.set_xticks(ticks, [f"{tick}\n{kl[tick]:.2f}" if tick in kl else str(tick) for tick in ticks])
        left.set_xlabel("iteration; below it KL from the start, in nats a response" if kl else "iteration")
        legend_above(left)
    return drawn.svg
