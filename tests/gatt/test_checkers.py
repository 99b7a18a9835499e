"""What each checker decides on responses that a person can judge at a glance."""

import importlib.util
import sys

import pytest

from gatt.checkers import CheckError, make_checker

LINGUA = importlib.util.find_spec("lingua") is not None


@pytest.mark.parametrize(
    ("check", "obeying", "not_obeying"),
    [
        ("contains Napoleon", ["I, NAPOLEON, say so.", "napoleon"], ["Napoleonic days", "nobody", ""]),
        ("contains of course", ["Of course!", "yes, of course"], ["of  course", "course"]),
        ("contains c++ (new)", ["see c++ (new) there"], ["see c++ there"]),
        ("ends_with amen", ["So be it. Amen.", "amen", 'He said "amen".', "so, AMEN!!"], ["Amen to that", "amens", "", "..."]),
        ("ends_with don't panic", ["First, don't panic!", "Don’t panic? Don't panic."], ["do not panic", "panic"]),
        (
            "one_sentence",
            [
                "It is blue.",
                "It is blue",
                "Dr. Smith, e.g. the old one, lives in St. Ives.",
                "It costs 3.50 coins!",
                "Really?!",
            ],
            ["It is blue. It is old.", "One line\nanother line", "Why? Because.", "", "...", "Yes! And no."],
        ),
        ("one_sentence", ['He said "no."', "(It is blue.)"], ['He said "no." Then he left.']),
        ("max_words 3", ["one two three", "don't go home!", "- one -"], ["one two three four", "", "?"]),
    ],
)
def test_responses_that_obey_and_responses_that_do_not(check: str, obeying: list[str], not_obeying: list[str]) -> None:
    checker = make_checker(check)
    assert [text for text in obeying if not checker(text)] == []
    assert [text for text in not_obeying if checker(text)] == []


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("sings", r"there is no checker 'sings'; the checkers are contains TEXT, ends_with WORDS, one_sentence, max_words N"),
        ("contains", "the check 'contains' does not fit the checker contains; it is written 'contains TEXT'"),
        ("one_sentence please", "it is written 'one_sentence'"),
        ("max_words few", "max_words takes a whole number above 0, and got 'few'"),
        ("max_words 0", "above 0, and got '0'"),
        ("ends_with !?", "names no word"),
        ("", "there is no checker ''"),
    ],
)
def test_a_check_that_cannot_be_used_is_refused(check: str, message: str) -> None:
    with pytest.raises(CheckError, match=message.replace("?", r"\?")):
        make_checker(check)


def test_without_lingua_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lingua", None)  # as if it were not installed
    with pytest.raises(CheckError, match=r"not installed; pip install 'llama-rlhf\[language\]'"):
        make_checker("language French")


@pytest.mark.skipif(not LINGUA, reason="lingua is an extra")
def test_languages_are_distinguished() -> None:
    french, german = make_checker("language French"), make_checker("language german")
    assert french("Le chat dort sur la table de la cuisine.") and not german("Le chat dort sur la table de la cuisine.")
    assert german("Die Katze schläft auf dem Küchentisch.") and not french("The cat sleeps on the kitchen table.")
    assert not french("") and not french("12345")


@pytest.mark.skipif(not LINGUA, reason="lingua is an extra")
def test_a_language_that_the_checker_does_not_know_is_refused_with_those_it_knows() -> None:
    with pytest.raises(CheckError, match=r"does not know the language 'Elvish'; it knows Afrikaans, .*Zulu"):
        make_checker("language Elvish")
