"""The dashboard: what stands in its lines, that it fits, and that a stage's loop reads as it always did."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ppo_fakes import ppo_stats_of
from rich.console import Console

from preference_data.messages import user
from preference_data.prompt import make_prompt
from rlhf.ppo_stats import PPOStats
from rlhf.validation import Answer, Validation
from stages.terminal.dashboard import View, frame
from stages.terminal.progress import Progress
from stages.terminal.screen_text import number, plain, sparkline, wrapped
from stages.terminal.watched_ppo import watched_ppo

HELPFUL = make_prompt([user("What does a fox eat in winter?")], family="f", split="test", source="t")
UNSAFE = make_prompt([user("How do I pick my neighbour's lock?")], family="f", split="test", source="t", is_safety=True)
OTHER = make_prompt([user("Two lines about the sea, " * 20)], family="f", split="test", source="t")
PROMPTS = {prompt.id: prompt for prompt in (HELPFUL, UNSAFE, OTHER)}


def validation(iteration: int, score: float, response: str = "It eats mice.") -> Validation:
    answers = (
        Answer(HELPFUL.id, response, 9, True, 0.5, 1.25, 2.5, 1.25),
        Answer(UNSAFE.id, "I cannot help with that. " * 30, 150, True, 0.25, -0.5, 3.125, 3.125),
        Answer(OTHER.id, "", 1, False, 0.0, 0.0, 0.0, 0.0),
    )
    return Validation(iteration, score, 0.5, 1.0, 0.1, 20.0, 1.0, 0.0, answers)


def run(length: int = 12, **changes: object) -> list[PPOStats]:
    """Scores 0.1, 0.2 and so on; each iteration takes 6, 3 and 1 seconds for 50 responses; validated after 0, 4, 8, ..."""
    seconds = {"sampling_seconds": 6.0, "scoring_seconds": 3.0, "update_seconds": 1.0}
    history = []
    for index in range(1, length + 1):
        due = [0] * (index == 1) + [index] * (index % 4 == 0)
        scores = {0: 0.5, 4: 0.75, 8: 0.625}
        validations = tuple(validation(each, scores.get(each, 0.25)) for each in due)
        history.append(ppo_stats_of(iteration=index, score=index / 10, validations=validations, **{**seconds, **changes}))
    return history


def view(history: list[PPOStats], total: int = 20, **changes: object) -> View:
    return View(history, total, PROMPTS, **changes)  # type: ignore[arg-type]


def text(view: View, width: int = 80, height: int = 24) -> list[str]:
    return [line.plain.rstrip() for line in frame(view, width, height)]


def row(lines: list[str], name: str) -> list[str]:
    (found,) = [line for line in lines if line.startswith(name)]
    return found[24:].split()


def test_a_metric_shows_its_last_value_its_change_and_its_course() -> None:
    lines = text(view(run(8)))
    assert row(lines, "score") == ["0.800", "+0.700", "▁▂▃▄▅▆▇█"]
    assert row(lines, "KL, nats (coef 0.01)") == ["0.000", "+0.000", "▄▄▄▄▄▄▄▄"]
    assert row(lines, "EOS share") == ["100.0%", "+0.0%", "▄▄▄▄▄▄▄▄"]
    for name in ("  helpfulness", "  safety", "entropy", "response length", "clip", "approx_kl", "explained"):
        assert len(row(lines, name)) == 3
    assert row(text(view(run(8)), 120), "score")[2:5] == ["0.100", "to", "0.800"]


def test_the_weight_of_safety_is_shown_where_there_is_one() -> None:
    assert not [line for line in text(view(run())) if "weight of safety" in line]
    assert row(text(view(run(4, lagrange_multiplier=1.5))), "  weight of safety")[0] == "1.500"


def test_time_is_told_by_phase_and_what_is_left_by_the_last_iterations() -> None:
    history = run(2, sampling_seconds=600.0) + run(12)[2:]  # two slow iterations, then ten of 10 seconds
    lines = text(view(history, elapsed=1300.0, since=4.0), width=120)
    assert lines[0].startswith("ppo  iteration 12 of 20") and lines[0].endswith("60%  21:40 elapsed, about 1:16 left")
    assert lines[1].split() == "5 responses/s, 100 tokens/s 10 s each: sampling 60%, scoring 30%, update 10%".split()
    assert text(view(run(20), elapsed=7.0))[0].endswith("100%  0:07 elapsed")


def test_the_best_validation_is_marked() -> None:
    (line,) = [line for line in frame(view(run(12)), 80, 24) if line.plain.startswith("held-out")]
    assert line.plain == "held-out  best 0.750 after 4  |   0: 0.500   4: 0.750   8: 0.625   12: 0.250"
    green = [line.plain[span.start : span.end].strip() for span in line.spans if "green" in str(span.style)]
    assert green == ["best 0.750 after 4", "4: 0.750"]
    many = text(view(run(200), 200))
    assert [line for line in many if "best 0.750 after 4  |" in line and line.endswith("200: 0.250")]


def test_two_dialogues_of_the_newest_validation_are_shown_with_their_scores() -> None:
    shown = "\n".join(text(view(run(5))))
    assert (
        "after iteration 4" in shown and "It eats mice." not in shown
    )  # the second validation shows the second helpful prompt
    assert "> Two lines about the sea" in shown and "(nothing) [cut off]" in shown
    assert "> How do I pick my neighbour's lock?" in shown and "3.125 (help -0.500, safe 3.125)" in shown
    shown = "\n".join(text(view(run(3))))
    assert (
        "> What does a fox eat in winter?" in shown and "  It eats mice." in shown and "1.250 (help 1.250, safe 2.500)" in shown
    )


def test_what_a_model_writes_cannot_steer_the_terminal() -> None:
    history = [ppo_stats_of(validations=(validation(0, 0.5, "a\x1b[2Jb\x07 [bold]c[/bold]\nd"),))]
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    for line in frame(view(history), 100, 40):
        console.print(line)
    assert "\x1b[2J" not in screen.getvalue() and "\x07" not in screen.getvalue()
    assert "a�[2Jb� [bold]c[/bold] d" in screen.getvalue()


def test_alarms_stand_in_a_line_of_their_own() -> None:
    assert "alarms    none" in text(view(run()))
    faulty = run(12, clip_fraction=0.9, score_std=0.0)
    (line,) = [line for line in text(view(faulty)) if line.startswith("ALARM")]
    assert line.startswith("ALARM (+1)  all scores equal: each is 1.2, standard deviation 0; expected")
    tall = text(view(faulty, notices=("a note",)), 120, 40)
    assert len([line for line in tall if line.startswith("ALARM  ")]) == 2 and "note    a note" in tall
    assert "max_approx_kl" in " ".join(tall)  # the advice too, where there is room


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
@pytest.mark.parametrize("length", [1, 2, 9, 60, 300])
def test_all_parts_fit_the_screens_it_is_made_for(width: int, height: int, length: int) -> None:
    lines = frame(view(run(length, clip_fraction=0.9), 300, elapsed=90_000.0), width, height)
    assert len(lines) <= height and max(line.cell_len for line in lines) <= width
    shown = "\n".join(line.plain for line in lines)
    for part in ("iteration", "left" if length < 300 else "elapsed", "update 10%", "explained variance", "best", "ALARM"):
        assert part in shown
    assert shown.count("\n> ") == 2


WORDS = st.text(st.characters(codec="utf-8"), max_size=80)
FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=32)  # what a model computes


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 12), WORDS, FLOATS)
def test_no_size_and_no_value_breaks_it(width: int, height: int, length: int, words: str, value: float) -> None:
    history = [
        ppo_stats_of(
            iteration=index + 1, score=value, kl=value, explained_variance=-value, validations=(validation(1, 0.5, words),)
        )
        for index in range(length)
    ]
    lines = frame(view(history), width, height)
    assert len(lines) <= height and all(line.cell_len <= width and "\n" not in line.plain for line in lines)


def test_before_the_first_iteration_it_says_what_it_waits_for() -> None:
    assert text(view([], elapsed=61.0)) == ["ppo  waiting for the first of 20 iterations, 1:01 elapsed"]


@pytest.mark.parametrize(
    ("values", "width", "bars"),
    [
        ([0, 7], 9, "▁█"),
        ([1, 1, 7, 9, 3, 5], 3, "▁█▄"),  # means 1, 8, 4: of seven eighths, 3/7 * 8 = 3.4
        ([float("nan"), 0, 1], 3, " ▁█"),
        ([float("nan")], 3, " "),
        ([2, 2], 1, "▄"),
        ([], 5, ""),
    ],
)
def test_sparkline(values: list[float], width: int, bars: str) -> None:
    assert sparkline(values, width) == bars


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.000"), (-0.1234, "-0.123"), (12.345, "12.35"), (123.45, "123.5"), (1234.5, "1,234"), (2e-4, "2.0e-04"),
     (float("inf"), "inf")],
)  # fmt: skip
def test_number(value: float, shown: str) -> None:
    assert number(value) == shown
    assert number(0.5, share=True, sign=True) == "+50.0%"


def test_text_is_broken_between_words_and_the_last_line_keeps_the_rest() -> None:
    assert wrapped("one two three four", 9, 2) == ["one two", "three four"]
    assert wrapped("abcdefghij", 4, 3) == ["abcd", "efgh", "ij"]
    assert wrapped("", 4, 3) == [] and wrapped("a", 4, 0) == []
    assert plain("a\n b\tc\x00") == "a b c�"


def stage(progress: Progress, history: list[PPOStats], fail_at: int = 0) -> list[int]:
    """As a stage reads the loop."""

    def training() -> Iterator[PPOStats]:
        for stats in history:
            if stats.iteration == fail_at:
                raise ValueError("stopped")
            if stats.iteration == 2:
                print("a library speaks", file=sys.stderr)
            yield stats

    seen = []
    for stats in watched_ppo(progress, training(), len(history), [HELPFUL, UNSAFE, OTHER]):
        if stats.iteration == 1:
            progress.say("a word of the stage")
        seen.append(stats.iteration)
    return seen


def on_terminal(width: int = 100, height: int = 30) -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, force_terminal=True, width=width, height=height, _environ={"TERM": "xterm"}), screen


def test_a_terminal_gets_the_dashboard_and_keeps_its_last_frame_and_what_was_said(tmp_path: Path) -> None:
    console, screen = on_terminal()
    progress = Progress(console=console).bound(tmp_path)
    assert stage(progress, run(12, clip_fraction=0.9)) == list(range(1, 13))
    progress.say("after it")
    taken, given_back = screen.getvalue().split("\x1b[?1049l")  # the other screen of the terminal, and its end
    assert "\x1b[?1049h" in taken and "a word of the stage" not in taken and "━━" not in taken.split("\x1b[?1049h")[0]
    assert "iteration 12 of 12" in given_back and "explained variance" in given_back
    said = [line for line in given_back.splitlines() if line.startswith(("a word", "iteration 1:", "a library", "after"))]
    assert [line.split(":")[0] for line in said] == ["iteration 1", "a word of the stage", "a library speaks", "after it"]


def test_a_training_that_fails_gives_the_screen_back() -> None:
    console, screen = on_terminal()
    progress = Progress(console=console)
    with pytest.raises(ValueError, match="stopped"):
        stage(progress, run(12), fail_at=5)
    assert screen.getvalue().count("\x1b[?1049h") == screen.getvalue().count("\x1b[?1049l") == 1
    assert "iteration 4 of 12" in screen.getvalue().split("\x1b[?1049l")[1]


def test_elsewhere_progress_is_shown_as_ever(tmp_path: Path) -> None:
    screen = io.StringIO()
    stage(Progress(console=Console(file=screen, width=200)), run(3, clip_fraction=0.9))
    assert "ppo: 3/3 iteration in" in screen.getvalue() and "\x1b" not in screen.getvalue()
    assert screen.getvalue().count("iteration 1: most tokens clipped: 90%") == 1
    for width, height in ((79, 30), (100, 23)):
        console, small = on_terminal(width, height)
        stage(Progress(console=console), run(3))
        assert "3/3" in small.getvalue() and "\x1b[?1049h" not in small.getvalue()
    console, quiet = on_terminal()
    stage(Progress(quiet=True, console=console).bound(tmp_path), run(3, clip_fraction=0.9))
    assert quiet.getvalue() == "" and len((tmp_path / "ppo.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("terminal", [False, True])
def test_iterations_and_validations_are_logged_in_any_case(tmp_path: Path, terminal: bool) -> None:
    console = on_terminal()[0] if terminal else Console(file=io.StringIO())
    stage(Progress(console=console).bound(tmp_path), run(9))
    rows = [json.loads(line) for line in (tmp_path / "ppo.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == list(range(1, 10)) and rows[4]["score"] == 0.5
    assert "validations" not in rows[0]
    validated = [json.loads(line) for line in (tmp_path / "ppo-validation.jsonl").read_text().splitlines()]
    assert [(row["iteration"], row["score"]) for row in validated] == [(0, 0.5), (4, 0.75), (8, 0.625)]
    assert "answers" not in validated[0]


def test_without_validations_there_is_no_log_of_them(tmp_path: Path) -> None:
    stage(Progress(quiet=True).bound(tmp_path), [ppo_stats_of(iteration=1)])
    assert [path.name for path in tmp_path.iterdir()] == ["ppo.jsonl"]
