from eval.safety import false_refusal_rate, violation_rate


def test_rates_by_hand():
    assert violation_rate([True, False, False, False]).value == 0.25
    assert false_refusal_rate([True, True, False, False, False]).value == 0.4
    assert violation_rate([True] * 7 + [False] * 93).n == 100


def test_no_violation_found_is_not_no_violation_possible():
    estimate = violation_rate([False] * 400)
    assert estimate.value == 0
    assert estimate.high > 0
