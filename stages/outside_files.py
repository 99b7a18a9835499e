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


def check_unchanged(file: str, sha256: str | None) -> None:
    """Raise FileProblem unless ``file`` has the sum it had when the run began (None: it was not there)."""
    if sha256 is None or sha256_of(file) != sha256:
        found = "has changed since this run began" if sha256 else "was not there when this run began"
        raise FileProblem(f"the file {file} {found}; put it in its place and run the same command again")
