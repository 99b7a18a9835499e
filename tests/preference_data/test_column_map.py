import json

import pytest

from preference_data.column_map import ColumnMap, ColumnMapError
from preference_data.importing import import_files
from preference_data.messages import user


def imported(path, rows, columns, values=(), axis="helpfulness", max_rejected=0.0):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return import_files([path], axis, ColumnMap(columns, values), max_rejected=max_rejected)


def test_other_names_and_other_words(tmp_path):
    row = {
        "question": "q?", "left": "yes", "right": "no", "winner": 2, "strength": "much", "meta": {"worker": 7, "ok": True},
        "harm": "harmful", "batch": "w1",
    }  # fmt: skip
    columns = ["question=prompt", "left=response_a", "right=response_b", "winner=choice", "strength=rating",
               "meta.worker=annotator", "harm=safe_a"]  # fmt: skip
    values = ["choice:1=a", "choice:2=b", "rating:much=significantly_better", "safe_a:harmful=false", "safe_a:fine=true"]
    (kept,) = imported(tmp_path / "f.jsonl", [row], columns, values).comparisons
    assert (kept.prompt, kept.chosen, kept.rejected) == ([user("q?")], "no", "yes")
    assert (kept.rating, kept.annotator, kept.batch) == ("significantly_better", "7", "w1")
    assert (kept.chosen_safe, kept.rejected_safe) == (None, False)


def test_chosen_and_rejected_can_be_mapped(tmp_path):
    rows = [{"q": "q?", "good": "yes", "bad": "no", "who": "ada"}]
    (kept,) = imported(tmp_path / "f.jsonl", rows, ["q=prompt", "good=chosen", "bad=rejected", "who=annotator"]).comparisons
    assert (kept.prompt, kept.chosen, kept.rejected, kept.annotator) == ([user("q?")], "yes", "no", "ada")


def test_csv_cells_are_read_as_the_field_they_are_mapped_to(tmp_path):
    (tmp_path / "f.csv").write_text("Frage;A;B;Wahl;Temp\n[1] ist?;ja;nein;1.0;0.5\n")
    mapped = ColumnMap(["Frage=prompt", "A=response_a", "B=response_b", "Wahl=choice", "Temp=temperature_a"], ["choice:1.0=a"])
    (kept,) = import_files([tmp_path / "f.csv"], "helpfulness", mapped, max_rejected=0).comparisons
    assert (kept.prompt, kept.chosen, kept.chosen_temperature) == ([user("[1] ist?")], "ja", 0.5)


def test_a_value_without_a_meaning_stays_and_is_refused_by_the_field(tmp_path):
    rows = [{"prompt": "q", "response_a": "x", "response_b": "y", "choice": choice} for choice in (1.0, 3, None, "a")]
    result = imported(tmp_path / "f.jsonl", rows, [], ["choice:1=a", "choice:null=b"], max_rejected=1)
    # the last two are judgements of the same item by nobody in particular
    assert result.rejected == {"unknown_choice": 1, "repeated": 1, "contradiction": 1} and result.accepted == 1


def test_a_column_that_no_row_has_is_told(tmp_path):
    mapped = ColumnMap(["ratng=rating", "meta.who=annotator"])
    row = {"prompt": "q", "response_a": "x", "response_b": "y", "choice": "a", "rating": "better", "meta": {}}
    (tmp_path / "f.jsonl").write_text(json.dumps(row))
    import_files([tmp_path / "f.jsonl"], "helpfulness", mapped, max_rejected=1)
    with pytest.raises(ColumnMapError, match=r"no row has a column 'meta.who', 'ratng'"):
        mapped.check_all_seen()


@pytest.mark.parametrize(
    ("columns", "values", "message"),
    [
        (["question"], [], "'question' is not of the form column=field"),
        (["=prompt"], [], "not of the form"),
        (["a=promt"], [], "no field 'promt'; did you mean prompt"),
        (["a=prompt", "b=prompt"], [], "two columns to one field"),
        ([], ["choice=a"], "not of the form field:found=meant"),
        ([], ["choise:1=a"], "no field 'choise'; did you mean choice"),
        ([], ["safe_a:x=maybe"], "'maybe' is not a value of safe_a"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(columns, values, message):
    with pytest.raises(ColumnMapError, match=message):
        ColumnMap(columns, values)
