"""Annotation files as they should not be: samples of every format with changes in their values, text, bytes and compression.

``fuzzed(number)`` makes the same file for the same number.
"""

import copy
import csv
import dataclasses
import gzip
import io
import json
from dataclasses import dataclass
from random import Random
from typing import Any

import pyarrow as pa
from fuzzed_parquet import parquet_bytes
from fuzzed_rows import CORPORA, MAPPINGS, RAW, by, change_value

from preference_data.formats import IMPORTERS

TOKENS = (
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc2\x85", b'"', b'""', b"'", b"\n", b"\r", b"\r\n", b"\n\n", b"\t",
    b",", b";", b":", b"{", b"}", b"[", b"]", b" ", b"\x0c", b"\x1c", b"\\", b"\\u0000", b"\\ud800", b"null", b"1" * 5000,
)  # fmt: skip
SWAPS = (
    (b",", b";"), (b",", b"\t"), (b'"', b"'"), (b'"', b""), (b"\n", b"\r"), (b"\n", b"\r\n"), (b"\n", b""), (b"}", b"]"),
    (b" ", b"\0"),
)  # fmt: skip
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".JSONL", ".txt", "")
COMPRESSIONS = ("", ".gz", ".zst")


@dataclass(frozen=True)
class Fuzzed:
    """A file, and how it is imported. ``content``: its decompressed bytes, None where the compressed ones were changed."""

    number: int
    name: str
    data: bytes
    content: bytes | None
    is_broken: bool = False
    axis: str = "safety"
    form: str | None = None
    mapping: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    with_pairs: bool = False
    max_rejected: float = 1.0


def fuzzed(number: int) -> Fuzzed:
    """The file of that number."""
    random = Random(number)
    form, rows = random.choice(CORPORA)
    rows = copy.deepcopy(random.choices(rows, k=random.randint(1, 4)) if random.random() < 0.3 else rows)
    if random.random() < 0.15:
        rows += copy.deepcopy(random.choice(CORPORA)[1])
    if random.random() < 0.01:
        rows = [by(worker, row) for worker in range(400) for row in rows]
    for _ in range(random.choice((0, 1, 1, 2, 3, 5))):
        change_value(rows, random)
    suffix = random.choice(SUFFIXES[:6])
    content = _written(rows, suffix, random)
    for _ in range(random.choice((0, 0, 0, 1, 2, 4) if suffix != ".parquet" else (0, 0, 0, 0, 0, 1))):
        content = _changed(content, random)
    return dataclasses.replace(_packed(number, suffix, content, random), **_questions(form, random))


def _questions(form: str, random: Random) -> dict[str, Any]:
    """How the file is imported."""
    mapped = random.random() < (0.8 if form == "mapped" else 0.05)
    known = form if form in IMPORTERS else "native"
    return {
        "axis": random.choice(("helpfulness", "safety")),
        "form": None if mapped else random.choice((None, None, None, known, known, random.choice(list(IMPORTERS)))),
        "mapping": random.choice(MAPPINGS) if mapped else None,
        "with_pairs": random.random() < (0.6 if form == "pairs" else 0.05),
        "max_rejected": random.choice((0.0, 0.01, 0.5, 1.0)),
    }


def _written(rows: list[Any], suffix: str, random: Random) -> bytes:
    """``rows`` as a file of that type, with marks and line ends of several kinds."""
    if suffix == ".parquet":
        return parquet_bytes(rows, random)
    end = random.choice(("\n", "\n", "\n", "\n", "\n", "\n", "\r\n", "\r\n", "\r"))
    if suffix in (".csv", ".tsv"):
        text = _csv_text(rows, end, random)
    else:
        plain = random.random() < 0.5
        lines = (
            [json.dumps(rows, ensure_ascii=plain, indent=random.choice((None, 1)))]
            if suffix == ".json" and random.random() < 0.9
            else [json.dumps(row, ensure_ascii=plain) for row in rows]
        )
        text = end.join(lines) + end * random.randrange(3)
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"', raw).replace(name, raw)
    mark = b"\xef\xbb\xbf" if random.random() < 0.1 else b""
    return mark + text.encode("utf-8", "surrogatepass")


def _csv_text(rows: list[Any], end: str, random: Random) -> str:
    names = list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))
    if random.random() < 0.1:
        random.shuffle(names)
        names += names[: random.randrange(2)]
    file = io.StringIO()
    quoting = random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC))
    writer = csv.writer(file, delimiter=random.choice(",;\t|"), quoting=quoting, lineterminator=end)
    writer.writerow(names)
    for row in rows:
        cells = [row.get(name) for name in names] if isinstance(row, dict) else [row]
        writer.writerow([cell if isinstance(cell, str) else "" if cell is None else json.dumps(cell) for cell in cells])
    return file.getvalue()


def _changed(data: bytes, random: Random) -> bytes:
    """``data`` with one change of bytes."""
    start = random.randrange(len(data) + 1)
    end = min(len(data), start + int(random.expovariate(1 / 20)))
    before, span, after = data[:start], data[start:end], data[end:]
    match random.randrange(12):
        case 0:
            return before + random.randbytes(len(span)) + after
        case 1 | 2 | 3:
            return before + random.choice(TOKENS) + span + after
        case 4:
            return before + after
        case 5:
            return before + span * random.choice((2, 2, 40)) + after
        case 6:
            return before
        case 7 | 8:
            old, new = random.choice(SWAPS)
            return data.replace(old, new, random.choice((-1, 1, 3)))
        case 9:
            other = random.choice(CORPORA)[1]
            return data + random.choice((b"", b"\n")) + _written(copy.deepcopy(other), random.choice(SUFFIXES[:6]), random)
        case 10:
            return before + bytes([data[start] ^ 1 << random.randrange(8)]) + data[start + 1 :] if start < len(data) else data
        case _:
            return data * 2 if random.random() < 0.8 else b""


def compressed_as(compression: str, data: bytes) -> bytes:
    if compression != ".zst":
        return gzip.compress(data, 1, mtime=0) if compression else data
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


def _packed(number: int, suffix: str, content: bytes, random: Random) -> Fuzzed:
    """The file, perhaps compressed, cut off after that, compressed twice, or with a name that does not say what it is."""
    compression = random.choices(COMPRESSIONS, (8, 1, 1))[0] if suffix != ".parquet" else ""
    stem = random.choice(("export", "Export 2", "a.b", "été", "-x"))
    data = compressed_as(compression, content)
    whole = Fuzzed(number, stem + suffix + compression, data, content)
    if random.random() < 0.06:
        told = random.choice(COMPRESSIONS)
        suffix = random.choice(SUFFIXES)
        is_broken = told != compression or suffix in (".txt", "") or (suffix == ".parquet" and told != "")
        return dataclasses.replace(
            whole, name=stem + suffix + told, content=None if is_broken else content, is_broken=is_broken
        )
    if not compression or random.random() < 0.5:
        return whole
    place = random.randrange(len(data))
    match random.randrange(4):
        case 0 | 1:
            return dataclasses.replace(whole, data=data[:place], content=None, is_broken=True)
        case 2:
            half = random.randrange(len(content) + 1)
            return dataclasses.replace(
                whole, data=compressed_as(compression, content[:half]) + compressed_as(compression, content[half:])
            )
        case _:
            return dataclasses.replace(whole, data=_changed(data, random), content=None)
