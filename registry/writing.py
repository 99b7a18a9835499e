"""What every write to a registry needs: locks that work, the next revision of a name, and plain words for a full disk."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from registry.artifact import Reference
from registry.errors import CannotWrite, RegistryError


def registry_lock(root: Path) -> FileLock:
    """The lock under which revisions are given, aliases set and artifacts removed; it waits for whoever holds it."""
    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / ".lock")


def next_revision(root: Path, reference: Reference) -> int:
    """The number after the highest that was ever given to the name. Call it while holding ``registry_lock``."""
    folder = root / reference.newest.folder
    numbers = [int(path.stem) for path in folder.iterdir() if path.stem.isdecimal()] if folder.is_dir() else []
    return max(numbers, default=0) + 1


def check_locks(folder: Path) -> None:
    """Raise RegistryError unless locks on files of ``folder`` exclude: two processes could otherwise mix their drafts."""
    path = folder / "tried.lock"  # one file that stays: with temporary ones each kill at this moment would leave another
    with path.open("ab") as first, path.open("ab") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError as error:
            reason = error.strerror
        else:
            reason = "a file could be locked twice"
    raise RegistryError(
        f"the file system of {folder} has no working locks ({reason}), without which two processes could mix what they write; "
        "put the registry on another disk"
    )


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Say what a full disk or a read-only registry means for the work at hand. Raises CannotWrite."""
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        # weights are written by a library that has errors of its own
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            raise CannotWrite(
                f"the disk of {root} is full, and nothing was committed; free some space (rlhf registry prune shows what is "
                "not needed) and run the same command again, which resumes from what was saved"
            ) from error
        if number in (errno.EROFS, errno.EACCES, errno.EPERM) and str(getattr(error, "filename", "")).startswith(str(root)):
            raise CannotWrite(
                f"{root} cannot be written ({error}); its artifacts can be read, and new ones need another --registry"
            ) from error
        raise
