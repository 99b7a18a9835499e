import io
import json
import multiprocessing
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import function_stage
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from registry.artifact import Artifact
from registry.drafts import unfinished
from registry.errors import CorruptArtifact, InvalidName, ReferenceNotFound, WrongKind
from registry.saved_states import SavedStates
from registry.store import Registry
from stages.engine.run import StageResult, asked_for, fingerprint, git_revision, peak_rss_mb, plain_metrics, run_stage
from stages.stage import Inputs, Stage, one
from stages.terminal.progress import Progress


class ScaleConfig(BaseModel):
    model_config = ConfigDict(frozen=True)
    factor: float = 2.0


@dataclass(frozen=True)
class ScaleStats:
    step: int
    loss: float
    note: str | None
    curve: list[float]


class Scale:
    """A stage's function that counts its calls."""

    def __init__(self, error: BaseException | None = None):
        self.calls, self.error = 0, error

    def __call__(
        self, config: ScaleConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
    ) -> dict[str, object]:
        self.calls += 1
        assert list(out.iterdir()) == []
        stats = (ScaleStats(step, 1.0 / (step + 1), None, [1.0]) for step in range(3))
        losses = [stat.loss for stat in progress.track(stats, 3, "scale")]
        text = "".join(each.file("data").read_text() for given in inputs.values() for each in given)
        (out / "data").write_text(f"{config.factor} x [{text}] seed {seed}")
        if self.error is not None:
            raise self.error
        return {"loss": losses[-1], "draw": np.float32(0.5)}


def scale_stage(run: Scale, *, name: str = "scale", kind: str = "prompts", revision: int = 1, **input_kinds: str) -> Stage:
    return function_stage(name, kind, revision, ScaleConfig, run, input_kinds)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def make(registry: Registry, run: Scale, **changes: object) -> StageResult:
    arguments = {"name": "data", "config": ScaleConfig(), "inputs": {}, "seed": 0, "progress": Progress(quiet=True)} | changes
    stage = arguments.pop("stage", scale_stage(run))
    return run_stage(registry, stage, **arguments)  # type: ignore[arg-type]


def spoken() -> tuple[Progress, io.StringIO]:
    screen = io.StringIO()
    return Progress(console=Console(file=screen, width=40)), screen


def test_a_stage_makes_one_artifact_that_knows_how(registry: Registry) -> None:
    root = make(registry, Scale(), name="root").artifact
    result = make(registry, Scale(), inputs={"source": ["prompts/root@1"]}, seed=5, config=ScaleConfig(factor=3), device="cpu")
    assert not result.up_to_date and result.seconds >= result.artifact.manifest.seconds > 0
    assert registry.resolve("prompts/data@1") == result.artifact
    assert result.artifact.file("data").read_text() == "3.0 x [2.0 x [] seed 0] seed 5"
    manifest = result.artifact.manifest
    assert (manifest.stage, manifest.stage_revision, manifest.seed, manifest.dtype) == ("scale", 1, 5, "float32")
    assert manifest.config == {"factor": 3.0} and manifest.metrics == {"loss": 1 / 3, "draw": 0.5}
    assert manifest.parents["source"][0].model_dump() == {"reference": "prompts/root@1", "digest": root.digest}
    assert manifest.versions["torch"] == torch.__version__
    assert 10 < manifest.peak_rss_mb < 100_000
    assert not list((registry.root / ".drafts").glob("*/"))


def test_the_logs_of_a_stage_lie_in_its_artifact_outside_the_digest(registry: Registry) -> None:
    made = make(registry, Scale()).artifact
    lines = (made.path / "logs" / "scale.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": step, "loss": 1 / (step + 1), "note": None} for step in range(3)]
    again = make(registry, Scale(), force=True).artifact
    assert (again.digest, again.reference.revision) == (made.digest, 2)


def test_a_second_run_is_up_to_date_and_says_so(registry: Registry) -> None:
    run = Scale()
    first = make(registry, run)
    progress, screen = spoken()
    second = make(registry, run, progress=progress)
    assert run.calls == 1 and second.up_to_date and second.artifact == first.artifact
    assert screen.getvalue() == "prompts/data@1 is up to date; --force runs scale again\n"
    make(registry, run, seed=1)
    assert make(registry, run, progress=progress).artifact == first.artifact
    assert "(the newest is @2, made with another config or inputs)" in screen.getvalue()


def test_another_name_gets_an_artifact_of_its_own(registry: Registry) -> None:
    run = Scale()
    assert make(registry, run).artifact.digest == make(registry, run, name="other").artifact.digest
    assert run.calls == 2 and str(registry.resolve("prompts/other").reference) == "prompts/other@1"


def test_whatever_may_change_the_result_runs_again(registry: Registry) -> None:
    run = Scale()
    make(registry, run, name="root")
    make(registry, run, name="root", seed=1)
    changes: list[dict[str, object]] = [
        {},
        {"config": ScaleConfig(factor=3)},
        {"seed": 1},
        {"inputs": {"source": ["prompts/root@1"]}},
        {"inputs": {"source": ["prompts/root@2"]}},
        {"inputs": {"other": ["prompts/root@2"]}},
        {"inputs": {"source": ["prompts/root@1", "prompts/root@2"]}},
        {"inputs": {"source": ["prompts/root@2", "prompts/root@1"]}},
        {"device": "cuda:0"},
        {"stage": scale_stage(run, revision=2)},
        {"stage": scale_stage(run, name="renamed")},
        {"force": True},
    ]
    revisions = [make(registry, run, **change).artifact.reference.revision for change in changes]
    assert revisions == list(range(1, len(changes) + 1))
    assert make(registry, run, device="cuda:1").up_to_date  # the same type of device
    run.calls = 0
    make(registry, run, inputs={"source": ["prompts/root"]})
    assert run.calls == 0  # the newest is @2, which was there


def test_the_fingerprint_follows_digests_not_names(registry: Registry) -> None:
    run = Scale()
    make(registry, run, name="a")
    make(registry, run, name="b")  # the same payload
    first = make(registry, run, inputs={"source": ["prompts/a"]})
    assert make(registry, run, inputs={"source": ["prompts/b"]}).artifact == first.artifact
    stage, digest = scale_stage(run), registry.resolve("prompts/a").digest
    asked = fingerprint(asked_for(stage, ScaleConfig(), {"source": [digest]}, 0, "float32", "cpu"))
    assert first.artifact.manifest.fingerprint == asked and len(asked) == 64


@pytest.mark.parametrize("error", [ValueError("diverged"), KeyboardInterrupt()])
def test_a_stage_that_fails_leaves_nothing(registry: Registry, error: BaseException) -> None:
    with pytest.raises(type(error)):
        make(registry, Scale(error))
    assert registry.references() == () and not (registry.root / "prompts").exists()
    assert {path.suffix for path in (registry.root / ".drafts").iterdir()} == {".lock"}
    assert not make(registry, Scale()).up_to_date


def test_metrics_that_are_no_json_leave_nothing(registry: Registry) -> None:
    with pytest.raises(TypeError, match=r"a metric is .*, a set"):
        plain_metrics({"loss": {1, 2}})
    assert plain_metrics({"a": torch.tensor(2.0), "b": [np.int64(3)], "c": None}) == {"a": 2.0, "b": [3], "c": None}


def test_what_a_reference_without_revision_meant_is_told_and_recorded(registry: Registry) -> None:
    make(registry, Scale(), name="root")
    registry.set_alias("prompts/best", "prompts/root")
    progress, screen = spoken()
    inputs = {"source": ["prompts/root", "prompts/best", "prompts/root@1"]}
    made = make(registry, Scale(), inputs=inputs, progress=progress).artifact
    assert (
        "source: prompts/root is prompts/root@1 (newest)\nsource: prompts/best is prompts/root@1 (alias)\n" in screen.getvalue()
    )
    assert screen.getvalue().count("source:") == 2
    assert [parent.reference for parent in made.manifest.parents["source"]] == ["prompts/root@1"] * 3


def test_wrong_inputs_stop_before_the_stage_runs(registry: Registry) -> None:
    run = Scale()
    make(registry, run, name="root")
    run.calls = 0
    with pytest.raises(ReferenceNotFound, match="Did you mean prompts/root"):
        make(registry, run, inputs={"source": ["prompts/rot"]})
    with pytest.raises(WrongKind, match="is of kind prompts, and one of kind policy is needed"):
        make(registry, run, inputs={"base": ["prompts/root"]}, stage=scale_stage(run, base="policy"))
    with pytest.raises(InvalidName):
        make(registry, run, name="../escape")
    assert run.calls == 0


def test_every_generator_is_seeded(registry: Registry) -> None:
    def draw(
        config: ScaleConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
    ) -> dict[str, float]:
        (out / "data").write_text("x")
        return {"python": random.random(), "numpy": float(np.random.rand()), "torch": float(torch.rand(()))}

    stage = function_stage("draw", "prompts", 1, ScaleConfig, draw)
    drawn = [make(registry, Scale(), stage=stage, seed=seed, force=True).artifact.manifest.metrics for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1]
    assert all(drawn[0][source] != drawn[2][source] for source in ("python", "numpy", "torch"))


def test_one_is_exactly_one(registry: Registry) -> None:
    artifact: Artifact = make(registry, Scale()).artifact
    assert one({"base": [artifact]}, "base") == artifact
    with pytest.raises(AssertionError, match="the role 'base' needs one artifact"):
        one({"base": [artifact, artifact]}, "base")
    with pytest.raises(AssertionError, match="the role 'base' needs one artifact"):
        one({}, "base")


def test_the_git_revision_is_the_commit_of_the_checkout() -> None:
    root = Path(__file__).resolve().parents[2]
    known = (root / ".git").exists() and shutil.which("git")
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip() if known else ""
    assert (git_revision() or "").removesuffix("-dirty") == commit


class Saving:
    """A stage's function that counts to three, one saved state a step, and stops once after ``stop`` steps."""

    def __init__(self, stop: int, error: BaseException):
        self.stop, self.error, self.steps = stop, error, 0

    def __call__(
        self, config: ScaleConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
    ) -> dict[str, object]:
        done = states.numbers()[-1] if states.numbers() else 0
        for step in range(done + 1, 4):
            self.steps += 1
            states.save(step, lambda folder: (folder / "count").write_text("x") and None)
            if step == self.stop:
                self.stop = 0
                raise self.error
        (out / "data").write_text("three")
        return {}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
def test_a_stopped_stage_goes_on_from_what_it_saved(registry: Registry, error: BaseException) -> None:
    run, (progress, screen) = Saving(2, error), spoken()
    with pytest.raises(type(error)):
        make(registry, run)
    assert registry.references() == () and run.steps == 2
    made = make(registry, run, progress=progress)
    assert run.steps == 3 and made.artifact.digest == make(registry, Saving(0, error), name="other").artifact.digest
    assert screen.getvalue() == ("prompts/data resumes from what an earlier run saved (state 2)\nmade prompts/data@1\n")
    assert unfinished(registry.root) == ()


def test_force_does_not_go_on_but_begins_again(registry: Registry) -> None:
    run = Saving(2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        make(registry, run)
    make(registry, run, force=True)
    assert run.steps == 2 + 3


def test_an_interrupted_run_with_other_settings_is_not_mixed_in_and_that_is_said(registry: Registry) -> None:
    run, (progress, screen) = Saving(2, KeyboardInterrupt()), spoken()
    with pytest.raises(KeyboardInterrupt):
        make(registry, run)
    make(registry, run, config=ScaleConfig(factor=3), progress=progress)
    assert run.steps == 2 + 3
    assert "unfinished prompts/data is left alone, because it differs in config.factor (2.0 -> 3.0)" in screen.getvalue()
    assert len(unfinished(registry.root)) == 1


def test_a_rerun_says_what_changed(registry: Registry) -> None:
    run, (progress, screen) = Scale(), spoken()
    make(registry, run, name="source")
    make(registry, run, inputs={"source": ["prompts/source@1"]})
    make(registry, run, name="source", seed=3)
    make(registry, run, inputs={"source": ["prompts/source@2"]}, config=ScaleConfig(factor=5), progress=progress)
    said = "prompts/data is made again, because it differs from @1 in config.factor (2.0 -> 5.0), inputs.source"
    assert said in screen.getvalue()


def test_a_damaged_input_is_refused_by_name(registry: Registry) -> None:
    run = Scale()
    made = make(registry, run, name="source").artifact
    (made.path / "data").write_text("2.0 x [] seed 1")
    with pytest.raises(CorruptArtifact, match="prompts/source@1 is not what was committed: data: sha256 was"):
        make(registry, run, inputs={"source": ["prompts/source"]})


def _make_in_process(root: str, screen: Path) -> None:
    with screen.open("w") as file:
        progress = Progress(console=Console(file=file, width=200))
        make(Registry(root), Slow(), progress=progress)


class Slow(Scale):
    def __call__(self, *arguments: Any) -> dict[str, object]:
        time.sleep(0.5)
        return super().__call__(*arguments)


def test_two_processes_that_want_one_artifact_make_it_once(registry: Registry, tmp_path: Path) -> None:
    screens = [tmp_path / "one", tmp_path / "other"]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_make_in_process, args=(str(registry.root), screen)) for screen in screens]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [str(reference) for reference in registry.references()] == ["prompts/data@1"]
    said = sorted((screen.read_text() for screen in screens), key=len)
    assert said[0].endswith("made prompts/data@1\n") and "another process" not in said[0]
    assert "prompts/data is being made by another process" in said[1] and "prompts/data@1 is up to date" in said[1]
    assert "scale: 3/3" not in said[1]


def test_peak_memory_is_that_of_the_process_and_not_of_the_one_that_started_it() -> None:
    held = bytearray(400_000_000)
    held[::4096] = b"x" * len(held[::4096])
    here = peak_rss_mb()
    there = subprocess.run(
        [sys.executable, "-c", "from stages.engine.run import peak_rss_mb; print(peak_rss_mb())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert here > 400 > float(there.stdout) > 5
    assert len(held) == 400_000_000


def test_a_manifest_says_in_which_number_format_its_stage_trained(registry: Registry) -> None:
    stage = replace(scale_stage(Scale()), finetunes=True)
    formats = [make(registry, Scale(), stage=stage, device=device).artifact.manifest.dtype for device in ("cpu", "cuda")]
    assert formats == ["float32", "bfloat16 autocast"]
    assert make(registry, Scale(), name="other", device="cuda").artifact.manifest.dtype == "float32", "it fine-tunes nothing"
