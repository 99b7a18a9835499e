"""What must hold of any import, found by other means: how many rows a file has, where they stand, and which are sound."""

import csv
import hashlib
import io
import itertools
import json
import math
import signal
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from preference_data.files.reading import read_rows
from preference_data.judgement import REASONS
from preference_data.messages import check_prompt

BLANK = " \t\n\r\x0b\x0c"
RATINGS = {"significantly_better", "better", "slightly_better", "negligibly_better", "unrated"}
SEVERAL = {"argilla", "label_studio", "stack_exchange"}
"""Formats with several judgements a row."""


def kind_of(name, content):
    """``lines``, ``list``, ``csv`` or ``parquet``."""
    suffix = name.lower().removesuffix(".gz").removesuffix(".zst").rpartition(".")[2]
    if suffix == "json":
        return "list" if text_of(content).lstrip(BLANK)[:1] == "[" else "lines"
    return {"jsonl": "lines", "ndjson": "lines", "csv": "csv", "tsv": "csv", "parquet": "parquet"}[suffix]


def text_of(content):
    return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "backslashreplace")


def num_rows(kind, content):
    """How many rows there are; None where another reader finds no sense in the file as a whole."""
    try:
        return {"lines": _num_lines, "list": _num_elements, "csv": _num_records, "parquet": _num_parquet}[kind](content)
    except (ValueError, RecursionError, csv.Error, pa.ArrowException, OSError):
        return None


def num_judgements(form, kind, content):
    """How many judgements the rows hold; None where that is not worked out here."""
    if form not in SEVERAL:
        return num_rows(kind, content)
    if kind not in ("lines", "list") or num_rows(kind, content) is None:
        return None
    text = text_of(content)
    rows = _parsed(text) if kind == "list" else [_row(line) for line in text.split("\n") if not _is_blank(line)]
    counts = [
        {"argilla": _num_people, "label_studio": _num_annotations, "stack_exchange": _num_pairs}[form](row) for row in rows
    ]
    return None if None in counts else sum(counts)


def _row(line):
    try:
        return _parsed(line)
    except (ValueError, RecursionError):
        return None


def _num_people(row):
    """How many answered a row of Argilla's flat form; None where answers have no names, or are not told apart by them."""
    if not isinstance(row, dict):
        return 1
    people = set()
    for question in (
        "choice",
        "rating",
        "safety_bin",
        *(f"safe_{each}" for each in ("a", "b", "1", "2", "chosen", "rejected")),
    ):
        values, users, statuses = (row.get(f"{question}.responses{ending}") for ending in ("", ".users", ".status"))
        if values is None and question != "choice":
            continue
        if not all(isinstance(each, list) and len(each) == len(values) for each in (values, users, statuses)):
            return None
        if not all(isinstance(user, str) and user for user in users) or len(set(users)) < len(users):
            return None
        people |= set(users)
    return None if isinstance(row.get("fields"), dict) else max(1, len(people))


def _num_annotations(row):
    has_several = isinstance(row, dict) and isinstance(row.get("data"), dict) and isinstance(row.get("annotations"), list)
    return max(1, len(row["annotations"])) if has_several else 1


def _num_pairs(row):
    """Pairs of answers whose scores differ, ten at most; a row that none can be made of counts as one."""
    answers = row.get("answers") if isinstance(row, dict) and isinstance(row.get("question"), str) else None
    if not isinstance(answers, list) or not all(
        isinstance(each, dict) and isinstance(each.get("text"), str) for each in answers
    ):
        return 1
    scores = [each.get("pm_score") for each in answers]
    if not all(type(score) in (int, float) and abs(score) < 1e15 for score in scores):
        return 1
    return min(10, max(1, sum(one != other for one, other in itertools.combinations(scores, 2))))


def must_be_read(kind, content):
    """Whether nothing is wrong with the file as a whole, so that once its format is named, only rows can be refused."""
    if not num_rows(kind, content) or content.startswith((b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        return False
    names = column_names(kind, content)
    return len(set(names)) == len(names)


def column_names(kind, content):
    """What the columns of a CSV or Parquet file are called; in CSV some may have no name."""
    if kind == "csv":
        return [name.strip() for name in next(_records(itertools.dropwhile(_is_blank, _lines(content)))) if name.strip()]
    return pq.read_schema(io.BytesIO(content)).names if kind == "parquet" else []


def _num_lines(content):
    return sum(not _is_blank(line) for line in text_of(content).split("\n"))


def _num_elements(content):
    return len(_parsed(text_of(content)))


def _parsed(text):
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name):
    raise ValueError(name)


def _num_records(content):
    """Records after the header; whatever quotes hold is one record."""
    lines = _lines(content)
    reader = _records(lines)
    places = [0] + [reader.line_num for _ in reader]
    records = ["".join(lines[start:end]) for start, end in itertools.pairwise(places)]
    return max(0, sum(not _is_blank(record) for record in records) - 1)


def _lines(content):
    return [line + "\n" for line in text_of(content).split("\n")]


def _records(lines):
    lines = list(lines)
    header = next((line for line in lines if not _is_blank(line)), "")
    return csv.reader(lines, strict=True, delimiter=max(",;\t|", key=header.count))


def _num_parquet(content):
    return pq.ParquetFile(io.BytesIO(content)).read().num_rows


def _is_blank(text):
    return not text.strip(BLANK)


def check_no_text_is_lost(path, kind, content):
    """The texts of the rows, one after the other, are the text of the file; of CSV from the first row below the header on."""
    rows = list(read_rows(path))
    if kind == "list":
        spaceless = "".join(text_of(content).split())
        texts = ",".join("".join(row.text.split()) for row in rows)
        assert spaceless in (f"[{texts}]", f"[{texts},]")
        return
    lines = text_of(content).split("\n")[rows[0].line - 1 if rows else 0 :]
    held = [line for row in rows for line in row.text.split("\n")]
    assert _filled(held) == _filled(lines)


def _filled(lines):
    return [line.strip(BLANK) for line in lines if not _is_blank(line)]


def check_rejects(rejects, path, kind, content, is_single):
    """Each has a known reason, says how to fix it, and holds its row as it stands at its line; ``kind`` None: not known."""
    lines = text_of(content).split("\n") if kind in ("lines", "list", "csv") else None
    for reject in rejects:
        assert set(reject) == {"file", "line", "reason", "fix", "row"} and reject["file"] == str(path)
        assert reject["reason"] in REASONS and len(reject["fix"]) > 20 and reject["line"] >= 1
        if lines is not None:
            start = reject["line"] - 1
            here = "\n".join(lines[start : start + 1 + reject["row"].count("\n")])
            assert reject["row"] in here if kind == "list" else reject["row"].strip(BLANK) == here.strip(BLANK)
        elif kind == "parquet":
            assert isinstance(json.loads(reject["row"]), dict)
    places = [reject["line"] for reject in rejects]
    assert places == sorted(places) and (kind in (None, "list") or not is_single or len(set(places)) == len(places))


def check_sound(comparison, axis):
    """It can be stored and learned from, and its ids are the hashes that they are said to be."""
    chosen, rejected, prompt = comparison.chosen, comparison.rejected, comparison.prompt
    check_prompt(prompt)
    assert chosen.strip() and rejected.strip() and chosen.strip() != rejected.strip()
    assert comparison.axis == axis and comparison.rating in RATINGS
    assert (comparison.chosen_safe, comparison.rejected_safe) != (False, True)
    for label in (comparison.is_safety, comparison.chosen_safe, comparison.rejected_safe):
        assert label in (None, True, False) and isinstance(label, bool | None)
    for temperature in (comparison.chosen_temperature, comparison.rejected_temperature):
        assert temperature is None or (type(temperature) is float and math.isfinite(temperature) and temperature >= 0)
    labels = ("source", "risk_category", "annotator", "batch", "chosen_policy", "rejected_policy")
    texts = [*(getattr(comparison, name) for name in labels), *(each["content"] for each in prompt), chosen, rejected]
    assert comparison.source and all(type(each) is str and "\0" not in each and each.encode() for each in texts if each)
    prompt_id = _hash(
        json.dumps([[each["role"], each["content"]] for each in prompt], ensure_ascii=False, separators=(",", ":"))
    )
    item = _hash("\x1f".join([prompt_id, *sorted([chosen, rejected])]))
    judgement = _hash("\x1f".join([item, axis, comparison.annotator or "", chosen]))
    assert (comparison.prompt_id, comparison.item_id, comparison.id) == (prompt_id, item, judgement)


def _hash(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def at_most(seconds):
    """Raise TimeoutError in what takes longer."""

    def stop(*_):
        raise TimeoutError(f"it takes more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
