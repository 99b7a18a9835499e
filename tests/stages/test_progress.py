import io
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from stages.terminal.progress import Progress, clock_text, rate_text


@dataclass(frozen=True)
class Stats:
    step: int
    loss: float
    note: str | None
    curve: list[float]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_every_ten_seconds_and_at_the_end() -> None:
    clock, screen = Clock(), io.StringIO()
    progress = Progress(console=Console(file=screen), clock=clock)
    for _ in progress.track(range(25), 100, "sample", unit="response", amount=lambda item: 4):
        clock.now += 1
    assert screen.getvalue().splitlines() == [
        "sample: 44/100 response, 4.4 response/s, 0:13 left",
        "sample: 84/100 response, 4.2 response/s, 0:04 left",
        "sample: 100/100 response in 0:25 (4 response/s)",
    ]


def test_a_loop_may_say_how_much_there_is_once_it_runs() -> None:
    clock, screen, terminal = Clock(), io.StringIO(), io.StringIO()
    for console in (Console(file=screen), Console(file=terminal, force_terminal=True, width=120)):
        with Progress(console=console, clock=clock).meter(None, "fine-tuning") as advance:
            for _ in range(11):
                clock.now += 1
                advance(None, 1, 20)
    assert screen.getvalue().splitlines() == [
        "fine-tuning: 10/20 step, 1 step/s, 0:10 left",
        "fine-tuning: 11/20 step in 0:11 (1 step/s)",
    ]
    assert "11/20" in terminal.getvalue()


def test_a_loop_left_early_says_where() -> None:
    screen = io.StringIO()
    tracked = Progress(console=Console(file=screen), clock=Clock()).track(range(9), None, "ppo", unit="iteration")
    next(tracked), next(tracked)
    tracked.close()  # type: ignore[attr-defined]
    assert screen.getvalue() == "ppo: 2 iteration in 0:00\n"


def test_a_terminal_gets_a_bar_with_throughput() -> None:
    screen = io.StringIO()
    progress = Progress(console=Console(file=screen, force_terminal=True, width=120))
    assert list(progress.track(range(3), 3, "reward [1]")) == [0, 1, 2]
    assert "reward [1]" in screen.getvalue() and "3/3" in screen.getvalue() and "step/s" in screen.getvalue()


def test_quiet_shows_nothing_and_still_logs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress(quiet=True).bound(tmp_path / "logs")
    progress.say("hello")
    progress.stage(1, 2, "sft")
    stats = [Stats(1, float("nan"), "x", []), Stats(2, 0.1, None, [])]
    assert list(progress.track(iter(stats), 2, "sft/round 1")) == stats
    assert capfd.readouterr() == ("", "")
    text = (tmp_path / "logs" / "sft-round-1.jsonl").read_text()
    assert text == '{"step": 1, "loss": NaN, "note": "x"}\n{"step": 2, "loss": 0.1, "note": null}\n'


def test_progress_writes_to_stderr_alone(capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.say("a [INST] stays as it is, and a line that is longer than a terminal of eighty columns is not broken")
    list(progress.track(range(2), 2, "x"))
    out, error = capfd.readouterr()
    assert out == "" and error.splitlines()[0].endswith("is not broken") and "a [INST] stays" in error


def test_the_header_shows_the_place_in_the_pipeline() -> None:
    clock, screen = Clock(), io.StringIO()
    progress = Progress(console=Console(file=screen), clock=clock)
    clock.now += 3725
    progress.bound(None).stage(3, 18, "policy/sft", seconds_left=90)
    progress.stage(4, 18, "policy/v1")
    assert screen.getvalue().splitlines() == [
        "[3/18] policy/sft - 1:02:05 elapsed, about 1:30 left",
        "[4/18] policy/v1 - 1:02:05 elapsed",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (-3, "0:00")])
def test_clock_text(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


@pytest.mark.parametrize(("speed", "text"), [(0.01234, "0.0123"), (3.14159, "3.14"), (99.99, "100"), (12345.6, "12,346")])
def test_rate_text(speed: float, text: str) -> None:
    assert rate_text(speed) == text


def test_a_record_can_be_logged_without_being_shown(tmp_path: Path) -> None:
    screen = io.StringIO()
    progress = Progress(console=Console(file=screen)).bound(tmp_path)
    for note in ("a", "b"):
        with progress.log("ppo/validation") as log:
            log(Stats(7, 0.5, note, [1.0]))
    assert (tmp_path / "ppo-validation.jsonl").read_text() == (
        '{"step": 7, "loss": 0.5, "note": "a"}\n{"step": 7, "loss": 0.5, "note": "b"}\n'
    )
    assert screen.getvalue() == ""


def test_whoever_draws_on_the_terminal_is_told_what_is_said_and_no_bar_is_drawn(tmp_path: Path) -> None:
    screen, told = io.StringIO(), []
    progress = Progress(console=Console(file=screen, force_terminal=True, width=120)).bound(tmp_path)
    with pytest.raises(KeyError), progress.drawn_by(told.append):
        progress.say("one")
        assert list(progress.track([Stats(1, 0.5, None, [])], 1, "ppo"))
        raise KeyError
    assert told == ["one"] and screen.getvalue() == "" and (tmp_path / "ppo.jsonl").read_text().count("\n") == 1
    progress.say("two")
    assert screen.getvalue() == "two\n"


def test_only_a_terminal_that_can_be_drawn_on_is_offered() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"})
    assert Progress(console=terminal).terminal is terminal
    assert Progress(quiet=True, console=terminal).terminal is None
    assert Progress(console=Console(file=io.StringIO())).terminal is None
    assert Progress(console=Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})).terminal is None
