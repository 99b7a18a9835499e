"""Annotation files to preferences: ``train.parquet`` and ``test.parquet``, split by prompt.

Rows that cannot be used are kept, with their reasons, in ``logs/rejects.jsonl`` of the artifact.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from preference_data.comparison import Comparison
from preference_data.importing import ImportResult, Reject, import_files, write_rejects
from preference_data.parquet import read_records, write_records
from preference_data.prompt import Split
from preference_data.split import split_by_prompt
from registry.artifact import Artifact
from registry.manifest import LOGS_FOLDER
from registry.saved_states import SavedStates
from stages.outside_files import check_unchanged
from stages.progress import Progress
from stages.sections import ImportConfig
from stages.stage import Inputs, Stage


def run(config: ImportConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates) -> dict[str, Any]:
    """Files are looked for in the ``annotations`` artifact where one is given.

    Raises FileProblem for one outside it that is not what it was, TooManyRejects, AnnotationFileError.
    """
    folder = inputs["annotations"][0].path if inputs.get("annotations") else Path()
    if not inputs.get("annotations"):
        for file, sha256 in itertools.zip_longest(config.files, config.sha256):
            check_unchanged(file, sha256)
    training = _read(config, [folder / name for name in config.files])
    testing = _read(config, [folder / name for name in config.heldout_files]) if config.heldout_files else None
    train, test = training.comparisons, testing.comparisons if testing else []
    if config.heldout_share:
        shares: dict[Split, float] = {"train": 1 - config.heldout_share, "validation": 0.0, "test": config.heldout_share}
        sides = split_by_prompt(train, seed, shares)
        train, test = sides["train"], [*test, *sides["test"]]
    write_records(out / "train.parquet", train, Comparison)
    write_records(out / "test.parquet", test, Comparison)
    results = [result for result in (training, testing) if result]
    rejects = [reject for result in results for reject in result.rejects]
    _keep_rejects(out / LOGS_FOLDER, rejects)
    reasons: dict[str, int] = {}
    for result in results:
        for reason, count in result.rejected.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return {
        "read": sum(result.read for result in results),
        "accepted": sum(result.accepted for result in results),
        "rejected": reasons,
        "ignored_columns": {name: count for result in results for name, count in result.ignored_columns.items()},
        "train": len(train),
        "test": len(test),
    }


def comparisons_of(artifacts: Sequence[Artifact], side: str) -> list[Comparison]:
    """All comparisons of the ``train`` or ``test`` side."""
    return [row for artifact in artifacts for row in read_records(artifact.file(f"{side}.parquet"), Comparison)]


def _read(config: ImportConfig, paths: Sequence[Path]) -> ImportResult:
    return import_files(paths, config.axis, format=config.format, max_rejected=config.max_rejected)


def _keep_rejects(folder: Path, rejects: Sequence[Reject]) -> None:
    if rejects:
        folder.mkdir(parents=True, exist_ok=True)
        write_rejects(folder / "rejects.jsonl", rejects)


STAGE = Stage("import", "preferences", 1, ImportConfig, run, {"annotations": "annotations"})
