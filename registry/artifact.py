"""References and artifacts: how stages name their results and find those of others.

A *reference* is ``kind/name@revision``; without a revision it means the newest. An *artifact* is the immutable folder it
leads to, opened with its manifest.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from registry.errors import CorruptArtifact, InvalidName, ReferenceNotFound
from registry.links import files_and_links
from registry.manifest import MANIFEST_FILE, MANIFEST_SUM_FILE, FileEntry, Manifest, Summary, file_entry, payload_digest

KINDS = (
    "policy",
    "reward_model",
    "preferences",
    "prompts",
    "dialogues",
    "samples",
    "annotations",
    "evaluation",
    "study",
    "report",
)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")  # a folder's name has at most 255 bytes, and .removed/ adds kind and revision
_REVISION = re.compile(r"[1-9][0-9]{0,8}")


def is_name(text: str) -> bool:
    """Whether an artifact can be called so."""
    return _NAME.fullmatch(text) is not None


def is_revision(text: str) -> bool:
    """Whether this is a revision as it is written: 1, 2, 3 ..."""
    return _REVISION.fullmatch(text) is not None


def did_you_mean(text: str, valid: Iterable[str]) -> str:
    """A sentence with up to three near-misses of ``text`` among ``valid``, the best first; '' without any.

    Only what follows the last slash is compared: with their kinds, all names of a kind would look alike.
    """
    folder, _, name = text.rpartition("/")

    def likeness(candidate: str) -> tuple[float, bool]:
        return difflib.SequenceMatcher(None, name, candidate.rpartition("/")[2]).ratio(), candidate.startswith(folder + "/")

    near = sorted((candidate for candidate in valid if likeness(candidate)[0] >= 0.6), key=likeness, reverse=True)
    return f" Did you mean {' or '.join(near[:3])}?" if near else ""


@dataclass(frozen=True, slots=True)
class Reference:
    """``kind/name@revision``; ``revision`` None means the newest. Raises InvalidName on anything malformed."""

    kind: str
    name: str
    revision: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            hint = did_you_mean(self.kind, KINDS)
            raise InvalidName(
                f"{str(self)!r} names the kind {self.kind!r}, which does not exist.{hint} Kinds: {', '.join(KINDS)}"
            )
        if not is_name(self.name):
            raise InvalidName(
                f"{self.name!r} in {str(self)!r} cannot be a name; use lower-case letters, digits, '.', '_' and '-', "
                "start with a letter or a digit, and stay within 200 characters"
            )
        if self.revision is not None and self.revision < 1:
            raise InvalidName(f"{str(self)!r} asks for revision {self.revision}; revisions are 1, 2, 3 ...")

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """The reference written as ``text``."""
        kind, slash, rest = text.partition("/")
        name, at, revision = rest.partition("@")
        if not slash:
            raise InvalidName(f"{text!r} is not a reference; write kind/name or kind/name@revision, for example policy/sft@1")
        if at and not is_revision(revision):
            raise InvalidName(
                f"{text!r} asks for revision {revision!r}; revisions are 1, 2, 3 ..., for example {kind}/{name}@1"
            )
        return cls(kind, name, int(revision) if at else None)

    @property
    def newest(self) -> "Reference":
        """The same without a revision."""
        return Reference(self.kind, self.name)

    @property
    def folder(self) -> str:
        """Where the artifact lies under a registry's root; without a revision, where those of its name lie."""
        return str(self).replace("@", "/")

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}" + ("" if self.revision is None else f"@{self.revision}")


def check_name(reference: Reference, path: Path, manifest: Summary) -> None:
    """Raise CorruptArtifact unless ``manifest``, read from ``path``, is that of ``reference``."""
    name = f"{manifest.kind}/{manifest.name}@{manifest.revision}"
    if name != str(reference):
        raise CorruptArtifact(f"the manifest in {path} is that of {name}; folders cannot be moved by hand, put it back")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with an artifact: the file (or parent reference) concerned, and what is wrong."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """One immutable folder of the registry; ``reference`` always carries its revision."""

    reference: Reference
    path: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        return self.manifest.digest

    def file(self, name: str) -> Path:
        """The path of a file of this artifact.

        Raises ReferenceNotFound when no such file was committed (naming those that were), CorruptArtifact when it has gone.
        """
        names = [entry.path for entry in self.manifest.files]
        if name not in names:
            raise ReferenceNotFound(
                f"{self.reference} has no file {name!r}.{did_you_mean(name, names)} Its files: {', '.join(names)}. "
                "Give an artifact made by the stage that writes this file"
            )
        if not (self.path / name).is_file():
            raise CorruptArtifact(
                f"{self.reference} was committed with the file {name!r}, which is gone from {self.path}; "
                f"see `rlhf registry verify {self.reference}`, then restore it or make the artifact again with --force"
            )
        return self.path / name

    def check(self) -> None:
        """Recompute the sums of all files. Raises CorruptArtifact naming each that is not what was committed."""
        if problems := list(self.file_problems()):
            listed = "; ".join(f"{problem.path}: {problem.text}" for problem in problems)
            raise CorruptArtifact(
                f"{self.reference} is not what was committed: {listed}. Restore it from a copy, or make it again with --force"
            )

    def file_problems(self) -> Iterator[Problem]:
        """Every file that is missing, that was added, or whose sha256 is not the committed one."""
        committed = {entry.path: entry for entry in self.manifest.files}
        files, links = files_and_links(self.path)
        present = [path for path in files if path not in (MANIFEST_FILE, MANIFEST_SUM_FILE)]
        for path in links:
            yield Problem(path, "a symbolic link, and what it points to is not the artifact's own")
        for path in sorted(set(committed) - set(present) - set(links)):
            yield Problem(path, "the file is missing")
        for path in present:
            if path not in committed:
                yield Problem(path, "the file was not there when the artifact was committed")
            elif problem := _difference(self.path, committed[path]):
                yield Problem(path, problem)
        if (digest := payload_digest(self.manifest.files)) != self.digest:
            yield Problem(MANIFEST_FILE, f"the digest says {self.digest}, and its own list of files gives {digest}")


def _difference(folder: Path, entry: FileEntry) -> str:
    """How a file differs from its entry; '' where it does not."""
    try:
        present = file_entry(folder, entry.path)
    except OSError as error:  # a failing disk, another user's file
        return f"the file cannot be read ({error.strerror})"
    if present == entry:
        return ""
    return f"sha256 was {entry.sha256} ({entry.size} bytes) and is {present.sha256} ({present.size} bytes)"
