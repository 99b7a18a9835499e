"""What trackers are told: every number once, under one run however often it is gone on with, and nothing that is secret."""

import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from fakes import function_stage
from pydantic import BaseModel
from rich.console import Console

from registry.store import Registry
from stages.engine.run import run_stage
from stages.terminal.progress import Progress
from stages.terminal.trackers import PROJECT, TrackerMissing, Tracking, tracking


@dataclass(frozen=True)
class Stats:
    iteration: int
    loss: float
    recomputed: bool = True
    note: str = "words"
    unknown: None = None


@dataclass(frozen=True)
class Batch:
    num_prompts: int


class FakeTracker(GeneralTracker):
    """In the place of one of accelerate's: writes down what it is told, and speaks on stdout as some do."""

    requires_logging_directory = False
    main_process_only = False
    name = "fake"
    told: ClassVar[list[tuple[str, dict[str, Any], int | None]]] = []
    made: ClassVar[list[dict[str, Any]]] = []
    finished: ClassVar[list[str]] = []
    failing: ClassVar[str] = ""

    def __init__(self, run_name: str, **given: Any):
        super().__init__()
        self.given = {"run_name": run_name, **given}
        self.run = given.get("name", run_name)

    @property
    def tracker(self) -> None:
        return None

    def start(self) -> None:
        print("a tracker speaks")
        self.made.append(self.given)

    def log(self, values: dict, step: int | None = None, **kwargs: Any) -> None:
        if self.failing:
            raise RuntimeError(self.failing)
        self.told.append((self.run, values, step))

    def finish(self) -> None:
        self.finished.append(self.run)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeTracker]:
    for record in (FakeTracker.told, FakeTracker.made, FakeTracker.finished):
        record.clear()
    FakeTracker.failing = ""
    for name in ("tensorboard", "trackio", "wandb"):
        monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, name, FakeTracker)
    return FakeTracker


def progress(folder: Path, *trackers: str) -> Progress:
    return Progress(quiet=True, tracking=Tracking(trackers or ("trackio",), folder / "tracking", "v5-ppo"))


def losses(count: int) -> list[Stats]:
    return [Stats(index, index / 2) for index in range(1, count + 1)]


def training(count: int, states: Path, saved_at: int) -> Iterator[Stats]:
    """As a loop that saves its state from ``saved_at`` on: the folder of the states is there before that record is out."""
    for stats in losses(count):
        if stats.iteration >= saved_at:
            states.mkdir(exist_ok=True)
        yield stats


def steps(told: Sequence[tuple[str, dict[str, Any], int | None]], run: str | None = None) -> list[int | None]:
    return [step for of, _, step in told if run in (None, of)]


def test_every_number_is_told_under_its_label_at_the_steps_of_the_records(fake: type[FakeTracker], tmp_path: Path) -> None:
    tracked = progress(tmp_path).bound(tmp_path / "logs")
    list(tracked.track(losses(2), 2, "ppo"))
    list(tracked.track([Batch(8), Batch(4)], 2, "sampling"))
    assert [(values, step) for _, values, step in fake.told] == [
        ({"ppo/iteration": 1.0, "ppo/loss": 0.5, "ppo/recomputed": 1.0}, 1),
        ({"ppo/iteration": 2.0, "ppo/loss": 1.0, "ppo/recomputed": 1.0}, 2),
        ({"sampling/num_prompts": 8.0}, 1),
        ({"sampling/num_prompts": 4.0}, 2),
    ]
    assert len({run for run, _, _ in fake.told}) == 1
    assert [len(path.read_text().splitlines()) for path in sorted((tmp_path / "logs").iterdir())] == [2, 2]


def test_a_run_that_goes_on_is_the_same_run_and_tells_no_step_twice(fake: type[FakeTracker], tmp_path: Path) -> None:
    """The second try yields the records of the first again: those that were saved as they are, the others made anew."""
    states = tmp_path / "states"
    first = progress(tmp_path).bound(tmp_path / "1").remembering(states)
    killed = first.track(training(7, states, saved_at=3), 10, "ppo")
    for _ in range(5):
        next(killed)
    second = progress(tmp_path).bound(tmp_path / "2").remembering(states)
    assert len(list(second.track(training(10, states, saved_at=1), 10, "ppo"))) == 10
    assert steps(fake.told) == list(range(1, 11)) and len({run for run, _, _ in fake.told}) == 1
    assert [json.loads(line)["iteration"] for line in (tmp_path / "2" / "ppo.jsonl").open()] == list(range(1, 11))


def test_a_run_that_begins_anew_is_another_run(fake: type[FakeTracker], tmp_path: Path) -> None:
    """Stopped before anything was saved, it starts from nothing: so does its curve."""
    for _ in range(2):
        list(progress(tmp_path).remembering(tmp_path / "states").track(losses(3), 3, "ppo"))
    first, second = dict.fromkeys(run for run, _, _ in fake.told)
    assert first.startswith("v5-ppo-") and steps(fake.told, first) == steps(fake.told, second) == [1, 2, 3]
    assert not (tmp_path / "states").exists()  # that folder is made by what saves, and says that there is something


def test_a_torn_memory_begins_another_run(fake: type[FakeTracker], tmp_path: Path) -> None:
    (tmp_path / "tracked.json").write_text('{"run": "v5-')
    list(progress(tmp_path).remembering(tmp_path).track(losses(2), 2, "ppo"))
    assert steps(fake.told) == [1, 2] and json.loads((tmp_path / "tracked.json").read_text())["reached"] == {"ppo": 2}


def test_labels_are_told_apart_when_going_on(fake: type[FakeTracker], tmp_path: Path) -> None:
    for length in (4, 6):
        tracked = progress(tmp_path).remembering(tmp_path)
        for stats in tracked.track(losses(length), length, "ppo"):
            if stats.iteration in (2, 5):
                with tracked.log("ppo-validation") as log:
                    log(stats)
    assert [(next(iter(values)).split("/")[0], step) for _, values, step in fake.told] == [
        ("ppo", 1), ("ppo", 2), ("ppo-validation", 2), ("ppo", 3), ("ppo", 4), ("ppo", 5), ("ppo-validation", 5), ("ppo", 6),
    ]  # fmt: skip


def test_trackers_are_closed_with_the_loop_and_opened_again_on_the_same_run(fake: type[FakeTracker], tmp_path: Path) -> None:
    tracked = progress(tmp_path, "trackio", "wandb")
    with pytest.raises(KeyError), tracked.meter(2, "ppo") as advance:
        advance(Stats(1, 0.5), 1)
        assert fake.finished == []
        raise KeyError
    assert len(fake.finished) == 2
    list(tracked.track(losses(2), 2, "again"))
    assert len(fake.finished) == len(fake.made) == 4
    assert len({*fake.finished, *(given["name"] for given in fake.made)}) == 1


def test_what_each_of_accelerates_trackers_is_given(fake: type[FakeTracker], tmp_path: Path) -> None:
    list(progress(tmp_path, "tensorboard", "trackio", "wandb").track(losses(1), 1, "ppo"))
    board, trackio, wandb = fake.made
    run, folder = trackio["name"], str(tmp_path / "tracking")
    assert board == {"run_name": run, "logging_dir": folder}
    assert trackio == {"run_name": PROJECT, "name": run, "resume": "allow"}
    assert wandb.pop("settings") == {"console": "off"}
    assert wandb == {"run_name": PROJECT, "name": run, "id": run, "resume": "allow", "dir": folder}


def test_a_tracker_that_fails_stops_no_training_and_tells_no_secret(
    fake: type[FakeTracker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    fake.failing = "no route with s3cret\nand more"
    tracked = Progress(tracking=Tracking(("wandb",), tmp_path, "v5"), console=Console(stderr=True, width=200)).bound(tmp_path)
    assert len(list(tracked.track(losses(3), 3, "ppo"))) == 3
    out, error = capfd.readouterr()
    assert out == ""  # the tracker speaks, but stdout belongs to results
    assert error.count("wandb failed") == 1 and "RuntimeError: no route with ***)" in error and "s3cret" not in error
    assert "s3cret" not in (tmp_path / "ppo.jsonl").read_text() and (tmp_path / "ppo.jsonl").read_text().count("\n") == 3


class Config(BaseModel):
    steps: int = 3


def test_tracking_is_no_part_of_the_artifact(fake: type[FakeTracker], tmp_path: Path) -> None:
    def run(config: Config, inputs: Any, out: Path, progress: Progress, seed: int, states: Any) -> dict[str, Any]:
        (out / "losses.txt").write_text(str([stats.loss for stats in progress.track(losses(config.steps), 3, "ppo")]))
        return {}

    made = []
    for name, shown in (("plain", Progress(quiet=True)), ("tracked", progress(tmp_path))):
        stage = function_stage("toy", "policy", 1, Config, run)
        registry = Registry(tmp_path / name)
        made.append(run_stage(registry, stage, name="a", config=Config(), inputs={}, seed=0, progress=shown).artifact)
    assert steps(fake.told) == [1, 2, 3]
    plain, tracked = (each.manifest.model_dump() for each in made)
    assert plain["fingerprint"] == tracked["fingerprint"] and plain["digest"] == tracked["digest"]
    assert [entry["path"] for entry in plain["files"]] == [entry["path"] for entry in tracked["files"]]
    assert "track" not in json.dumps(tracked, default=str)


def test_what_cannot_be_tracked_with_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking(None, tmp_path, "v5") is None and tracking([], tmp_path, "v5") is None
    with pytest.raises(ValueError, match="--track is 'mlflow'; it is one of tensorboard, trackio, wandb"):
        tracking(["mlflow"], tmp_path, "v5")
    for name in ("tensorboard", "trackio", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(TrackerMissing, match=rf"{name} was asked for.*not installed.*pip install 'llama-rlhf\[{name}\]'"):
            tracking([name], tmp_path, "v5")


def test_wandb_needs_a_key_in_the_environment_or_to_be_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "packages" / "wandb"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder.parent)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrackerMissing, match="no WANDB_API_KEY; set it, or set WANDB_MODE=offline"):
        tracking(["wandb"], tmp_path, "v5")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tracking(["wandb", "wandb"], tmp_path, "v5") == Tracking(("wandb",), tmp_path, "v5")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    found = tracking(["wandb"], tmp_path, "v5")
    assert found is not None and "k" * 40 not in repr(found)


def test_tensorboard_reads_back_what_was_logged_over_two_tries(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    asked, states = tracking(["tensorboard"], tmp_path / "tracking", "v5-ppo"), tmp_path / "states"
    before = torch.get_rng_state(), random.getstate()
    for length in (4, 7):
        tracked = Progress(quiet=True, tracking=asked).bound(tmp_path / str(length)).remembering(states)
        list(tracked.track(training(length, states, saved_at=2), 7, "ppo"))
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    (folder,) = (tmp_path / "tracking").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    assert events.Tags()["scalars"] == ["ppo/iteration", "ppo/loss", "ppo/recomputed"]
    assert [(each.step, each.value) for each in events.Scalars("ppo/loss")] == [(index, index / 2) for index in range(1, 8)]
