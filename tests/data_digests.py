"""What micro's data stages make, as digests: all that depends on no trained weights, which differ between processors.

    python tests/data_digests.py        records them in tests/stages/data_digests.json

Parquet files are read and their rows hashed as JSON, because the bytes of such a file hold the version of pyarrow.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from command_line import ROOT

from registry.manifest import is_payload
from registry.store import Registry
from stages.catalog import STAGES
from stages.engine.run import run_stage
from stages.external_files import sha256_of
from stages.pipeline import steps
from stages.recipe import load_recipe
from stages.sections import ImportConfig
from stages.stage import Step
from stages.terminal.progress import Progress

SEED = 100
RECORDED = ROOT / "tests" / "stages" / "data_digests.json"
ANNOTATIONS = "docs/annotation-example.jsonl"


def data_steps() -> list[Step]:
    """The steps of micro that read nothing, and an import of the example file; files are named from the checkout's root."""
    found = [step for step in steps(load_recipe("micro")) if not step.inputs]
    config = ImportConfig(
        axis="helpfulness", files=(ANNOTATIONS,), sha256=(sha256_of(ROOT / ANNOTATIONS),), max_rejected=1.0, heldout_share=0.5
    )
    return [*found, Step(STAGES["import"], "example", config, {})]


def made_by(step: Step, folder: Path) -> dict[str, Any]:
    """Run a step in the registry ``folder``: what was asked for, and the digest of each file."""
    artifact = run_stage(
        Registry(folder), step.stage, name=step.name, config=step.config, inputs={}, seed=SEED, progress=Progress(quiet=True)
    ).artifact
    payload = [entry.path for entry in artifact.manifest.files if is_payload(entry.path)]
    return {
        "stage": step.stage.name,
        "revision": step.stage.revision,
        "config": step.config.model_dump(mode="json"),
        "files": {path: digest(artifact.path / path) for path in payload},
    }


def digest(path: Path) -> str:
    """sha256 of a file; of a Parquet file, of its schema and rows."""
    found = hashlib.sha256()
    for line in _rows(path) if path.suffix == ".parquet" else [path.read_bytes()]:
        found.update(line)
    return found.hexdigest()


def _rows(path: Path) -> Iterator[bytes]:
    table = pq.read_table(path)
    yield json.dumps([[field.name, str(field.type)] for field in table.schema]).encode()
    for row in table.to_pylist():
        yield json.dumps(row, sort_keys=True).encode() + b"\n"


def main() -> None:
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        found = {step.makes: made_by(step, Path(folder)) for step in data_steps()}
    RECORDED.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"{len(found)} digests recorded in {RECORDED.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
