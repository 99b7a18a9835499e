"""Preferences with other comparisons held out: train and test together, split anew by dialogue."""

from pathlib import Path
from typing import Any

from preference_data.comparison import Comparison
from preference_data.parquet import RecordWriter, iterate_records
from preference_data.split import is_held_out
from registry.saved_states import SavedStates
from stages.sections import SplitConfig
from stages.stage import Inputs
from stages.terminal.progress import Progress


def run(config: SplitConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates) -> dict[str, Any]:
    with RecordWriter(out / "train.parquet", Comparison) as train, RecordWriter(out / "test.parquet", Comparison) as test:
        for artifact in inputs["preferences"]:
            for side in ("train", "test"):
                for comparison in iterate_records(artifact.file(f"{side}.parquet"), Comparison):
                    (test if is_held_out(comparison.prompt, config.heldout_share, seed) else train).write([comparison])
    return {"train": train.written, "test": test.written}
