import json
import subprocess
import sys
from pathlib import Path

import pytest
from comparisons import EVERY_LABEL, comparison
from native_rows import BROKEN, native, write_lines
from row_files import write

from preference_data.files.opening import AnnotationFileError
from preference_data.importing import TooManyRejects, import_files
from preference_data.judgement import DROPPED_BY_RULE, REASONS
from preference_data.messages import assistant, user

ROOT = Path(__file__).parents[2]


def test_there_is_a_broken_row_for_every_reason():
    # the others come from formats, pairs and limits that native rows alone do not have
    elsewhere = {"different_prompts", "not_handed_out", "repeated", "too_long"}
    assert {reason for reason, _ in BROKEN} == set(REASONS) - elsewhere


@pytest.mark.parametrize(("reason", "row"), BROKEN)
def test_a_broken_row_is_rejected_with_its_reason_line_and_text(tmp_path, reason, row):
    path = write_lines(tmp_path / "f.jsonl", native(0), "", row)
    result = import_files([path], "helpfulness", max_rejected=1)
    assert (result.read, result.accepted, result.rejected) == (2, 1, {reason: 1})
    (reject,) = result.rejects
    assert (reject.file, reject.line, reject.reason) == (str(path), 3, reason)
    assert reject.fix
    expected = row if isinstance(row, str) else json.dumps(row) if isinstance(row, dict) else '{"prompt": "\\xff"}'
    assert reject.row == expected


def test_ten_good_and_five_broken_rows(tmp_path):
    rows = [native(number) for number in range(10)]
    broken = {3: "{", 7: native(choice=...), 8: native(99, rating="great"), 12: native(98, response_b="yes"), 15: "null"}
    lines = [broken.get(line) or rows.pop(0) for line in range(1, 16)]
    path = write_lines(tmp_path / "f.jsonl", *lines)
    with pytest.raises(TooManyRejects, match=r"4 of 15 rows are faulty.*1 broken_json, 1 malformed, 1 missing_field") as caught:
        import_files([path], "helpfulness")
    work = caught.value.work
    assert (work.accepted, work.read, len(work.rejects)) == (10, 15, 5)
    assert [reject.line for reject in work.rejects] == sorted(broken)
    assert f"{path}:3: broken_json" in str(caught.value)
    with (tmp_path / "rejects.jsonl").open("wb") as file:
        work.rejects.write_to(file)
    written = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert [row["line"] for row in written] == sorted(broken)
    assert json.loads(written[2]["row"]) == broken[8]
    assert set(written[0]) == {"file", "line", "reason", "fix", "row"}


def test_rows_dropped_by_rule_are_no_fault_of_the_file(tmp_path):
    rows = [native(0), native(1, response_b="yes"), native(2, safe_a=False, safe_b=True)]
    result = import_files([write_lines(tmp_path / "f.jsonl", *rows)], "safety", max_rejected=0)
    assert result.rejected == {"identical_responses": 1, "chosen_unsafe": 1}
    assert set(result.rejected) < set(DROPPED_BY_RULE)
    with pytest.raises(TooManyRejects, match="none of the 2 rows can be used"):
        import_files([write_lines(tmp_path / "g.jsonl", *rows[1:])], "safety")


def test_the_share_allowed_is_allowed(tmp_path):
    path = write_lines(tmp_path / "f.jsonl", *[native(number) for number in range(99)], "{")
    assert import_files([path], "helpfulness", max_rejected=0.01).accepted == 99
    with pytest.raises(TooManyRejects):
        import_files([path], "helpfulness", max_rejected=0.009)


def test_every_native_field_arrives(tmp_path):
    row = native(
        rating="better",
        choice="b",
        safe_a=False,
        safe_b=True,
        is_safety=True,
        risk_category="r",
        annotator=7,
        batch="w1",
        policy_a="p@1",
        policy_b="p@2",
        temperature_a=1,
        temperature_b=0.5,
    )
    (kept,) = import_files([write_lines(tmp_path / "f.jsonl", row)], "helpfulness").comparisons
    assert kept == comparison("question 0", "no", "yes", "helpfulness", "f", **EVERY_LABEL)


def test_csv_and_jsonl_of_the_same_judgements_are_the_same_comparisons(tmp_path):
    messages = [{"role": "system", "content": "Be brief."}, user('He said "hi",\nthen left')]
    rows = [
        native(0, prompt=messages, safe_a=True, safe_b=False, temperature_a=0.5, rating="better", is_safety=True),
        native(1, prompt="[1, 2] is a list", response_a="line one\r\nline two, with comma"),
    ]
    from_csv = import_files([write(tmp_path / "f.csv", rows)], "helpfulness", source="s").comparisons
    from_jsonl = import_files([write_lines(tmp_path / "f.jsonl", *rows)], "helpfulness", source="s").comparisons
    assert from_csv == from_jsonl and len(from_csv) == 2


def test_csv_lines_are_physical_lines_and_a_broken_quote_costs_one_row(tmp_path):
    text = (
        "prompt,response_a,response_b,choice,safe_a\r\n"
        'q1,"two\r\nlines",no,a,TRUE\r\n'  # 2-3
        "q2,yes,no,c,\r\n"  # 4
        "\r\n"
        "q3,yes,no\r\n"  # 6
        'q4,"never closed,no,a,\r\n'  # 7
        "q5,yes,no,b,\r\n"
        "q6,yes,no,b,maybe\r\n"  # 9
        "q7,,no,b,\r\n"  # 10
        '"[{""role"": ""user""",yes,no,b,\r\n'  # 11
    )
    (tmp_path / "f.csv").write_bytes(text.encode() + b"q8,y\xffs,no,b,\r\n")
    result = import_files([tmp_path / "f.csv"], "helpfulness", max_rejected=1)
    assert [(reject.line, reject.reason) for reject in result.rejects] == [
        (4, "unknown_choice"),
        (6, "malformed"),
        (7, "malformed"),
        (9, "malformed"),
        (10, "empty"),
        (11, "malformed"),
        (12, "invalid_text"),
    ]
    assert result.rejects[2].row == 'q4,"never closed,no,a,' and result.rejects[-1].row == "q8,y\\xffs,no,b,"
    assert [kept.prompt[0]["content"] for kept in result.comparisons] == ["q1", "q5"]
    assert result.comparisons[0].chosen == "two\r\nlines" and result.comparisons[0].chosen_safe is True
    assert result.read == 9


def test_anthropic_transcripts(tmp_path):
    shared = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Name a colour"
    rows = [
        {"chosen": f"{shared}\n\nAssistant: Blue, as the sea.", "rejected": f"{shared}\n\nAssistant: No."},
        {"chosen": f"{shared}\n\nAssistant: Red.", "rejected": "\n\nHuman: Hi\n\nAssistant: Yes."},
        {"chosen": f"{shared}\n\nAssistant: Red.", "rejected": shared},
        {"chosen": f"{shared}\n\nAssistant:", "rejected": f"{shared}\n\nAssistant: No."},
        {"chosen": f"{shared}\n\nAssistant: Red."},
        {"chosen": "Red.", "rejected": f"{shared}\n\nAssistant: No."},
        {"chosen": f"{shared}\n\nHuman: ?\n\nAssistant: Red.", "rejected": f"{shared}\n\nHuman: ?\n\nAssistant: No."},
    ]
    result = import_files([write_lines(tmp_path / "hh.jsonl", *rows)], "helpfulness", max_rejected=1)
    assert result.formats == {str(tmp_path / "hh.jsonl"): "anthropic_hh"}
    reasons = ["different_prompts", "malformed", "empty", "missing_field", "malformed", "not_alternating"]
    assert [reject.reason for reject in result.rejects] == reasons
    (kept,) = result.comparisons
    assert kept.prompt == [user("Hi"), assistant("Hello."), user("Name a colour")]
    assert (kept.chosen, kept.rejected, kept.rating) == ("Blue, as the sea.", "No.", "unrated")
    assert import_files([write(tmp_path / "hh.csv", rows[:1])], "helpfulness", source="hh").comparisons == [kept]


def test_several_files_are_one_import_and_unknown_columns_are_counted(tmp_path):
    one = write_lines(tmp_path / "one.jsonl", native(0), native(1, saftey_a=True))
    two = write_lines(tmp_path / "two.jsonl", native(0, annotator="y"), native(2, source="elsewhere"), native(1))
    with pytest.raises(TooManyRejects) as caught:
        import_files([one, two], "helpfulness")
    work = caught.value.work
    assert work.rejected == {"duplicate": 1} and f"at {one}:2" in work.rejects.first[0].fix
    result = import_files([one, two], "helpfulness", max_rejected=0.5)
    assert [kept.source for kept in result.comparisons] == ["one", "one", "two", "elsewhere"]
    assert result.ignored_columns == {"saftey_a": 1}


def test_the_format_is_told_by_the_first_readable_row(tmp_path):
    path = write_lines(tmp_path / "f.jsonl", "{", native(0))
    assert import_files([path], "helpfulness", max_rejected=1).formats == {str(path): "native"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.jsonl", b"", r"f\.jsonl: the file holds no rows"),
        ("f.jsonl", b"\xef\xbb\xbf\n\n", "holds no rows"),
        ("f.csv", b"prompt,response_a,response_b,choice\n", "holds no rows"),
        ("f.json", b"[]", "holds no rows"),
        ("f.json", b" [\n{}, {]", r"line 2 is not JSON.*a row a line"),
        ("f.json", b"[{}", "line 1 is not JSON"),
        ("f.json", b"[{} {}]", "there must be a comma"),
        ("f.txt", b"{}", r"ends in '\.txt'.*\.jsonl, .*\.parquet, or all but the last with \.gz or \.zst"),
        ("f.parquet.gz", b"{}", "ends in '.gz'"),
        ("f.parquet", b"PAR2", "does not start like a Parquet file"),
        ("f.parquet", b"PAR1 and no more", "cannot be read"),
        ("f.jsonl", b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS.*git lfs pull"),
        ("f.jsonl", b"\x1f\x8b123", "compressed with gz. Add .gz to its name"),
        ("f.jsonl.gz", b"\x1f\x8b123", "cannot be decompressed to its end"),
        ("f.jsonl.gz", b"{}", "cannot be decompressed to its end"),
        ("f.jsonl.zst", b"\x28\xb5\x2f\xfd12", "cannot be decompressed to its end"),
        ("f.jsonl", b'{"question": 1}\n', r"(?s)line 1 has the fields 'question'.*--map.*native: it has no prompt.*trl: "),
        ("f.jsonl", b"{\n", "no row can be read; line 1"),
        ("f.csv", b"prompt,prompt\na,b\n", "named twice: 'prompt'"),
        ("f.csv", b'"pro"mpt,b\na,b\n', "first row is not CSV"),
        ("f.csv", "prompt".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AnnotationFileError, match=message) as caught:
        import_files([tmp_path / name], "helpfulness", max_rejected=1)
    assert caught.value.asked and caught.value.found and caught.value.do


def test_wrong_questions_are_refused(tmp_path):
    path = write_lines(tmp_path / "f.jsonl", native())
    for paths, match in (([tmp_path / "none.jsonl"], "no such file"), ([], "no file was named")):
        with pytest.raises(AnnotationFileError, match=match):
            import_files(paths, "helpfulness")
    (tmp_path / "d.jsonl").mkdir()
    with pytest.raises(AnnotationFileError, match="a folder"):
        import_files([tmp_path / "d.jsonl"], "helpfulness")
    with pytest.raises(AnnotationFileError, match=r"no format 'natve'.*native, anthropic_hh"):
        import_files([path], "helpfulness", format="natve")
    with pytest.raises(ValueError, match="helpfulness or safety"):
        import_files([path], "honesty")
    with pytest.raises(ValueError, match="from 0 to 1"):
        import_files([path], "safety", max_rejected=2)
    write_lines(path, "")
    with pytest.raises(AnnotationFileError, match="no rows"):
        import_files([path], "safety", format="native")


def test_importing_loads_nothing_heavy():
    code = "import sys, preference_data.importing; print(*{'numpy', 'torch', 'pyarrow', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""
