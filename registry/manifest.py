"""The manifest: what an artifact is, what it was made from, and the sha256 of every file in it.

The *payload* is every file of the folder but ``manifest.json``, the ``README.md`` card and ``logs/``. The digest is the
sha256 over the sorted ``path sha256`` lines of the payload alone, so the same computation gives the same digest at any
time, on any host and under any name; what varies (seconds, memory, dates, logs) stays outside it. The manifest has its
own sum beside it, in the form of ``sha256sum --check``.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry.errors import CorruptArtifact, RegistryError, UnknownFormat
from registry.links import files_and_links

FORMAT_VERSION = 1
MANIFEST_FILE, CARD_FILE, LOGS_FOLDER = "manifest.json", "README.md", "logs"
MANIFEST_SUM_FILE = "manifest.json.sha256"


class FileEntry(BaseModel):
    """One file of an artifact: POSIX path inside the folder, sha256 in hex, size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str
    sha256: str
    size: int


class Parent(BaseModel):
    """An input an artifact was made from: the full reference with its revision, and the digest it had then."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    reference: str
    digest: str


class Run(BaseModel):
    """How a stage ran: what it hands over with its files when it commits."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str = Field(description="name of the stage")
    stage_revision: int = Field(description="revision of that stage's code")
    config: dict[str, Any] = Field(description="the stage's config after defaults")
    seed: int = Field(description="seed of the run")
    metrics: dict[str, Any] = Field(description="what the stage measured")
    versions: dict[str, str] = Field(description="library versions")
    dtype: str = Field(description="number format of the computation")
    device: str = Field(description="device of the computation")
    git_revision: str | None = Field(
        description="commit of the code, with -dirty when files were changed; None outside a checkout"
    )
    seconds: float = Field(description="wall-clock seconds of the stage")
    peak_rss_mb: float = Field(description="largest resident memory of the process up to the commit, in MB (10^6 bytes)")


class Summary(BaseModel):
    """What a list shows of an artifact, and what it was made from: the part of its manifest that is read from thousands."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    format_version: int = Field(description="version of this layout")
    kind: str = Field(description="one of registry.artifact.KINDS")
    name: str = Field(description="name within the kind")
    revision: int = Field(description="1, 2, 3 ... within the name")
    digest: str = Field(description="sha256 over the sorted `path sha256` lines of the payload")
    fingerprint: str = Field(description="what was asked for: stage, config, inputs, seed, dtype and device type, hashed")
    stage: str = Field(description="name of the stage")
    parents: dict[str, list[Parent]] = Field(description="inputs by role")
    created: str = Field(description="UTC time of the commit, ISO 8601")
    files: list[FileEntry] = Field(description="every file but the manifest itself")

    @property
    def parent_references(self) -> list[str]:
        """The full references of all inputs."""
        return [parent.reference for parents in self.parents.values() for parent in parents]

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(entry.size for entry in self.files)


class Manifest(Run, Summary):
    """Everything known about one artifact; the fields are the keys of ``manifest.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def is_payload(path: str) -> bool:
    """Whether a file at this POSIX path counts towards the digest."""
    return path not in (MANIFEST_FILE, MANIFEST_SUM_FILE, CARD_FILE) and not path.startswith(LOGS_FOLDER + "/")


def payload_digest(files: Iterable[FileEntry]) -> str:
    """The artifact's digest: sha256 in hex over the sorted ``path sha256`` lines of the payload."""
    lines = sorted(f"{entry.path} {entry.sha256}\n" for entry in files if is_payload(entry.path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def file_entry(folder: Path, path: str) -> FileEntry:
    """Hash one file of ``folder``."""
    with (folder / path).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(path=path, sha256=sha256, size=(folder / path).stat().st_size)


def file_paths(folder: Path) -> tuple[str, ...]:
    """Sorted POSIX paths of all files under ``folder``, the manifest and its sum left out.

    Raises RegistryError on a symbolic link: what it points to could change after the commit.
    """
    files, links = files_and_links(folder)
    if links:
        raise RegistryError(
            f"{folder / links[0]} is a symbolic link; an artifact must hold its own files, so copy the target in its place"
        )
    return tuple(path for path in files if path not in (MANIFEST_FILE, MANIFEST_SUM_FILE))


def fsync(path: Path) -> None:
    """Force a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` into ``folder``, after the file with its sum."""
    fields = manifest.model_dump()
    first = {key: fields[key] for key in ("format_version", "kind", "name", "revision", "digest", "fingerprint")}
    text = json.dumps(first | fields, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_SUM_FILE).write_text(_sum_line(text.encode()), encoding="utf-8")
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")


def _sum_line(manifest: bytes) -> str:
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST_FILE}\n"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the artifact in ``folder``.

    Raises CorruptArtifact when it is missing, malformed or not what its sum says, UnknownFormat when a newer version of the
    project wrote it.
    """
    return _read(folder, Manifest)


def read_summary(folder: Path) -> Summary:
    """The part of a manifest that a list needs, in a third of the time. Raises what ``read_manifest`` raises."""
    return _read(folder, Summary)


_Read = TypeVar("_Read", bound=Summary)


def _read(folder: Path, part: type[_Read]) -> _Read:
    path = folder / MANIFEST_FILE
    advice = "restore the folder from a copy, or remove it and run the stage again"
    try:
        text = _bytes(f"{folder}/{MANIFEST_FILE}")
        expected = _bytes(f"{folder}/{MANIFEST_SUM_FILE}")
    except OSError as error:
        problem = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise CorruptArtifact(f"{error.filename} {problem}, so {folder} is not a whole artifact; {advice}") from error
    if expected != _sum_line(text).encode():
        raise CorruptArtifact(f"{path} is not what {MANIFEST_SUM_FILE} says it was when it was committed; {advice}")
    try:
        manifest = part.model_validate_json(text)
        version = manifest.format_version
    except ValidationError as error:
        version = _version(text)
        if version <= FORMAT_VERSION:
            raise CorruptArtifact(f"{path} is not a manifest; {advice}. {error}") from error
    if version > FORMAT_VERSION:
        raise UnknownFormat(
            f"{path} has format_version {version}; this version of llama-rlhf reads up to {FORMAT_VERSION}. Upgrade llama-rlhf"
        )
    return manifest


def _bytes(path: str) -> bytes:
    """What a small file holds. Lists read thousands, which take half as long again through Path and a buffer."""
    with io.FileIO(path) as file:
        return file.readall()


def _version(text: bytes) -> int:
    """The format version of a manifest that this version of the project cannot parse; 0 without one."""
    try:
        return int(json.loads(text)["format_version"])
    except (ValueError, TypeError, KeyError):
        return 0


_CARD_HEADERS = {
    "policy": {"library_name": "transformers", "pipeline_tag": "text-generation"},
    "reward_model": {"library_name": "transformers", "pipeline_tag": "text-classification"},
}


_CARD_USE = {
    "policy": """
from transformers import pipeline

chat = pipeline("text-generation", model=FOLDER)
messages = [{"role": "user", "content": "Where do otters sleep?"}]
print(chat(messages, max_new_tokens=64)[0]["generated_text"][-1]["content"])
""",
    "reward_model": """
from transformers import pipeline

scorer = pipeline("text-classification", model=FOLDER, function_to_apply="none")  # raw logits; "sigmoid" for 0 to 1
dialogue = [{"role": "user", "content": "Where do otters sleep?"}, {"role": "assistant", "content": "Afloat, in the kelp."}]
text = scorer.tokenizer.apply_chat_template(dialogue, tokenize=False)
print(scorer(text, add_special_tokens=False)[0]["score"])  # the template has written BOS and EOS already
""",
}
"""How artifacts of a kind are opened outside this project; FOLDER is where the files lie, or their name on the hub."""


def card(reference: str, digest: str, parents: Mapping[str, list[Parent]], run: Run) -> str:
    """The Hugging Face ``README.md`` of an artifact: what it is, how it was made, from what, and what was measured."""
    kind = reference.partition("/")[0]
    header = {**_CARD_HEADERS.get(kind, {}), "tags": f"[llama-rlhf, {kind}]"}
    lines = ["---", *(f"{key}: {value}" for key, value in header.items()), "---", "", f"# {reference}", ""]
    lines += [
        f"Made by the stage `{run.stage}` of llama-rlhf. Digest `{digest}`; config, versions and sums stand in its "
        "manifest in the registry."
    ]
    if kind in _CARD_USE:
        lines += ["", "## Use", "", "```python", *_CARD_USE[kind].strip().splitlines(), "```"]
    inputs = [f"| {role} | `{parent.reference}` | `{parent.digest}` |" for role, listed in parents.items() for parent in listed]
    if inputs:
        lines += ["", "## Made from", "", "| role | artifact | digest |", "|---|---|---|", *inputs]
    measured = [f"| {name} | {value} |" for name, value in run.metrics.items() if isinstance(value, str | int | float)]
    if measured:
        lines += ["", "## Measured", "", "| metric | value |", "|---|---|", *measured]
    return "\n".join(lines) + "\n"
