"""References and artifacts: the words by which stages hand their work to each other.

A *reference* is ``kind/name@revision``; without a revision it means the newest. An *artifact* is the immutable folder it
leads to, opened with its manifest.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from registry.errors import CorruptArtifact, InvalidName, ReferenceNotFound
from registry.manifest import MANIFEST_FILE, Manifest, file_entry, file_paths, payload_digest

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

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_REVISION = re.compile(r"[1-9][0-9]*")


def did_you_mean(asked: str, valid: Iterable[str]) -> str:
    """A sentence with up to three near-misses of ``asked`` among ``valid``, the best first; '' without any.

    Only what follows the last slash is compared: with their kinds, all names of a kind would look alike.
    """
    folder, _, name = asked.rpartition("/")

    def likeness(text: str) -> tuple[float, bool]:
        return difflib.SequenceMatcher(None, name, text.rpartition("/")[2]).ratio(), text.startswith(folder + "/")

    near = sorted((text for text in valid if likeness(text)[0] >= 0.6), key=likeness, reverse=True)
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
        if not _NAME.fullmatch(self.name):
            raise InvalidName(
                f"{self.name!r} in {str(self)!r} cannot be a name; use lower-case letters, digits, '.', '_' and '-', "
                "and start with a letter or a digit"
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
        if at and not _REVISION.fullmatch(revision):
            raise InvalidName(
                f"{text!r} asks for revision {revision!r}; revisions are 1, 2, 3 ..., for example {kind}/{name}@1"
            )
        return cls(kind, name, int(revision) if at else None)

    @property
    def newest(self) -> "Reference":
        """The same without a revision."""
        return Reference(self.kind, self.name)

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}" + ("" if self.revision is None else f"@{self.revision}")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with an artifact: the file (or parent reference) concerned, and what was found."""

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
            found = "; ".join(f"{problem.path}: {problem.text}" for problem in problems)
            raise CorruptArtifact(
                f"{self.reference} is not what was committed: {found}. Restore it from a copy, or make it again with --force"
            )

    def file_problems(self) -> Iterator[Problem]:
        """Every file that is missing, foreign or not what was committed, by its sha256."""
        committed = {entry.path: entry for entry in self.manifest.files}
        present = set(file_paths(self.path))
        for path, entry in committed.items():
            if path not in present:
                yield Problem(path, "the file is missing")
            elif (found := file_entry(self.path, path)) != entry:
                yield Problem(
                    path, f"sha256 was {entry.sha256} ({entry.size} bytes) and is {found.sha256} ({found.size} bytes)"
                )
        for path in sorted(present - set(committed)):
            yield Problem(path, "the file was not there when the artifact was committed")
        if (digest := payload_digest(self.manifest.files)) != self.digest:
            yield Problem(MANIFEST_FILE, f"the digest says {self.digest}, and its own list of files gives {digest}")
