"""Annotation files to preferences: ``train.parquet`` and ``test.parquet``, split by dialogue.

Rows that cannot be used are kept, with their reasons, in ``logs/rejects.jsonl`` of the artifact.
"""

import gc
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from preference_data.column_map import ColumnMap
from preference_data.comparison import Comparison
from preference_data.files.opening import compression_of
from preference_data.handing_out import Pair
from preference_data.importing import Import, LongestDialogue, TooManyRejects
from preference_data.messages import Messages
from preference_data.parquet import RecordWriter, read_batches, read_records
from preference_data.split import dialogue_key, is_held_out
from registry.artifact import Artifact
from registry.errors import WrongKind
from registry.manifest import LOGS_FOLDER
from registry.saved_states import SavedStates
from stages.external_files import check_unchanged
from stages.sections import ImportConfig
from stages.stage import Inputs
from stages.terminal.progress import Progress

SIDES = ("train", "test")
COLUMNS_TOLD = 20


def run(config: ImportConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates) -> dict[str, Any]:
    """Files are those of the ``annotations`` artifact where one is given.

    Raises FileProblem for one outside it that is not what it was, TooManyRejects, AnnotationFileError, ColumnMapError.
    """
    folder = inputs["annotations"][0].path if inputs.get("annotations") else Path()
    if not inputs.get("annotations"):
        for file, sha256 in itertools.zip_longest(config.files, config.sha256):
            check_unchanged(file, sha256)
    works, rated = [], 0
    with (
        _collector_paused(),
        RecordWriter(out / "train.parquet", Comparison) as train,
        RecordWriter(out / "test.parquet", Comparison) as test,
    ):
        for files, share in ((config.files, config.heldout_share), (config.heldout_files, 1.0)):
            if not files:
                continue
            work = _new_import(config, inputs)
            works.append(work)
            for some in _with_progress(work, [folder / name for name in files], progress):
                held_out = [share == 1 or is_held_out(comparison.prompt, share, seed) for comparison in some]
                train.write(comparison for comparison, held in zip(some, held_out, strict=True) if not held)
                test.write(comparison for comparison, held in zip(some, held_out, strict=True) if held)
                rated += sum(comparison.rating != "unrated" for comparison in some)
            _check(work, config)
    _keep_rejects(works, out / LOGS_FOLDER)
    return _metrics(works) | {"rated": rated, "train": train.written, "test": test.written}


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Nothing here refers to itself, and to look for what does, again and again, takes an eighth of an import's time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def comparisons_of(artifacts: Sequence[Artifact], side: str) -> list[Comparison]:
    """All comparisons of the ``train`` or ``test`` side."""
    return [row for artifact in artifacts for row in read_records(artifact.file(f"{side}.parquet"), Comparison)]


def sides_of(artifact: Artifact, side: Literal["train", "test", "all"]) -> dict[str, Path]:
    """The files of one side, or of both. Raises ReferenceNotFound for an artifact without them."""
    return {name: artifact.file(f"{name}.parquet") for name in (SIDES if side == "all" else (side,))}


def held_out_dialogues(artifacts: Iterable[Artifact]) -> set[str]:
    """The dialogues of all test sides, as ``dialogue_key`` calls them."""
    return {
        dialogue_key(prompt)
        for artifact in artifacts
        for batch in read_batches(artifact.file("test.parquet"), Comparison, ["prompt"])
        for prompt in batch.column("prompt").to_pylist()
    }


def _new_import(config: ImportConfig, inputs: Inputs) -> Import:
    form = ColumnMap(config.columns, config.values) if config.columns or config.values else config.format
    longest = LongestDialogue(config.max_tokens, lengths_with(inputs["model"][0])) if config.max_tokens else None
    return Import(config.axis, form, config.source, longest, _pairs(inputs))


def lengths_with(model: Artifact) -> Any:
    """What counts the tokens of dialogues, in the chat format, as ``model`` reads them."""
    if model.reference.kind not in ("policy", "reward_model"):
        raise WrongKind(f"{model.reference} has no tokenizer; give a policy or a reward model with --model")
    from policy.chat import encode_dialogues  # here, because most imports count no tokens and need not wait for it
    from policy.checkpoint import load_tokenizer
    from reward_model.model import is_external

    if model.reference.kind == "reward_model" and is_external(model.path):
        raise WrongKind(
            f"{model.reference} is an external reward model, which has its own chat format; "
            "give a policy, or a reward model that was trained here"
        )
    tokenizer = load_tokenizer(model.path)

    def lengths(dialogues: Sequence[Messages]) -> list[int]:
        return [len(encoded.ids) for encoded in encode_dialogues(tokenizer, dialogues)]

    return lengths


def _pairs(inputs: Inputs) -> Mapping[str, Pair] | None:
    if not inputs.get("pairs"):
        return None
    return {pair.item_id: pair for artifact in inputs["pairs"] for pair in read_records(artifact.file("pairs.parquet"), Pair)}


def _with_progress(work: Import, paths: Sequence[Path], progress: Progress) -> Any:
    plain = all(not compression_of(path) and path.is_file() for path in paths)
    bytes_in_all = sum(path.stat().st_size for path in paths) if plain else None
    with progress.meter(bytes_in_all and bytes_in_all / 1e6, "import", "MB") as advance:
        before = 0
        for some in work.comparisons(paths):
            advance(None, (work.bytes_read - before) / 1e6)
            before = work.bytes_read
            yield some


def _check(work: Import, config: ImportConfig) -> None:
    if isinstance(work.importer, ColumnMap):
        work.importer.check_all_seen()
    work.check(config.max_rejected)
    if not work.accepted:
        raise TooManyRejects(work, config.max_rejected)


def _keep_rejects(works: Sequence[Import], folder: Path) -> None:
    if any(len(work.rejects) for work in works):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "rejects.jsonl").open("wb") as file:
            for work in works:
                work.rejects.write_to(file)


def _metrics(works: Sequence[Import]) -> dict[str, Any]:
    rejected: dict[str, int] = {}
    ignored: dict[str, int] = {}
    for work in works:
        for counts, counted in ((rejected, work.rejected), (ignored, work.ignored_columns)):
            for name, count in counted.items():
                counts[name] = counts.get(name, 0) + count
    shown_columns = dict(itertools.islice(ignored.items(), COLUMNS_TOLD))
    return {
        "read": sum(work.read for work in works),
        "accepted": sum(work.accepted for work in works),
        "rejected": rejected,
        "formats": sorted({name for work in works for name in work.formats.values()}),
        "ignored_columns": shown_columns,
        "ignored_columns_not_told": len(ignored) - len(shown_columns),
    }
