import pytest

from eval.findings.verdict import Effect, Finding, finding_json
from eval.intervals import UNKNOWN, Estimate


def effect(low, high, side="above", threshold=0.0):
    return Effect("part", Estimate((low + high) / 2, low, high, 100), side, threshold)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (effect(0.01, 0.05), "holds"),
        (effect(-0.05, -0.01), "fails"),
        (effect(-0.01, 0.05), "inconclusive"),
        (effect(0.0, 0.05), "inconclusive"),
        (effect(0.05, 0.15, threshold=0.10), "inconclusive"),
        (effect(0.11, 0.15, threshold=0.10), "holds"),
        (effect(0.01, 0.09, threshold=0.10), "fails"),
        (effect(-0.005, 0.02, threshold=-0.01), "holds"),
        (effect(-0.02, 0.005, "below", 0.01), "holds"),
        (effect(0.005, 0.02, "below", 0.01), "inconclusive"),
        (effect(0.02, 0.03, "below", 0.01), "fails"),
        (effect(-0.005, 0.009, "within", 0.01), "holds"),
        (effect(-0.005, 0.02, "within", 0.01), "inconclusive"),
        (effect(-0.2, 0.2, "within", 0.01), "inconclusive"),
        (effect(0.02, 0.03, "within", 0.01), "fails"),
        (effect(-0.03, -0.02, "within", 0.01), "fails"),
        (Effect("part", UNKNOWN, "above", -1.0), "inconclusive"),
    ],
)
def test_the_whole_interval_decides_the_verdict_of_an_effect(found, verdict):
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("value", "side", "verdict"),
    [(0.4, "below", "holds"), (0.41, "below", "fails"), (0.4, "above", "holds"), (0.39, "above", "fails")],
)
def test_where_the_claim_is_about_the_value_the_interval_decides_nothing(value, side, verdict):
    wide = Estimate(value, 0.0, 1.0, 100)
    assert Effect("part", wide, side, 0.4, judged_by="value").verdict == verdict
    assert Effect("part", wide, side, 0.4).verdict == "inconclusive"
    assert Effect("part", UNKNOWN, side, 0.4, judged_by="value").verdict == "inconclusive"
    with pytest.raises(ValueError, match="decided by its interval; judged_by must be 'interval'"):
        Effect("part", wide, "within", 0.4, judged_by="value")


GOOD, BAD, UNSURE = effect(0.1, 0.2), effect(-0.2, -0.1), effect(-0.1, 0.1)


@pytest.mark.parametrize(
    ("effects", "verdict"),
    [
        ((GOOD, GOOD), "holds"),
        ((GOOD, UNSURE), "inconclusive"),
        ((GOOD, UNSURE, BAD), "fails"),
        ((BAD, GOOD), "fails"),
        ((), "not measured"),
    ],
)
def test_the_parts_decide_the_verdict_of_a_finding(effects, verdict):
    assert Finding("F0", "Table 0", "a claim", effects).verdict == verdict


def test_json_holds_every_part_with_its_verdict():
    json = finding_json(Finding("F0", "Table 0", "a claim", (GOOD, BAD)))
    assert (json["id"], json["verdict"], [part["verdict"] for part in json["effects"]]) == ("F0", "fails", ["holds", "fails"])
    assert json["effects"][0]["estimate"] == {"value": pytest.approx(0.15), "low": 0.1, "high": 0.2, "n": 100}


def test_a_claim_of_no_change_needs_a_threshold_above_zero():
    with pytest.raises(ValueError, match="needs a threshold above zero"):
        effect(0.0, 0.0, "within")
