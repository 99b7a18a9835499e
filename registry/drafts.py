"""Drafts: folders that become an artifact in one rename, and the saved states of work that stopped.

A draft belongs to the process that holds its lock. Its payload is thrown away when the work stops early; the states that the
work saved stay, and the next run with the same fingerprint resumes from them.
"""

import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from registry.artifact import Artifact, Reference
from registry.errors import DraftInUse, RegistryError
from registry.manifest import (
    CARD_FILE,
    FORMAT_VERSION,
    MANIFEST_FILE,
    MANIFEST_SUM_FILE,
    FileEntry,
    Manifest,
    Parent,
    Run,
    card,
    file_entry,
    file_paths,
    fsync,
    is_payload,
    payload_digest,
    write_manifest,
)
from registry.saved_states import SavedStates, SaveEvery
from registry.writing import check_locks, next_revision, registry_lock, writing

DRAFTS, OUT, DRAFT_FILE = ".drafts", "out", "draft.json"
STATES, FORCED_STATES = "states", "forced-states"  # what a forced run saves is for the next forced run alone
UNKNOWN = "unknown"

Say = Callable[[str], None]


@contextmanager
def open_draft(
    root: Path,
    reference: Reference,
    fingerprint: str,
    asked: Mapping[str, Any],
    fresh: bool,
    waiting: Say | None,
    say: Say,
    save_every: SaveEvery,
) -> Iterator["Draft"]:
    """An empty folder to build an artifact in, and the states that an earlier run saved.

    A ``fresh`` run resumes only from what an earlier fresh run saved.

    Leaving the block with a committed artifact removes the draft; leaving it without one keeps the saved states, if there
    are any. ``asked`` is what the fingerprint was computed from, for people to read. A draft held by another process is waited
    for, after a call of ``waiting`` that names the process; without ``waiting`` it raises DraftInUse. ``say`` is called for
    each state that is skipped; new ones are saved ``save_every`` apart. Raises RegistryError when the file system cannot lock,
    CannotWrite when it is full or may only be read.
    """
    assert re.fullmatch(r"[0-9a-f]+", fingerprint), f"a fingerprint is a hexadecimal number, not {fingerprint!r}"
    folder = root / DRAFTS
    path = folder / fingerprint
    with writing(root):
        folder.mkdir(parents=True, exist_ok=True)
        check_locks(folder)
    lease = FileLock(path.with_suffix(".lock"))
    _take(lease, path, reference, waiting)
    try:
        with writing(root):
            shutil.rmtree(path / OUT, ignore_errors=True)
            (path / OUT).mkdir(parents=True)
            (path / DRAFT_FILE).write_text(json.dumps(_maker(reference, fingerprint, asked)), encoding="utf-8")
            yield Draft(
                root,
                reference,
                fingerprint,
                path / OUT,
                SavedStates(path / (FORCED_STATES if fresh else STATES), say, save_every),
            )
    finally:
        shutil.rmtree(path / OUT, ignore_errors=True)
        if not any((path / states).is_dir() for states in (STATES, FORCED_STATES)):
            shutil.rmtree(path, ignore_errors=True)
        lease.release()


def _take(lease: FileLock, path: Path, reference: Reference, waiting: Say | None) -> None:
    try:
        lease.acquire(timeout=0)
    except Timeout as error:
        maker = _read_maker(path)
        held = f"{reference} is being made by another process{' (' + maker['process'] + ')' if maker else ''}"
        if waiting is None:
            raise DraftInUse(f"{held}, with this config and these inputs; wait for it") from error
        waiting(f"{held}; waiting for it")
        lease.acquire()


@dataclass(frozen=True, slots=True)
class Draft:
    """An artifact in the making: put its files into ``path``, then commit once. ``states`` survive a killed process."""

    root: Path
    reference: Reference
    fingerprint: str
    path: Path
    states: SavedStates

    def commit(self, run: Run, parents: Mapping[str, Sequence[Artifact]]) -> Artifact:
        """Make the draft the next revision of its name. Raises RegistryError when it holds no payload or a symbolic link."""
        files = self._sync_files()
        digest = payload_digest(files)
        made_from = {
            role: [Parent(reference=str(artifact.reference), digest=artifact.digest) for artifact in artifacts]
            for role, artifacts in parents.items()
        }
        with registry_lock(self.root):
            revision = next_revision(self.root, self.reference)
            reference = Reference(self.reference.kind, self.reference.name, revision)
            (self.path / CARD_FILE).write_text(card(str(reference), digest, made_from, run), encoding="utf-8")
            manifest = Manifest(
                **run.model_dump(),
                format_version=FORMAT_VERSION,
                kind=reference.kind,
                name=reference.name,
                revision=revision,
                digest=digest,
                fingerprint=self.fingerprint,
                parents=made_from,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                files=[*files, file_entry(self.path, CARD_FILE)],
            )
            return self._put(reference, manifest)

    def _sync_files(self) -> Sequence[FileEntry]:
        """Hash every file but the card (a library's own README.md gives way to ours), and force all to the disk."""
        paths = [path for path in file_paths(self.path) if path != CARD_FILE]
        if not any(is_payload(path) for path in paths):
            raise RegistryError(
                f"the stage that makes {self.reference} wrote no file into its folder; an artifact needs a payload"
            )
        for path in paths:
            fsync(self.path / path)
        for folder in [path for path in self.path.rglob("*") if path.is_dir()]:
            fsync(folder)
        return [file_entry(self.path, path) for path in paths]

    def _put(self, reference: Reference, manifest: Manifest) -> Artifact:
        fsync(self.path / CARD_FILE)
        write_manifest(self.path, manifest)
        fsync(self.path / MANIFEST_SUM_FILE)
        fsync(self.path / MANIFEST_FILE)
        fsync(self.path)
        target = self.root / reference.folder
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.rename(target)
        fsync(target.parent)
        shutil.rmtree(self.path.parent, ignore_errors=True)
        return Artifact(reference, target, manifest)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A draft on the disk. ``asked``: stage, config, inputs and seed; ``process``: who began it; ``held``: does it still run?

    A process killed in its first moment leaves a draft without ``draft.json``: artifact and process are then UNKNOWN.
    """

    artifact: str
    fingerprint: str
    asked: dict[str, Any]
    process: str
    held: bool
    num_states: int


def unfinished(root: Path) -> tuple[Unfinished, ...]:
    """Every draft of the registry in ``root``, by the name of its artifact; those of running processes are ``held``."""
    folder = root / DRAFTS
    drafts = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir():
            maker = _read_maker(path) or {"artifact": UNKNOWN, "asked": {}, "process": UNKNOWN}
            held = _is_held(path.with_suffix(".lock"))
            states = [state for state in path.glob("*states/*") if state.name.isdecimal()]
            drafts.append(Unfinished(maker["artifact"], path.name, maker["asked"], maker["process"], held, len(states)))
    return tuple(sorted(drafts, key=lambda draft: (draft.artifact, draft.fingerprint)))


def discard(root: Path, fingerprint: str) -> bool:
    """Remove a draft that no process holds; False when one does, or there is none."""
    path = root / DRAFTS / fingerprint
    lease = FileLock(path.with_suffix(".lock"))
    if not path.is_dir() or not _acquired(lease):
        return False
    shutil.rmtree(path)
    lease.release()
    return True


def _maker(reference: Reference, fingerprint: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    process = f"process {os.getpid()} on {socket.gethostname()}"
    return {"artifact": str(reference), "fingerprint": fingerprint, "process": process, "asked": dict(asked)}


def _read_maker(draft: Path) -> dict[str, Any] | None:
    """What ``draft.json`` says; None where it is missing or torn."""
    try:
        maker = dict(json.loads((draft / DRAFT_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return maker if maker.keys() >= {"artifact", "asked", "process"} else None


def _acquired(lease: FileLock) -> bool:
    try:
        lease.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _is_held(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:  # opened to read, so that a read-only registry can be asked
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False
