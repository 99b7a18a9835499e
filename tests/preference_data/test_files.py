"""Files of every type and compression give the same rows; rows that cannot be read cost themselves alone."""

import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preference_data.files.opening import AnnotationFileError, check_file, plain_name
from preference_data.files.reading import read_rows
from preference_data.files.rows import MAX_ROW
from preference_data.importing import import_files

ROWS = [
    {"prompt": "Où est l'été?", "response_a": 'ici,\n"là"', "response_b": "no", "choice": "a", "rating": "better"},
    {"prompt": [{"role": "user", "content": "q"}], "response_a": "42", "response_b": "x", "choice": "b", "rating": None},
]


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


def csv_bytes(separator=",", mark=b""):
    def cell(value):
        text = json.dumps(value) if isinstance(value, list) else value or ""
        return '"' + text.replace('"', '""') + '"'

    lines = [separator.join(ROWS[0]), *(separator.join(cell(value) for value in row.values()) for row in ROWS)]
    return mark + "\r\n".join(lines).encode() + b"\r\n"


JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
LIST = json.dumps(ROWS, indent=1).encode()
FILES = {
    "f.jsonl": JSONL,
    "f.ndjson": JSONL.replace(b"\n", b"\r\n"),
    "marked.jsonl": b"\xef\xbb\xbf" + JSONL,
    "open-end.jsonl": JSONL.rstrip(b"\n"),
    "f.jsonl.gz": gzip.compress(JSONL),
    "two-members.jsonl.gz": gzip.compress(JSONL[:40]) + gzip.compress(JSONL[40:]),
    "f.jsonl.zst": zstd(JSONL),
    "f.json": LIST,
    "marked.json": b"\xef\xbb\xbf" + LIST,
    "lines.json": JSONL,
    "f.json.zst": zstd(LIST),
    "f.csv": csv_bytes(),
    "marked.csv": csv_bytes(mark=b"\xef\xbb\xbf"),
    "semicolons.csv": csv_bytes(";"),
    "f.tsv": csv_bytes("\t"),
    "f.CSV.GZ": gzip.compress(csv_bytes()),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "f.jsonl"
    path.write_bytes(JSONL)
    return import_files([path], "helpfulness", source="s", max_rejected=0).comparisons


@pytest.mark.parametrize("name", FILES)
def test_the_same_rows_come_out_of_every_type_and_compression(tmp_path, name, expected):
    (tmp_path / name).write_bytes(FILES[name])
    found = import_files([tmp_path / name], "helpfulness", source="s", max_rejected=0)
    assert found.comparisons == expected and len(expected) == 2
    assert expected[0].chosen == 'ici,\n"là"' and expected[1].chosen == "x"


def test_parquet_rows(tmp_path, expected):
    texts = [
        {**row, "prompt": row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][0]["content"]} for row in ROWS
    ]
    pq.write_table(pa.Table.from_pylist(texts), tmp_path / "f.parquet")
    assert import_files([tmp_path / "f.parquet"], "helpfulness", source="s", max_rejected=0).comparisons == expected
    # pandas writes NaN where a number is not known; a reject shows the row as JSON
    rows = [{**texts[0], "temperature_a": float("nan")}, {**texts[1], "temperature_a": 0.5, "choice": "c"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "g.parquet")
    result = import_files([tmp_path / "g.parquet"], "helpfulness", max_rejected=1)
    assert result.comparisons[0].chosen_temperature is None
    (reject,) = result.rejects
    assert (reject.line, reject.reason, json.loads(reject.row)["choice"]) == (2, "unknown_choice", "c")


def test_parquet_text_that_is_no_utf8_costs_its_row(tmp_path):
    columns = {name: pa.array([ROWS[0][name]] * 3) for name in ("response_a", "response_b", "choice")}
    broken = pa.array([b"one", b"\xff\xfe", b"three"]).view(pa.string())
    pq.write_table(pa.table({"prompt": broken, **columns}), tmp_path / "f.parquet")
    result = import_files([tmp_path / "f.parquet"], "helpfulness", max_rejected=1)
    assert [each.prompt[0]["content"] for each in result.comparisons] == ["one", "three"]
    assert [(reject.line, reject.reason) for reject in result.rejects] == [(2, "invalid_text")]


def test_parquet_values_that_python_cannot_hold_cost_their_row(tmp_path):
    rows = pa.table({name: [value] * 3 for name, value in zip(("response_a", "response_b", "choice"), "xya", strict=True)})
    too_late = pa.array([1, 2**62, 1], pa.timestamp("us"))
    for number, (column, kept) in enumerate(
        [(too_late, ["q0", "q2"]), (pa.array([1] * 3, pa.timestamp("us", "Mars/One")), [])]
    ):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(rows.append_column("prompt", pa.array(["q0", "q1", "q2"])).append_column("when", column), path)
        result = import_files([path], "helpfulness", "native", max_rejected=1)
        assert [each.prompt[0]["content"] for each in result.comparisons] == kept
        assert {reject.reason for reject in result.rejects} == {"malformed"} and len(result.rejects) == 3 - len(kept)
        assert json.loads(result.rejects[0].row)["prompt"] == ("q1" if kept else "q0")
        again = import_files([path], "helpfulness", "native", max_rejected=1)
        assert again.rejects == result.rejects


def test_parquet_columns_named_twice_are_refused(tmp_path):
    columns = [pa.array([text]) for text in ("q", "x", "y", "a", "b")]
    table = pa.Table.from_arrays(columns, names=["prompt", "response_a", "response_b", "choice", "choice"])
    pq.write_table(table, tmp_path / "f.parquet")
    with pytest.raises(AnnotationFileError, match="columns named twice: 'choice'"):
        import_files([tmp_path / "f.parquet"], "helpfulness")


def test_text_after_a_json_list_is_no_lost_row(tmp_path):
    (tmp_path / "f.json").write_bytes(LIST + b"\n" + LIST)
    with pytest.raises(AnnotationFileError, match=f"more text follows the list, in line {LIST.count(10) + 2}"):
        list(read_rows(tmp_path / "f.json"))
    (tmp_path / "f.json").write_bytes(LIST + b" \r\n\n")
    assert len(list(read_rows(tmp_path / "f.json"))) == 2


def test_lines_of_a_json_list_are_where_its_rows_start(tmp_path):
    (tmp_path / "f.json").write_bytes(b'\n[ 3,\n\n {"a":\n 1},{"b": "\\u0000"},\n "\xff" ]\n')
    rows = list(read_rows(tmp_path / "f.json"))
    assert [(row.line, row.text) for row in rows] == [(2, "3"), (4, '{"a":\n 1}'), (5, '{"b": "\\u0000"}'), (6, '"\\xff"')]
    assert rows[1].values == {"a": 1} and rows[2].values == {"b": "\0"}
    assert [row.problem and row.problem.reason for row in rows] == ["malformed", None, None, "invalid_text"]


def test_a_large_row_is_refused_whole_and_the_next_one_is_read(tmp_path):
    large = b'{"prompt": "' + b"x" * 50_000_000 + b'"}'
    (tmp_path / "f.jsonl").write_bytes(JSONL + large + b"\n" + JSONL.replace(b"no", b"nay").replace(b'"x"', b'"y"'))
    result = import_files([tmp_path / "f.jsonl"], "helpfulness", max_rejected=1)
    assert (result.read, result.accepted, result.rejected) == (5, 4, {"too_large": 1})
    assert result.rejects[0].row.encode() == large and f"{MAX_ROW:,}" in result.rejects[0].fix


def test_ten_thousand_columns_and_columns_without_a_name(tmp_path):
    names = [*ROWS[0], "", *(f"c{number}" for number in range(10_000)), ""]
    cells = ["q", "yes", "no", "a", "better"]
    (tmp_path / "f.csv").write_text(",".join(names) + "\n" + ",".join([*cells, *["1"] * 10_002]) + "\n")
    result = import_files([tmp_path / "f.csv"], "helpfulness", max_rejected=0)
    assert result.accepted == 1 and result.ignored_columns["(column 6)"] == 1
    assert len(result.ignored_columns) == 10_002


def test_a_separator_that_changes_costs_the_rows_that_have_it(tmp_path):
    (tmp_path / "f.csv").write_text("prompt,response_a,response_b,choice\nq,yes,no,a\nr;yes;no;b\ns,yes,no,b\n")
    result = import_files([tmp_path / "f.csv"], "helpfulness", max_rejected=1)
    assert [each.prompt[0]["content"] for each in result.comparisons] == ["q", "s"]
    assert [(reject.line, reject.reason, reject.row) for reject in result.rejects] == [(3, "malformed", "r;yes;no;b")]


def test_the_separator_is_told_by_the_first_line_that_is_not_blank(tmp_path):
    (tmp_path / "f.csv").write_bytes(b"\n \r\n" + csv_bytes(";"))
    assert [row.values["choice"] for row in read_rows(tmp_path / "f.csv")] == ["a", "b"]


def test_quotes_that_are_never_closed_are_not_looked_for_over_and_over(tmp_path):
    # each line opens a quote that the next one closes and opens anew, to the end of the file
    (tmp_path / "f.csv").write_bytes(b"a,b\n" + b'a",",b\n' * 1000)
    rows = list(read_rows(tmp_path / "f.csv"))
    assert [row.line for row in rows] == [*range(2, 1002)] and {row.problem.reason for row in rows} == {"malformed"}
    (tmp_path / "f.csv").write_bytes(b"a,b\n" + b'a",",%b\n' % (b"b" * 2000) * 50_000)
    with pytest.raises(AnnotationFileError, match=r"many rows open a quote that no line closes"):
        list(read_rows(tmp_path / "f.csv"))


@pytest.mark.parametrize("compressed", [gzip.compress(JSONL * 3000), zstd(JSONL * 3000)], ids=["gz", "zst"])
def test_a_compressed_file_that_was_cut_off_is_refused_as_a_whole(tmp_path, compressed):
    path = tmp_path / ("f.jsonl.gz" if compressed[:2] == b"\x1f\x8b" else "f.jsonl.zst")
    for cut in (len(compressed) // 2, len(compressed) - 3):
        path.write_bytes(compressed[:cut])
        with pytest.raises(AnnotationFileError, match=r"cannot be decompressed to its end.*copied completely"):
            import_files([path], "helpfulness", max_rejected=1)


def test_what_is_no_readable_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(AnnotationFileError, match="not a regular file"):
        check_file(tmp_path / "pipe.jsonl")
    (tmp_path / "closed.jsonl").write_bytes(JSONL)
    (tmp_path / "closed.jsonl").chmod(0)
    if not os.access(tmp_path / "closed.jsonl", os.R_OK):  # root reads everything
        with pytest.raises(AnnotationFileError, match="cannot be read"):
            check_file(tmp_path / "closed.jsonl")


def test_a_name_that_is_no_utf8_is_refused(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.jsonl")
    path.write_bytes(JSONL)
    with pytest.raises(AnnotationFileError, match="its name is not UTF-8"):
        check_file(path)


@pytest.mark.parametrize("name", ["f.jsonl", "f.json", "f.csv"])
def test_a_byte_order_mark_alone_is_no_row(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf")
    assert list(read_rows(tmp_path / name)) == []


def test_plain_names(tmp_path):
    names = {"a.jsonl": "a", "b.v2.json.gz": "b.v2", "c.PARQUET": "c", "d.csv.zst": "d"}
    assert {name: plain_name(tmp_path / name) for name in names} == names
