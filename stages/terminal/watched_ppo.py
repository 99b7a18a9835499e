"""PPO's loop as a stage reads it: logged, tracked, its alarms told, and on a terminal large enough drawn as a dashboard.

Elsewhere (a pipe, ``--quiet``, a small terminal) progress is shown as that of every other loop. The dashboard
(``dashboard.py``) takes the whole screen and gives it back; its last frame, and what was said meanwhile, stand below the
command afterwards.

    for stats in watched_ppo(progress, ppo(...), config.iterations, heldout_prompts):
        ...
"""

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.live import Live

from preference_data.prompt import Prompt
from rlhf.alarms import new_alarms
from rlhf.ppo_stats import PPOStats
from stages.terminal.dashboard import HEIGHT, WIDTH, View, frame
from stages.terminal.progress import Progress

FRAMES_PER_SECOND = 2  # a frame takes a few milliseconds of the training's processor


def watched_ppo(progress: Progress, training: Iterable[PPOStats], total: int, prompts: Sequence[Prompt]) -> Iterator[PPOStats]:
    """Yield the stats of ``training``, of ``total`` iterations at most. ``prompts``: those that validations answer.

    Logs ``ppo`` and, where there are validations, ``ppo-validation``; says each alarm once until it has cleared.
    """
    history: list[PPOStats] = []
    with _screen(progress, View(history, total, {prompt.id: prompt for prompt in prompts})) as drawn:
        for stats in progress.track(_validations_logged(progress, training), total, "ppo", "iteration"):
            history.append(stats)
            drawn()
            for alarm in new_alarms(history):
                progress.say(f"iteration {stats.iteration}: {alarm}")
            yield stats


def _validations_logged(progress: Progress, training: Iterable[PPOStats]) -> Iterator[PPOStats]:
    """A validation is of the weights before the next iteration, and a tracker wants its steps in order: it is logged first."""
    for stats in training:
        if stats.validations:
            with progress.log("ppo-validation") as log:
                for validation in stats.validations:
                    log(validation)
        yield stats


@contextmanager
def _screen(progress: Progress, view: View) -> Iterator[Callable[[], None]]:
    """Within it the dashboard is on the screen, where there is one. Call what it yields after each iteration."""
    console = progress.terminal
    if console is None or console.width < WIDTH or console.height < HEIGHT:
        yield lambda: None
        return
    drawing = _Drawing(console, view, progress.clock)
    library_output = _Kept()
    try:
        with (
            progress.drawn_by(drawing.notices.append),
            redirect_stderr(library_output),
            Live(
                get_renderable=drawing.renderable, console=console, screen=True, refresh_per_second=FRAMES_PER_SECOND,
                redirect_stdout=False, redirect_stderr=False,
            ),
        ):  # fmt: skip
            yield drawing.iterated
    finally:
        console.print(drawing.renderable())
        for line in (*drawing.notices, *library_output.getvalue().splitlines()):
            progress.say(line)


class _Kept(io.StringIO):
    """What libraries write on stderr while the screen is taken. rich goes on writing to the file that it stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.rich_proxied_file = sys.stderr


class _Drawing:
    """The view as it is at any moment: rich draws it now and then, on a screen of the size it has then."""

    def __init__(self, console: Console, view: View, clock: Callable[[], float]):
        self.console, self.view, self.clock = console, view, clock
        self.notices: list[str] = []
        self.started = self.last = clock()

    def iterated(self) -> None:
        self.last = self.clock()

    def renderable(self) -> RenderableType:
        now = self.clock()
        view = replace(
            self.view,
            history=list(self.view.history),  # the loop appends while this thread draws
            notices=list(self.notices),
            elapsed=now - self.started,
            since=now - self.last,
        )
        return Group(*frame(view, self.console.width, self.console.height))
