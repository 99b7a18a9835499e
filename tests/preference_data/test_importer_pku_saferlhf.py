import pytest
from importer_rows import import_rows, recognised, refused

from preference_data.importers import pku_saferlhf


def row(**changes):
    """Response 1 helps more, response 0 is safer."""
    present = {
        "prompt": "How do I open a lock?",
        "response_0": "Ask its owner.",
        "response_1": "With two pins.",
        "prompt_source": "model-p",
        "response_0_source": "model-0",
        "response_1_source": "model-1",
        "is_response_0_safe": True,
        "is_response_1_safe": True,
        "response_0_harm_category": {"Violence": False, "White-Collar Crime": False},
        "response_1_harm_category": {"Violence": False, "White-Collar Crime": False},
        "response_0_severity_level": 0,
        "response_1_severity_level": 0,
        "better_response_id": 1,
        "safer_response_id": 0,
        "response_0_sha256": "c2",
        "response_1_sha256": "2a",
    }
    return {name: value for name, value in (present | changes).items() if value is not ...}


FIRST_RELEASE = {
    name: row()[name]
    for name in ("prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe", "better_response_id")
} | {"safer_response_id": 0}


def test_the_choice_is_the_one_of_the_axis(tmp_path):
    helpful, safe = (import_rows(tmp_path, [row()], axis).comparisons[0] for axis in ("helpfulness", "safety"))
    assert (helpful.chosen, helpful.rejected, helpful.chosen_policy) == ("With two pins.", "Ask its owner.", "model-1")
    assert (safe.chosen, safe.rejected, safe.rejected_policy) == ("Ask its owner.", "With two pins.", "model-1")
    assert helpful.prompt == [{"role": "user", "content": "How do I open a lock?"}]
    assert helpful.item_id == safe.item_id
    assert (helpful.rating, helpful.risk_category, helpful.annotator) == ("unrated", None, None)


def test_the_labels_go_with_their_responses(tmp_path):
    (kept,) = import_rows(tmp_path, [row(is_response_1_safe=False)], "safety").comparisons
    assert (kept.chosen_safe, kept.rejected_safe) == (True, False)
    assert refused(tmp_path, [row(is_response_1_safe=False)], "helpfulness") == ["chosen_unsafe"]


def test_the_harms_of_either_response_are_the_risk_category(tmp_path):
    harms = {
        "response_0_harm_category": {"White-Collar Crime": True, "Violence": False, "Drugs": None},
        "response_1_harm_category": {"White-Collar Crime": True, "Violence": True},
    }
    assert import_rows(tmp_path, [row(**harms)]).comparisons[0].risk_category == "Violence, White-Collar Crime"


def test_the_first_release_has_neither_harms_nor_policies(tmp_path):
    (kept,) = import_rows(tmp_path, [FIRST_RELEASE], "safety").comparisons
    assert (kept.chosen_safe, kept.risk_category, kept.chosen_policy) == (True, None, None)


@pytest.mark.parametrize(
    ("reason", "axis", "changes"),
    [
        ("missing_field", "safety", {"safer_response_id": None}),
        ("missing_field", "safety", {"safer_response_id": ...}),
        ("malformed", "helpfulness", {"better_response_id": 2}),
        ("malformed", "helpfulness", {"better_response_id": True}),
        ("malformed", "helpfulness", {"is_response_0_safe": 1}),
        ("malformed", "helpfulness", {"response_0_harm_category": ["Violence"]}),
        ("malformed", "helpfulness", {"response_0_harm_category": {"Violence": "yes"}}),
        ("malformed", "helpfulness", {"response_1": 7}),
        ("missing_field", "helpfulness", {"prompt": None}),
    ],
)
def test_what_is_refused(tmp_path, reason, axis, changes):
    assert refused(tmp_path, [row(**changes)], axis) == [reason]


def test_only_pairs_are_recognised(tmp_path):
    for one in (row(), FIRST_RELEASE, row(safer_response_id=...)):
        assert recognised(tmp_path, one) == ("pku_saferlhf", ["pku_saferlhf"])
    assert "neither better_response_id nor safer_response_id" in pku_saferlhf.misfit(
        row(better_response_id=..., safer_response_id=...)
    )


def test_beavertails_is_told_to_hold_single_responses():
    beavertails = {"prompt": "q", "response": "a", "category": {"animal_abuse": False}, "is_safe": True}
    assert "single responses" in pku_saferlhf.misfit(beavertails)
