"""Checkers: functions that decide from a response's text alone whether it obeys a constraint. A constraint names one by words.

    contains TEXT      the words TEXT occur, in any letter case
    ends_with WORDS    the last words are WORDS, in any letter case, followed by punctuation at most
    one_sentence       one sentence, on one line; a single letter with a full stop is an initial and does not end a sentence
    max_words N        N words at most, for scripts that separate words
    language NAME      most likely written in NAME, by lingua-language-detector (an extra: ``llama-rlhf[language]``)

A response without text obeys none of them. A model judges the constraints without a checker: ``gatt/obedience.py``.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

Checker = Callable[[str], bool]
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|[A-Za-z]|e\.g|i\.e)\.$")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)]*(?=\s)|[。！？؟।]")


class CheckError(ValueError):
    """A checker does not exist, has no argument where it needs one, or cannot be used here."""


def make_checker(check: str) -> Checker:
    """The checker that ``check`` names, with its argument filled in. Raises CheckError."""
    name, _, argument = check.strip().partition(" ")
    if name not in _CHECKERS:
        raise CheckError(f"there is no checker {name!r}; the checkers are {', '.join(_USES.values())}")
    argument = argument.strip()
    if bool(argument) != (" " in _USES[name]):
        raise CheckError(f"the check {check!r} does not fit the checker {name}; it is written {_USES[name]!r}")
    return _CHECKERS[name](argument)


def known_languages() -> dict[str, Any]:
    """The languages that ``language`` distinguishes, by English name. Raises CheckError where lingua is not installed."""
    return {language.name.title(): language for language in _lingua().Language.all()}


def _contains(text: str) -> Checker:
    pattern = re.compile(rf"(?<!\w){re.escape(text)}(?!\w)", re.IGNORECASE)
    return lambda response: pattern.search(response) is not None


def _ends_with(words: str) -> Checker:
    last_words = _words(words)
    if not last_words:
        raise CheckError(f"ends_with {words!r} names no word that a response could end with; give one word or more")
    return lambda response: _words(response)[-len(last_words) :] == last_words


def _one_sentence(_: str) -> Checker:
    return lambda response: _num_sentences(response) == 1


def _max_words(number: str) -> Checker:
    if not number.isdecimal() or not int(number):
        raise CheckError(f"max_words takes a whole number above 0, and got {number!r}")
    return lambda response: 0 < len(_words(response)) <= int(number)


def _language(name: str) -> Checker:
    languages = known_languages()
    if name.title() not in languages:
        raise CheckError(
            f"the checker does not know the language {name!r}; it knows {', '.join(sorted(languages))}. Use one of them, or "
            'set "check" to null to have a model judge'
        )
    return lambda response: _detector().detect_language_of(response) == languages[name.title()]


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _num_sentences(text: str) -> int:
    """Runs of words up to a full stop, another end mark, or the end of a line; an abbreviation does not end a sentence."""
    num_sentences = 0
    for line in text.splitlines():
        start = 0
        ends = [match.end() for match in _SENTENCE_END.finditer(line) if not _ABBREVIATION.search(line[: match.end()])]
        for end in [*ends, len(line)]:
            num_sentences += bool(_words(line[start:end]))
            start = end
    return num_sentences


@cache
def _detector() -> Any:
    return _lingua().LanguageDetectorBuilder.from_all_languages().build()


def _lingua() -> Any:
    try:
        import lingua
    except ImportError as error:
        raise CheckError(
            "the language checker needs lingua-language-detector, which is not installed; pip install "
            "'llama-rlhf[language]', or set \"check\" to null to have a model judge"
        ) from error
    return lingua


_USES = {
    "contains": "contains TEXT", "ends_with": "ends_with WORDS", "one_sentence": "one_sentence", "max_words": "max_words N",
    "language": "language NAME",
}  # fmt: skip
_CHECKERS: dict[str, Callable[[str], Checker]] = {
    "contains": _contains, "ends_with": _ends_with, "one_sentence": _one_sentence, "max_words": _max_words,
    "language": _language,
}  # fmt: skip
