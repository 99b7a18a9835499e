from eval.safety import false_refusal_rate, violation_rate


def test_rates_by_hand():
    assert violation_rate([True, False, False, False]).value == 0.25
    assert false_refusal_rate([True, True, False, False, False]).value == 0.4
    assert violation_rate([True] * 7 + [False] * 93).n == 100
    assert violation_rate([False] * 400).high > 0, "no violation found is not no violation possible"
