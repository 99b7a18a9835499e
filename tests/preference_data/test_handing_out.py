"""Pairs go out blind and come back as judgements of the same items."""

import csv
import io
import json

import pytest

from preference_data.comparison import item_id
from preference_data.handing_out import make_pair, write_csv, write_jsonl
from preference_data.importing import Import
from preference_data.messages import assistant, messages_id, user
from preference_data.values import Row

PROMPT = [{"role": "system", "content": "Be brief."}, user("hi"), assistant("Hello."), user('He said "no",\nthen?')]
NUMBERS = range(12)


def pairs():
    return [
        make_pair(
            [*PROMPT, assistant("So."), user(f"question {number}")],
            [("Yes,\nindeed.", "policy/sft@1", 0.7), ("Not  at all", "policy/v1@2", 1.0)],
            is_safety=True,
            risk_category="r",
            batch="w1",
        )
        for number in NUMBERS
    ]


def imported(path, handed_out):
    work = Import("safety", pairs=handed_out and {pair.item_id: pair for pair in handed_out})
    return [each for some in work.comparisons([path]) for each in some], work


def annotated(row: Row) -> dict:
    return {**row, "choice": "b", "rating": "better", "safety_bin": "both_safe", "annotator": "ada"}


def filled_in_csv(path):
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(annotated(row) for row in rows)


def filled_in_jsonl(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(annotated(row)) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("suffix", "write", "fill"), [("csv", write_csv, filled_in_csv), ("jsonl", write_jsonl, filled_in_jsonl)]
)
def test_a_filled_in_file_comes_back_to_the_same_items_with_their_origin(tmp_path, suffix, write, fill):
    handed_out, path = pairs(), tmp_path / f"f.{suffix}"
    write(path, handed_out, with_bins=True)
    fill(path)
    alone, work = imported(path, None)
    assert [each.item_id for each in alone] == [pair.item_id for pair in handed_out] and not len(work.rejects)
    comparisons, _ = imported(path, handed_out)
    assert [each.id for each in comparisons] == [each.id for each in alone]
    for pair, each in zip(handed_out, comparisons, strict=True):
        assert each.item_id == pair.item_id == item_id(messages_id(pair.prompt), pair.response_a, pair.response_b)
        assert (each.chosen, each.chosen_policy, each.chosen_temperature) == (
            pair.response_b,
            pair.policy_b,
            pair.temperature_b,
        )
        assert (each.rejected, each.rejected_policy) == (pair.response_a, pair.policy_a)
        assert (each.rating, each.annotator, each.batch, each.risk_category) == ("better", "ada", "w1", "r")
        assert (each.chosen_safe, each.rejected_safe, each.is_safety) == (True, True, True)


def test_what_goes_out_says_nothing_of_where_it_comes_from(tmp_path):
    write_jsonl(tmp_path / "f.jsonl", pairs(), with_bins=False)
    text = (tmp_path / "f.jsonl").read_text()
    assert "policy" not in text and "0.7" not in text and "safety_bin" not in text
    # which policy wrote ``a`` is a fair coin: of 12 tosses all alike one time in 2048
    assert len({pair.policy_a for pair in pairs()}) == 2


def test_rows_left_blank_are_not_judged_yet(tmp_path):
    write_csv(tmp_path / "f.csv", pairs(), with_bins=True)
    _, work = imported(tmp_path / "f.csv", pairs())
    assert work.rejected == {"not_judged": 12} and work.faulty == 0


def test_white_space_that_a_tool_changed_is_put_back_and_other_changes_are_refused(tmp_path):
    handed_out = pairs()[:4]
    write_jsonl(tmp_path / "f.jsonl", handed_out, with_bins=True)
    filled_in_jsonl(tmp_path / "f.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    for name in ("response_a", "response_b"):
        rows[0][name] = rows[0][name].replace("\n", "\r\n").replace("  ", " ")
    rows[1]["response_a"] += " really"
    rows[2]["prompt"][-1]["content"] = "another question"
    rows[3]["item_id"] = "0123456789abcdef"
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (kept,), work = imported(tmp_path / "f.jsonl", handed_out)
    assert kept.item_id == handed_out[0].item_id and kept.chosen == handed_out[0].response_b
    assert [(reject.line, reject.reason) for reject in work.rejects] == [
        (2, "changed_text"), (3, "changed_text"), (4, "not_handed_out"),
    ]  # fmt: skip
    _, alone = imported(tmp_path / "f.jsonl", None)
    assert alone.rejected == {"changed_text": 4}


def test_responses_that_changed_places_are_found_by_their_texts(tmp_path):
    (pair,) = handed_out = pairs()[:1]
    write_jsonl(tmp_path / "f.jsonl", handed_out, with_bins=True)
    row = annotated(json.loads((tmp_path / "f.jsonl").read_text()))
    row["response_a"], row["response_b"] = row["response_b"], row["response_a"]
    (tmp_path / "f.jsonl").write_text(json.dumps(row))
    (kept,), _ = imported(tmp_path / "f.jsonl", handed_out)
    assert (kept.chosen, kept.chosen_policy) == (pair.response_a, pair.policy_a)
