"""PPO while it trains, on one screen: what it is paid for, how far it moves, how it updates, what it says, what looks wrong.

    ppo  iteration 37 of 200  ━━━━━━╸──────────────────────  18%   8:12 elapsed, about 36:08 left
    score                      0.612     +0.456  ▁▁▂▃▃▄▅▅▆▆▇▇█

``frame`` draws: a pure function of a ``View`` to lines that fit a screen of any size. ``watched_ppo.py`` puts them on
the terminal. A sparkline goes from the lowest to the highest value of all iterations, means of neighbours where there are more
iterations than columns; the change is that of the last iteration from the first.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from rich.cells import set_cell_size
from rich.text import Text

from preference_data.prompt import Prompt
from rlhf.alarms import Alarm, alarms
from rlhf.ppo_stats import PPOStats, validated
from rlhf.validation import Answer, Validation, best_validation
from stages.terminal.progress import clock_text, rate_text
from stages.terminal.screen_text import fitted, number, plain, sparkline, wrapped

WIDTH, HEIGHT = 80, 24  # the smallest screen that it is made for
TALL = 34  # lines from which groups are parted and alarms told in full
WIDE = 100  # columns from which the range of a metric is told
RECENT = 10  # iterations whose time tells how long the next ones take


@dataclass(frozen=True)
class View:
    """What there is to show. ``prompts`` by id; ``notices`` are lines for the reader; seconds since the start and since the
    last iteration ended."""

    history: Sequence[PPOStats]
    total: int
    prompts: Mapping[str, Prompt]
    notices: Sequence[str] = field(default=())
    elapsed: float = 0.0
    since: float = 0.0


@dataclass(frozen=True)
class Metric:
    """A line of the table; ``good``: it is to rise; ``share``: told in per cent."""

    name: str
    value: Callable[[PPOStats], float]
    good: bool = False
    share: bool = False


_PAID = (
    Metric("score", lambda stats: stats.score, True),
    Metric("  helpfulness", lambda stats: stats.helpfulness, True),
    Metric("  safety", lambda stats: stats.safety, True),
)
_SAID = (
    Metric("KL, nats a response", lambda stats: stats.kl),
    Metric("entropy, nats a token", lambda stats: stats.entropy),
    Metric("response length", lambda stats: stats.response_length),
    Metric("EOS share", lambda stats: stats.eos_fraction, True, share=True),
)
_LEARNT = (
    Metric("clip fraction", lambda stats: stats.clip_fraction, share=True),
    Metric("approx_kl of the update", lambda stats: stats.approx_kl),
    Metric("explained variance", lambda stats: stats.explained_variance, True),
)
_MULTIPLIER = Metric("  weight of safety", lambda stats: math.nan if (found := stats.lagrange_multiplier) is None else found)
_NAME, _VALUE, _CHANGE, _RANGE = 24, 9, 11, 20


def frame(view: View, width: int, height: int) -> list[Text]:
    """At most ``height`` lines of at most ``width`` cells."""
    if not view.history:
        lines = [Text(f"ppo  waiting for the first of {view.total} iterations, {clock_text(view.elapsed)} elapsed")]
    else:
        tall = height >= TALL
        lines = [_header(view, width), _timing(view.history, width), *_table(view.history, width, tall)]
        lines += [*_validations(view.history, width), *_alarm_lines(alarms(view.history), width, tall)]
        lines += [Text(f"note    {plain(view.notices[-1])}", style="dim")] if tall and view.notices else []
        lines += _answers(view, width, height - len(lines), tall)
    return [fitted(line, width) for line in lines[:height]]


def _header(view: View, width: int) -> Text:
    done = view.history[-1].iteration
    seconds = fmean(_seconds(stats) for stats in view.history[-RECENT:])
    left = max(0.0, (view.total - done) * seconds - view.since)
    before = f"ppo  iteration {done} of {view.total}  "
    after = f" {done / view.total:4.0%}  {clock_text(view.elapsed)} elapsed"
    after += f", about {clock_text(left)} left" if done < view.total else ""
    room = max(0, min(60, width - len(before) - len(after)))
    filled = done * room // view.total
    return Text.assemble((before, "bold"), ("━" * filled, "cyan"), ("─" * (room - filled), "dim"), after)


def _seconds(stats: PPOStats) -> float:
    return stats.sampling_seconds + stats.scoring_seconds + stats.update_seconds


def _timing(history: Sequence[PPOStats], width: int) -> Text:
    """Seconds an iteration by phase, and responses per second, over the last RECENT iterations."""
    recent = history[-RECENT:]
    whole = fmean(_seconds(stats) for stats in recent) or 1e-9
    phases = {
        "sampling": fmean(stats.sampling_seconds for stats in recent),
        "scoring": fmean(stats.scoring_seconds for stats in recent),
        "update": fmean(stats.update_seconds for stats in recent),
    }
    parts = ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in phases.items())
    responses = fmean(stats.num_tokens / stats.response_length for stats in recent) / whole
    tokens = fmean(stats.num_tokens for stats in recent) / whole
    speed = f"{rate_text(responses)} responses/s" + f", {rate_text(tokens)} tokens/s" * (width >= WIDE)
    return Text(f"     {speed}  {rate_text(whole)} s each: {parts}", style="dim")


def _table(history: Sequence[PPOStats], width: int, tall: bool) -> list[Text]:
    wide = width >= WIDE
    room = max(0, width - _NAME - _VALUE - _CHANGE - 2 - (_RANGE if wide else 0))
    head = f"{'':{_NAME}}{'now':>{_VALUE}}{'change':>{_CHANGE}}  {'lowest to highest':{_RANGE}}"
    head = head if wide else head[: _NAME + _VALUE + _CHANGE + 2]
    first, last = history[0].iteration, history[-1].iteration
    lines = [Text(f"{head}{f'iterations {first} to {last}':<{room}}", style="dim")]
    paid = _PAID if history[-1].lagrange_multiplier is None else (*_PAID, _MULTIPLIER)
    for group in (paid, _SAID, _LEARNT):
        lines += [Text()] * tall + [_row(metric, history, room, wide) for metric in group]
    return lines + [Text()] * tall


def _row(metric: Metric, history: Sequence[PPOStats], room: int, wide: bool) -> Text:
    values = [metric.value(stats) for stats in history]
    change = values[-1] - values[0]
    colour = "green" if metric.good and change > 0 else "red" if metric.good and change < 0 else ""
    name = metric.name
    if metric is _SAID[0]:
        name = f"KL, nats (coef {history[-1].kl_coef:.3g})"
    known = [value for value in values if math.isfinite(value)]
    reach = f"{number(min(known), metric.share)} to {number(max(known), metric.share)}" if known else ""
    return Text.assemble(
        f"{name:<{_NAME}}",
        (f"{number(values[-1], metric.share):>{_VALUE}}", "bold"),
        (f"{number(change, metric.share, sign=True):>{_CHANGE}}  ", colour),
        (f"{reach:<{_RANGE}}" if wide else "", "dim"),
        (sparkline(values, room), "cyan"),
    )


def _validations(history: Sequence[PPOStats], width: int) -> list[Text]:
    """One line: the newest validations that fit, and the best of all."""
    validations = validated(history)
    if not validations:
        return [Text("held-out  no validation so far", style="dim")]
    best = best_validation(validations)
    line = Text.assemble("held-out  ", (f"best {number(best.score)} after {best.iteration}", "bold green"))
    shown: list[tuple[str, str]] = []
    for validation in reversed(validations):
        told = f"{validation.iteration}: {number(validation.score)}"
        if line.cell_len + 4 + sum(len(text) for text, _ in shown) + len(told) + 3 > width:
            break
        shown.insert(0, (f"   {told}", "green" if validation is best else ""))
    return [Text.assemble(line, ("  |", "dim"), *shown)]


def _alarm_lines(alarms: Sequence[Alarm], width: int, tall: bool) -> list[Text]:
    if not alarms:
        return [Text("alarms    none", style="dim")]
    if not tall:
        more = f" (+{len(alarms) - 1})" if alarms[1:] else ""
        return [Text.assemble((f"ALARM{more}  ", "bold red"), (alarms[0].headline, "red"))]
    lines = []
    for alarm in alarms[:3]:
        lines += [
            Text.assemble(("ALARM  ", "bold red"), (part, "red")) if first else Text(f"       {part}", style="red")
            for first, part in zip((True, False, False), wrapped(str(alarm), width - 7, 3), strict=False)
        ]
    return lines + ([Text(f"       and {len(alarms) - 3} more", style="red")] if alarms[3:] else [])


def _answers(view: View, width: int, room: int, tall: bool) -> list[Text]:
    """Two dialogues of the newest validation in at most ``room`` lines; the next validation shows the next prompts."""
    validations = validated(view.history)
    if not validations or room < 3:
        return []
    index, newest = len(validations) - 1, validations[-1]
    chosen = _chosen(newest, view.prompts, index)
    if not chosen:
        return []
    each = (room - 1 - tall) // len(chosen)
    if each < 2:
        chosen, each = chosen[:1], room - 1 - tall
    title = f"after iteration {newest.iteration}, a prompt held out and the response"
    lines = [Text()] * tall + [Text(set_cell_size(f"── {title} {'─' * width}", width), style="dim")]
    for answer in chosen:
        lines += _dialogue(answer, view.prompts[answer.prompt_id], width, each)
    return lines


def _chosen(newest: Validation, prompts: Mapping[str, Prompt], index: int) -> list[Answer]:
    """An answer to a helpful prompt and one to a safety prompt, where there are both."""
    known = [answer for answer in newest.answers if answer.prompt_id in prompts]
    kinds = [[a for a in known if prompts[a.prompt_id].is_safety is safety] for safety in (False, True)]
    if not all(kinds):
        return [known[(2 * index + part) % len(known)] for part in range(min(2, len(known)))]
    return [kind[index % len(kind)] for kind in kinds]


def _dialogue(answer: Answer, prompt: Prompt, width: int, room: int) -> list[Text]:
    scores = f"  {number(answer.combined)} (help {number(answer.helpfulness)}, safe {number(answer.safety)})"
    question = Text(f"> {plain(prompt.messages[-1]['content'])}", style="bold")
    question = fitted(question, max(1, width - len(scores)))
    question.pad_right(max(0, width - len(scores) - question.cell_len))
    text = plain(answer.response) or "(nothing)"
    text += "" if answer.finished else " [cut off]"
    return [Text.assemble(question, (scores, "cyan")), *(Text(f"  {part}") for part in wrapped(text, width - 2, room - 1))]
