"""Files that a run reads from outside the registry: their sums stand in the config, so that an edited file is another input."""

import hashlib
from pathlib import Path


class FileProblem(ValueError):
    """A file that is missing, was changed, or has rows that cannot be used."""


def sha256_of(file: str | Path) -> str | None:
    """sha256 of a file in hex; None while it is not there."""
    if not Path(file).is_file():
        return None
    with Path(file).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def sha256_of_folder(folder: str | Path) -> str | None:
    """One sha256 over the names and sums of a folder's files, those of its subfolders left out; None for what is no folder."""
    if not Path(folder).is_dir():
        return None
    files = sorted(path for path in Path(folder).iterdir() if path.is_file())
    return hashlib.sha256("".join(f"{path.name} {sha256_of(path)}\n" for path in files).encode()).hexdigest()


def artifact_name(path: Path) -> str:
    """What the artifact made of a file or a folder is called; where that cannot be a name, the registry says so."""
    return (path.resolve().name if path.is_dir() else path.stem).lower().replace(" ", "-")


def check_unchanged(file: str, sha256: str | None) -> None:
    """Raise FileProblem unless ``file`` has the sum it had when the run began (None: it was not there)."""
    if sha256 is None or sha256_of(file) != sha256:
        fault = "has changed since this run began" if sha256 else "was not there when this run began"
        raise FileProblem(f"the file {file} {fault}; put it in its place and run the same command again")
