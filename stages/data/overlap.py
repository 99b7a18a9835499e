"""Evaluation prompts that an artifact of preferences or prompts holds already: found, told, and left out.

``overlaps.jsonl`` in the logs of what is made lists each row that was left out, with the prompt that it holds.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from preference_data.comparison import Comparison
from preference_data.messages import Messages
from preference_data.overlap import EvaluationPrompts, Overlap
from preference_data.parquet import RecordWriter, iterate_records
from preference_data.prompt import Prompt
from registry.artifact import Artifact
from registry.manifest import LOGS_FOLDER
from registry.saved_states import SavedStates
from stages.engine.prompts import prompts_of
from stages.sections import OverlapConfig
from stages.stage import Inputs, one
from stages.terminal.progress import Progress


class CheckedRow(NamedTuple):
    """A row of an artifact and what its ``messages``, the prompt, overlap with, the largest share first."""

    file: str
    record: Comparison | Prompt
    messages: Messages
    overlaps: list[Overlap]


class NothingLeft(ValueError):
    """All rows would be left out."""


def checked_rows(artifact: Artifact, evaluation: Iterable[Artifact], config: OverlapConfig) -> Iterator[CheckedRow]:
    """Every row of ``artifact`` (training sides of preferences, or prompts) against the prompts of ``evaluation``."""
    evaluation_prompts = {prompt.id: prompt.messages for artifact in evaluation for prompt in prompts_of(artifact)}
    prompts = EvaluationPrompts(evaluation_prompts, config.n, config.share)
    if artifact.reference.kind == "preferences":
        for comparison in iterate_records(artifact.file("train.parquet"), Comparison):
            yield CheckedRow("train.parquet", comparison, comparison.prompt, prompts.in_messages(comparison.prompt))
    else:
        for prompt in iterate_records(artifact.file("prompts.parquet"), Prompt):
            yield CheckedRow("prompts.parquet", prompt, prompt.messages, prompts.in_messages(prompt.messages))


def overlap_record(row: CheckedRow) -> dict[str, Any]:
    """One overlap for people."""
    worst = row.overlaps[0]
    last = row.messages[-1]["content"]
    return {"id": row.record.id, "evaluation_prompt": worst.prompt_id, "share": round(worst.share, 3), "text": last}


def run(config: OverlapConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates) -> dict[str, Any]:
    artifact = one(inputs, "data")
    kept_as_is = [entry.path for entry in artifact.manifest.files if entry.path not in ("train.parquet", "prompts.parquet")]
    for path in kept_as_is:
        if path != "README.md" and not path.startswith(f"{LOGS_FOLDER}/"):
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_bytes(artifact.file(path).read_bytes())
    name, record_type = (
        ("train.parquet", Comparison) if artifact.reference.kind == "preferences" else ("prompts.parquet", Prompt)
    )
    (out / LOGS_FOLDER).mkdir(exist_ok=True)
    read = 0
    with (
        RecordWriter(out / name, record_type) as writer,
        (out / LOGS_FOLDER / "overlaps.jsonl").open("w", encoding="utf-8") as file,
    ):
        for row in checked_rows(artifact, inputs["evaluation"], config):
            read += 1
            if row.overlaps:
                file.write(json.dumps(overlap_record(row), ensure_ascii=False) + "\n")
            else:
                writer.write([row.record])
    if not writer.written:
        raise NothingLeft(f"every row of {artifact.reference} holds an evaluation prompt; nothing would be left")
    return {"read": read, "kept": writer.written, "left_out": read - writer.written}
