"""Files that were changed in every way: each row is accepted or rejected, or the file is refused with what to do about it.

A case is made by its number, which a failure names: ``fuzzed(number)`` is the file.
"""

import json
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fuzzed_files import Fuzzed, fuzzed
from fuzzed_rows import CORPORA, PAIRS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from import_checks import (
    SEVERAL,
    at_most,
    check_no_text_is_lost,
    check_rejects,
    check_sound,
    column_names,
    kind_of,
    must_be_read,
    num_judgements,
    num_rows,
)  # fmt: skip
from importer_rows import broken
from typer.testing import CliRunner

from commands.cli import app
from preference_data.column_map import ColumnMap, ColumnMapError
from preference_data.comparison import Comparison
from preference_data.files.opening import AnnotationFileError
from preference_data.formats import IMPORTERS
from preference_data.importing import Import, TooManyRejects
from preference_data.judgement import DROPPED_BY_RULE
from preference_data.parquet import RecordWriter, read_records

MOST_SECONDS = 20
RUNNER = CliRunner()


def check_import(case, folder):
    """Import ``case`` in ``folder`` and check all that must hold. Returns (the import, how it ended)."""
    source, out = folder / "in", folder / "out"
    source.mkdir(parents=True)
    out.mkdir()
    path = source / case.name
    path.write_bytes(case.data)
    form = ColumnMap(*case.mapping) if case.mapping else case.form
    work = Import(case.axis, form, pairs={pair.item_id: pair for pair in PAIRS} if case.with_pairs else None)
    kept, ended = [], "whole"
    try:
        with RecordWriter(out / "kept.parquet", Comparison) as writer:
            for some in work.comparisons([path]):
                writer.write(some)
                kept += some
    except AnnotationFileError as error:
        assert error.asked and error.found and error.do
        if case.content is not None and must_be_read(kind_of(case.name, case.content), case.content):
            assert not form and error.asked.startswith("recognise the format")
        ended = "refused"
    with (out / "rejects.jsonl").open("wb") as file:
        work.rejects.write_to(file)
    rejects = [json.loads(line) for line in (out / "rejects.jsonl").read_bytes().splitlines()]
    assert work.read == work.accepted + len(rejects) and work.accepted == len(kept)
    assert work.rejected == Counter(reject["reason"] for reject in rejects)
    for comparison in kept:
        check_sound(comparison, case.axis)
    assert len({(each.item_id, each.annotator or "") for each in kept}) == len(kept)
    assert read_records(out / "kept.parquet", Comparison) == kept
    if ended == "whole":
        check_whole(case, path, work, rejects)
        ended = how_it_is_judged(case, work, rejects)
    assert {each.name for each in source.iterdir()} == {case.name} and path.read_bytes() == case.data
    assert {each.name for each in out.iterdir()} == {"kept.parquet", "rejects.jsonl"}
    return work, ended


def check_whole(case, path, work, rejects):
    """Of a file that was read to its end: every row of it is among the judgements."""
    assert not case.is_broken
    (form,) = work.formats.values()
    kind = None if case.content is None else kind_of(case.name, case.content)
    check_rejects(rejects, path, kind, case.content, form not in SEVERAL)
    if kind is None:
        return
    rows, judgements = num_rows(kind, case.content), num_judgements(form, kind, case.content)
    assert judgements in (None, work.read) and work.read >= (rows or 0)
    names = column_names(kind, case.content) if rows else []
    assert len(set(names)) == len(names)
    if kind != "parquet":
        check_no_text_is_lost(path, kind, case.content)


def how_it_is_judged(case, work, rejects):
    """Whether the import as a whole is refused, which the counts say."""
    faulty = sum(reject["reason"] not in DROPPED_BY_RULE for reject in rejects)
    is_too_many = case.max_rejected < 1 and (not work.accepted or faulty / work.read > case.max_rejected)
    try:
        if isinstance(work.importer, ColumnMap):
            work.importer.check_all_seen()
        work.check(case.max_rejected)
    except ColumnMapError:
        return "column not seen"
    except TooManyRejects:
        assert is_too_many
        return "too many rejects"
    assert not is_too_many
    return "imported"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Folders where programs write when nobody told them where."""
    folders = [tmp_path / "here", tmp_path / "temporary"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.chdir(folders[0])
    monkeypatch.setattr(tempfile, "tempdir", str(folders[1]))
    return folders


def check_all(numbers, tmp_path, elsewhere):
    """Check the files of ``numbers``; how many ended how, which formats were read, which reasons rows were refused for."""
    endings, formats, reasons, slowest = Counter(), Counter(), Counter(), (0.0, -1)
    for number in numbers:
        folder, start = tmp_path / str(number), time.perf_counter()
        try:
            with at_most(MOST_SECONDS):
                work, ended = check_import(fuzzed(number), folder)
            assert not any(child for each in elsewhere for child in each.iterdir())
        except Exception as error:
            raise AssertionError(f"fuzzed({number}) in {folder}: {type(error).__name__}: {error}") from error
        slowest = max(slowest, (time.perf_counter() - start, number))
        shutil.rmtree(folder)
        endings[ended] += 1
        reasons += Counter(accepted=work.accepted, **work.rejected)
        formats.update(work.formats.values())
    return endings, formats, reasons, slowest


@given(
    st.lists(broken(*(row for _, rows in CORPORA for row in rows if isinstance(row, dict))), min_size=1, max_size=3),
    st.sampled_from([None, *IMPORTERS]),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_that_are_broken_anywhere(tmp_path, rows, form, is_list, with_pairs):
    text = json.dumps(rows) if is_list else "".join(json.dumps(row) + "\n" for row in rows)
    data, folder = text.encode(), Path(tempfile.mkdtemp(dir=tmp_path))
    case = Fuzzed(-1, "f.json" if is_list else "f.jsonl", data, data, form=form, with_pairs=with_pairs)
    work, ended = check_import(case, folder)
    if ended == "refused":
        assert form is None or (is_list and "Infinity" in text)
    else:
        assert ended == "imported" and work.read >= len(rows)


def test_fuzzed_files(tmp_path, elsewhere):
    endings, formats, reasons, _ = check_all(range(1500), tmp_path, elsewhere)
    assert formats.keys() == IMPORTERS.keys() | {"mapped"}
    assert all(endings[name] > 50 for name in ("imported", "refused", "too many rejects"))
    assert len(reasons) > 15 and reasons["accepted"] > 1000


@pytest.mark.slow
def test_twenty_thousand_fuzzed_files(tmp_path, elsewhere):
    endings, formats, reasons, slowest = check_all(range(1500, 21500), tmp_path, elsewhere)
    print(endings, formats, reasons, f"slowest (seconds, number): {slowest}", sep="\n")
    assert endings.total() == 20_000


def run_import(case, folder, monkeypatch):
    """The command line's answer to ``case`` in the empty ``folder``, after checking all that it left there."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = folder / case.name
    path.write_bytes(case.data)
    columns, values = case.mapping or ((), ())
    options = ["--axis", case.axis, "--max-rejected", str(case.max_rejected), "--registry", "registry"]
    options += ["--format", case.form] if case.form else []
    options += [part for name, each in (("--map", columns), ("--map-value", values)) for one in each for part in (name, one)]
    result = RUNNER.invoke(app, ["import", str(path), *options])
    assert result.exit_code in (0, 2) and isinstance(result.exception, SystemExit | None), repr(result.exception)
    assert "Traceback" not in result.output and ("error: " in result.output) == (result.exit_code == 2)
    check_left({each.relative_to(folder) for each in folder.rglob("*") if each.is_file()} - {Path(case.name)}, result)
    return result


def check_left(files, result):
    """The ``files`` beside the one imported: a whole artifact where it succeeded, none where not; at most one of rejects."""
    files = {each for each in files if not each.name.endswith(".lock")}
    rejects = [each for each in files if len(each.parts) == 1 and each.name.endswith(".rejects.jsonl")]
    manifests = [each for each in files if each.match("registry/preferences/*/1/manifest.json")]
    assert len(rejects) <= 1 and len(manifests) == (result.exit_code == 0)
    assert all(manifests and manifests[0].parent in each.parents for each in files - {*rejects})
    if manifests:
        metrics = json.loads(manifests[0].read_text())["metrics"]
        sides = [read_records(manifests[0].with_name(f"{side}.parquet"), Comparison) for side in ("train", "test")]
        assert metrics["accepted"] == sum(map(len, sides)) and metrics["read"] - metrics["accepted"] == num_rejects(rejects)


def num_rejects(files):
    return sum(len(each.read_bytes().splitlines()) for each in files)


def test_fuzzed_files_through_the_command_line(tmp_path, elsewhere, monkeypatch):
    endings = Counter()
    for number in range(2000, 2060):
        case = replace(fuzzed(number), with_pairs=False)
        try:
            work, ended = check_import(case, tmp_path / f"alone {number}")
            result = run_import(case, tmp_path / str(number), monkeypatch)
            is_made = ended == "imported" and work.accepted > 0
            assert (result.exit_code == 0) == is_made, f"{ended}: {result.output}"
            assert not any(child for each in elsewhere for child in each.iterdir())
        except Exception as error:
            raise AssertionError(f"fuzzed({number}): {type(error).__name__}: {error}") from error
        endings[ended] += 1
    assert endings["imported"] > 8 and endings["refused"] > 8 and endings["too many rejects"] > 8


def test_names_of_files_that_no_artifact_can_have(tmp_path, monkeypatch):
    row = b'{"prompt": "q", "response_a": "x", "response_b": "y", "choice": "a"}'
    for number, name in enumerate(("été.jsonl", "-x.jsonl", "A b\n.jsonl", "日本.jsonl")):
        assert run_import(Fuzzed(0, name, row, row), tmp_path / str(number), monkeypatch).exit_code == 0


def test_rejects_are_not_written_over_what_is_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.rejects.jsonl"
    path.write_text("{}")
    result = RUNNER.invoke(app, ["import", str(path), "--axis", "safety", "--name", "x", "--format", "native"])
    assert result.exit_code == 2 and "written over x.rejects.jsonl" in result.output and path.read_text() == "{}"
