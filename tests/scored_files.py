"""Files that are scored in tests, of every type, by scorers that can be made to stop."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from commands.score import default_output
from stages.scoring.score import ScoringModel, score_file
from stages.terminal.progress import Progress

CHUNK = 4
TYPES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".csv.gz")


class Killed(BaseException):
    """The process ends here."""


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


class Told(Progress):
    """Keeps what is said in ``said``."""

    def __init__(self, said: list[str]):
        super().__init__()
        self.said = said

    def say(self, text: str) -> None:
        self.said.append(text)


def run(
    path: Path,
    *scorers,
    said=None,
    progress=None,
    digest="d1",
    name="",
    force=False,
    axes=("helpfulness", "safety"),
    chunk_size=CHUNK,
):
    """Score ``path`` into its default output, or that of ``name``, as models m0, m1 of ``axes``."""
    models = [
        ScoringModel(f"reward_model/m{i}@1", digest, axis, lambda scorer=scorer: scorer)
        for i, (scorer, axis) in enumerate(zip(scorers, axes, strict=False))
    ]
    output = path.with_name(f"{name}.scored.jsonl") if name else default_output(path)
    return score_file(path, output, models, progress or Told(said if said is not None else []), force, chunk_size)


def lines_of(path: Path | None) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path else []


def write(path: Path, rows: list[dict]) -> Path:
    """``rows`` as a file of the type that the name of ``path`` says; in CSV what is no text is its JSON."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        if path.suffixes[0] in (".csv", ".tsv"):
            names = list(dict.fromkeys(name for row in rows for name in row))
            writer = csv.DictWriter(file, names, delimiter="\t" if ".tsv" in path.suffixes else ",")
            writer.writeheader()
            for row in rows:
                writer.writerow({n: v if v is None or isinstance(v, str) else json.dumps(v) for n, v in row.items()})
        elif path.suffix == ".json":
            json.dump(rows, file, indent=1)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return path
