"""Files that are scored in tests, of every type, by scorers that can be made to stop."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fakes import FunctionStage
from registry_folders import put
from row_files import write as write
from stopped_runs import Killed, Told

from registry.artifact import Artifact
from registry.store import Registry
from stages.catalog import STAGES
from stages.engine.run import run_stage
from stages.external_files import sha256_of
from stages.scoring.score import score_file
from stages.sections import ScoreConfig
from stages.terminal.progress import Progress

CHUNK = 4
TYPES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".csv.gz")


class ChunkScorer:
    """Scores that tell which dialogues were scored together: length of the response, and place among them.

    ``stop``: the call at which it is killed, from 1.
    """

    def __init__(self, stop: int | None = None, error: BaseException | None = None):
        self.stop, self.error, self.calls = stop, error or Killed(), 0

    def score(self, dialogues):
        self.calls += 1
        if self.calls == self.stop:
            raise self.error
        return torch.tensor([len(dialogue[-1]["content"]) + i / len(dialogues) for i, dialogue in enumerate(dialogues)])


class TableScorer:
    """Scores by the text of the response; ``scored`` holds those that were asked for."""

    def __init__(self, scores: dict[str, float]):
        self.scores, self.scored = scores, []

    def score(self, dialogues):
        self.scored += [dialogue[-1]["content"] for dialogue in dialogues]
        return torch.tensor([self.scores[dialogue[-1]["content"]] for dialogue in dialogues])


@dataclass(frozen=True)
class Done:
    """What a scoring made: the artifact, its two files (``rejects`` may not exist), and what the metrics say."""

    artifact: Artifact
    up_to_date: bool

    @property
    def scored(self) -> Path:
        return self.artifact.path / "scored.jsonl"

    @property
    def rejects(self) -> Path:
        return self.artifact.path / "logs" / "rejects.jsonl"

    @property
    def metrics(self) -> dict[str, Any]:
        return self.artifact.manifest.metrics

    @property
    def accuracy(self) -> dict[str, dict[str, Any]]:
        return self.metrics["accuracy"]

    @property
    def counts(self) -> tuple[int, int, int]:
        return tuple(self.metrics[name] for name in ("read", "scored", "rejected"))

    @property
    def results(self) -> tuple[bytes, bytes]:
        return self.scored.read_bytes(), self.rejects.read_bytes() if self.rejects.exists() else b""


def run(
    path: Path,
    *scorers,
    said: list[str] | None = None,
    progress: Progress | None = None,
    weights: str = "weights",
    axes: tuple[str, ...] = ("helpfulness", "safety"),
    folder: str = "registry",
    force: bool = False,
    **settings,
) -> Done:
    """Score ``path`` by a run of the stage, in which ``scorers`` are the models m0, m1 ... of ``axes``.

    ``weights`` are what the models' artifacts hold; ``folder`` is that of the registry, beside ``path``; ``settings`` are those
    of the ScoreConfig.
    """
    registry = Registry(path.parent / folder)
    models = [_model(registry, f"m{number}", weights) for number in range(len(scorers))]
    config = ScoreConfig(
        file=str(path),
        sha256=sha256_of(path),
        models=tuple((str(model.reference), axis) for model, axis in zip(models, axes, strict=False)),
        **{"rows_per_chunk": CHUNK, **settings},
    )
    by_name = dict(zip((name for name, _ in config.models), scorers, strict=True))

    def fake(config, inputs, out, progress, seed, states):
        return score_file(config, lambda: by_name, out, progress, states)

    stage = FunctionStage(**{**vars(STAGES["score"]), "run": fake})
    result = run_stage(
        registry, stage, name="scored", config=config, inputs={"models": [str(model.reference) for model in models]}, seed=0,
        progress=progress or Told(said if said is not None else []), force=force,
    )  # fmt: skip
    return Done(result.artifact, result.up_to_date)


def _model(registry: Registry, name: str, weights: str) -> Artifact:
    """A reward model's artifact that holds ``weights``, a new revision where the newest holds others."""
    fingerprint = hashlib.sha256(f"{name} {weights}".encode()).hexdigest()
    present = registry.find_fingerprint(fingerprint, "reward_model", name)
    return present or put(registry, f"reward_model/{name}", {"weights": weights}, fingerprint)


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
