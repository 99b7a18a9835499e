import pytest
from importer_rows import import_rows, recognised, refused
from row_files import write

from preference_data.importers import label_studio
from preference_data.importing import import_files
from preference_data.judgement import make_comparison
from preference_data.label_studio_config import label_studio_task
from preference_data.messages import assistant, user

PROMPT = [user("Hi"), assistant("Hello"), user("Your name?")]
PAIR = make_comparison(prompt=PROMPT, chosen="Ann.", rejected="Bob.", axis="safety", source="s")
DATA = label_studio_task(PAIR.item_id, PROMPT, "Ann.", "Bob.")["data"]
OF_EXPORT = {"file_upload": "pairs.json", "drafts": [], "predictions": [], "meta": {}, "inner_id": 1, "project": 29}


def answered(name, value, kind="choices"):
    return {"id": f"r-{name}", "from_name": name, "to_name": "dialogue", "type": kind, "origin": "manual", "value": value}


def annotation(choice="a", rating="better", safety_bin=None, by=1, **changes):
    answers = {"choice": choice, "rating": rating, "safety_bin": safety_bin}
    result = [answered(name, {"choices": [value]}) for name, value in answers.items() if value]
    return {"id": 22, "completed_by": by, "result": result, "was_cancelled": False, "lead_time": 8.65} | changes


def task(*annotations, **about):
    """A task as the JSON export has it."""
    return {"id": 87, "annotations": list(annotations), "data": DATA | about, "total_annotations": len(annotations)} | OF_EXPORT


def flat(**changes):
    """An annotation as the JSON_MIN export has it."""
    answers = {"choice": "b", "rating": "slightly_better", "safety_bin": "both_safe", "annotator": "ann@x.org"}
    times = {"annotation_id": 2, "created_at": "2024-05-03T10:00:00Z", "updated_at": "2024-05-03T10:00:30Z", "lead_time": 12.5}
    return {name: value for name, value in (DATA | {"id": 87} | answers | times | changes).items() if value is not ...}


SKIPPED = annotation(None, None, was_cancelled=True)
EMAIL = {"id": 3, "email": "ann@x.org", "first_name": "", "last_name": ""}


def test_each_annotation_of_a_task_is_a_judgement_of_the_item(tmp_path):
    row = task(annotation(safety_bin="chosen_safe_rejected_unsafe"), annotation("b", "negligibly_better", by=EMAIL))
    one, other = import_rows(tmp_path, [row], "safety").comparisons
    assert (one.prompt, one.chosen, one.rejected, one.rating, one.annotator) == (PROMPT, "Ann.", "Bob.", "better", "1")
    assert (one.chosen_safe, one.rejected_safe, other.chosen_safe) == (True, False, None)
    assert (other.chosen, other.rating, other.annotator) == ("Bob.", "negligibly_better", "ann@x.org")
    assert one.item_id == other.item_id == PAIR.item_id


def test_what_was_skipped_or_not_answered_costs_the_other_annotations_nothing(tmp_path):
    row = task(SKIPPED, annotation(), annotation(None, None, by=2), annotation("b", by=3))
    result = import_rows(tmp_path, [row, task()], "safety")
    assert [kept.chosen for kept in result.comparisons] == ["Ann.", "Bob."]
    assert [reject.reason for reject in result.rejects] == ["not_judged"] * 3
    assert (result.read, result.ignored_columns) == (5, {})


def test_a_row_of_the_short_export_is_one_judgement(tmp_path):
    result = import_rows(tmp_path, [flat(), flat(annotator=7, choice="a"), flat(choice=..., rating=..., annotator=8)], "safety")
    one, other = result.comparisons
    assert (one.chosen, one.rating, one.annotator, one.chosen_safe) == ("Bob.", "slightly_better", "ann@x.org", True)
    assert (other.chosen, other.annotator, other.item_id) == ("Ann.", "7", PAIR.item_id)
    assert (result.rejected, result.ignored_columns) == ({"not_judged": 1}, {})


def test_the_csv_export_means_the_same(tmp_path):
    rows = [flat(), flat(choice=[{"selected": "left"}], annotator=4), flat(choice="", rating="", safety_bin="", annotator="")]
    path = write(tmp_path / "result.csv", rows)
    result = import_files([path], "safety", max_rejected=1)
    assert [(kept.chosen, kept.annotator) for kept in result.comparisons] == [("Bob.", "ann@x.org"), ("Ann.", "4")]
    assert {kept.item_id for kept in result.comparisons} == {PAIR.item_id}
    assert (result.formats[str(path)], result.rejected) == ("label_studio", {"not_judged": 1})


@pytest.mark.parametrize(("side", "chosen"), [("left", "Ann."), ("right", "Bob.")])
def test_the_choice_may_be_a_pairwise_control(tmp_path, side, chosen):
    result = [answered("choice", {"selected": side}, "pairwise")]
    assert import_rows(tmp_path, [task(annotation(result=result))]).comparisons[0].chosen == chosen
    assert import_rows(tmp_path, [flat(choice=[{"selected": side}])]).comparisons[0].chosen == chosen


def test_task_data_may_say_more_of_the_pair_but_not_judge_it(tmp_path):
    about = {"batch": "b7", "risk_category": "theft", "is_safety": True, "policy_a": "m1", "annotator": "x", "rating": "better"}
    (kept,) = import_rows(tmp_path, [task(annotation(rating=None, by=None), **about)]).comparisons
    assert (kept.batch, kept.risk_category, kept.is_safety, kept.chosen_policy) == ("b7", "theft", True, "m1")
    assert (kept.annotator, kept.rating) == (None, "unrated")


@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("tie", task(annotation("tie"))),
        ("tie", flat(choice="Tie")),
        ("unknown_choice", task(annotation("c"))),
        ("unknown_choice", task(annotation(result=[answered("choice", {"choices": ["a", "b"]})]))),
        ("unknown_choice", task(annotation(result=[answered("choice", {"selected": "middle"})]))),
        ("unknown_choice", flat(choice={"choices": ["a", "b"]})),
        ("unknown_rating", flat(rating=[{"rating": 4}])),
        ("malformed", task(annotation(result=[answered("choice", {"choices": ["a"]})] * 2))),
        ("malformed", task(annotation(result=["a"]))),
        ("not_judged", task(annotation(result=[{"value": 1, "from_name": 7}, {"type": "relation"}]))),
        ("missing_field", task(annotation(result=None))),
        ("malformed", task("a")),
        ("malformed", task(annotation(was_cancelled="no"))),
        ("malformed", task(annotation(by={"id": [1]}))),
        ("malformed", task(annotation(safety_bin="safe"))),
        ("malformed", task() | {"annotations": {}}),
        ("changed_text", task(annotation(), response_a="Ann")),
        ("changed_text", flat(item_id="0123456789abcdef")),
    ],
)
def test_what_is_refused(tmp_path, reason, row):
    assert refused(tmp_path, [row]) == [reason]


def test_only_tasks_of_this_config_are_recognised(tmp_path):
    assert recognised(tmp_path, task(annotation())) == ("label_studio", ["label_studio"])
    assert recognised(tmp_path, flat())[0] == "label_studio"
    assert label_studio.misfit({"data": {"image": "x.png"}, "annotations": []}) == (
        "its task data has no prompt, response_a, response_b"
    )
    assert "neither annotations with data, nor annotator, annotation_id, lead_time" in label_studio.misfit(DATA)
