"""Annotation files as bytes: the type of a file, its compression, and what makes it unusable as a whole.

The name of a file gives its type: ``.jsonl`` (or ``.ndjson``), ``.json``, ``.csv``, ``.tsv``, ``.parquet``. All but the last
may be compressed, with ``.gz`` or ``.zst`` after it.
"""

import codecs
import gzip
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

FileType = Literal["jsonl", "json", "csv", "parquet"]
FILE_TYPES: dict[str, FileType] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
COMPRESSIONS = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}
"""Suffixes of compressed files, with the bytes that such files start with."""
LFS_POINTER = b"version https://git-lfs"
"""The first bytes of a file that only points to one in Git LFS."""


class AnnotationFileError(ValueError):
    """A file that cannot be imported at all: what was asked, what was found, what to do."""

    def __init__(self, asked: str, found: str, do: str):
        super().__init__(f"{asked}: {found}. {do}")
        self.asked, self.found, self.do = asked, found, do


def compression_of(path: Path) -> str:
    """``.gz``, ``.zst`` or the empty string."""
    return path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else ""


def file_type(path: Path) -> FileType:
    """The type that the name of ``path`` gives. Raises AnnotationFileError for any other name."""
    plain = path.with_suffix("") if compression_of(path) else path
    known = FILE_TYPES.get(plain.suffix.lower())
    if known is None or (known == "parquet" and compression_of(path)):
        names = f"{', '.join(FILE_TYPES)}, or all but the last with {' or '.join(COMPRESSIONS)} after it"
        raise AnnotationFileError(
            f"import {path}", f"its name ends in {path.suffix!r}", f"Give a file whose name ends in {names}"
        )
    return known


def plain_name(path: Path) -> str:
    """The name of ``path`` without the suffixes of its type and compression: the default source of its judgements."""
    return (path.with_suffix("") if compression_of(path) else path).with_suffix("").name


def check_file(path: Path) -> None:
    """Raise AnnotationFileError unless ``path`` is a readable file of a known type that does not start like UTF-16."""
    asked = f"import {path}"
    if path.is_dir():
        raise AnnotationFileError(asked, "it is a folder", "Name each file in it")
    if not path.exists():
        raise AnnotationFileError(asked, "there is no such file", "Check the path")
    if not path.is_file():
        raise AnnotationFileError(asked, "it is not a regular file", "Save its content to a file, and name that")
    if str(path) != str(path).encode("utf-8", "replace").decode():
        raise AnnotationFileError(asked, "its name is not UTF-8", "Rename it")
    kind = file_type(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise AnnotationFileError(asked, f"it cannot be read ({error.strerror})", "Check its permissions") from error
    if start == LFS_POINTER:
        raise AnnotationFileError(asked, "it only points to a file that Git LFS keeps", "Fetch the file itself (git lfs pull)")
    for compression, magic in COMPRESSIONS.items():
        if start.startswith(magic) and compression_of(path) != compression:
            raise AnnotationFileError(asked, f"it is compressed with {compression[1:]}", f"Add {compression} to its name")
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise AnnotationFileError(asked, "its text is UTF-16", "Save it as UTF-8")
    if kind == "parquet" and not start.startswith(b"PAR1"):
        raise AnnotationFileError(asked, "it does not start like a Parquet file", "Check that it was written completely")


def check_columns(path: Path, names: Sequence[str]) -> None:
    """Raise AnnotationFileError where two columns have one name, because only one of them would be read."""
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        named = ", ".join(map(repr, repeated[:20])) + (f" and {len(repeated) - 20} more" if repeated[20:] else "")
        asked, found = f"read the columns of {path}", f"columns named twice: {named}"
        raise AnnotationFileError(asked, found, "Give each column a name of its own")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The decompressed bytes of ``path``. Raises AnnotationFileError, also while reading, where they cannot be decompressed."""
    compression = compression_of(path)
    with path.open("rb") as file:
        if not compression:
            yield file
            return
        try:
            yield _decompressed(file, compression)
        except (EOFError, zlib.error, OSError) as error:
            raise AnnotationFileError(
                f"import {path}",
                f"it cannot be decompressed to its end ({error})",
                f"Check that it was copied completely, and that it is compressed as {compression} says",
            ) from error


def _decompressed(file: BinaryIO, compression: str) -> BinaryIO:
    if compression == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    import io

    import pyarrow as pa

    return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(file, "zstd"), 1 << 20))
