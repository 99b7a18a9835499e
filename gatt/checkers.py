"""Checkers: functions that tell from an answer's text alone whether it obeys a constraint. A constraint names one by words.

    contains TEXT      the words TEXT occur, in any letter case
    ends_with WORDS    the last words are WORDS, in any letter case; what follows them is punctuation at most
    one_sentence       one sentence, on one line; a letter with a full stop is an initial, and ends none
    max_words N        N words at most, for scripts that set them apart
    language NAME      most likely written in NAME, as lingua-language-detector sees it (an extra: ``llama-rlhf[language]``)

An answer without text obeys none. What no checker can tell is judged by a model: ``gatt/obedience.py``.
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
    """A checker that does not exist, lacks its argument, or cannot be used here."""


def make_checker(check: str) -> Checker:
    """The checker that ``check`` names, with its argument. Raises CheckError."""
    name, _, argument = check.strip().partition(" ")
    if name not in _CHECKERS:
        raise CheckError(f"there is no checker {name!r}; the checkers are {', '.join(_USES.values())}")
    argument = argument.strip()
    if bool(argument) != (" " in _USES[name]):
        raise CheckError(f"the check {check!r} does not fit the checker {name}; it is written {_USES[name]!r}")
    return _CHECKERS[name](argument)


def known_languages() -> dict[str, Any]:
    """The languages that ``language`` tells apart, by their English name. Raises CheckError where lingua is not installed."""
    return {language.name.title(): language for language in _lingua().Language.all()}


def _contains(text: str) -> Checker:
    pattern = re.compile(rf"(?<!\w){re.escape(text)}(?!\w)", re.IGNORECASE)
    return lambda answer: pattern.search(answer) is not None


def _ends_with(words: str) -> Checker:
    wanted = _words(words)
    if not wanted:
        raise CheckError(f"ends_with {words!r} names no word that an answer could end with")
    return lambda answer: _words(answer)[-len(wanted) :] == wanted


def _one_sentence(_: str) -> Checker:
    return lambda answer: _num_sentences(answer) == 1


def _max_words(number: str) -> Checker:
    if not number.isdecimal() or not int(number):
        raise CheckError(f"max_words takes a number above 0, and was given {number!r}")
    return lambda answer: 0 < len(_words(answer)) <= int(number)


def _language(name: str) -> Checker:
    known = known_languages()
    if name.title() not in known:
        raise CheckError(
            f"the checker does not know the language {name!r}; it knows {', '.join(sorted(known))}. Take one of them, or set "
            '"check" to null, and a model judges'
        )
    return lambda answer: _detector().detect_language_of(answer) == known[name.title()]


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _num_sentences(text: str) -> int:
    """Stretches of words that end with a full stop, a mark, a line or the text; an abbreviation ends none."""
    found = 0
    for line in text.splitlines():
        start = 0
        ends = [end.end() for end in _SENTENCE_END.finditer(line) if not _ABBREVIATION.search(line[: end.end()])]
        for end in [*ends, len(line)]:
            found += bool(_words(line[start:end]))
            start = end
    return found


@cache
def _detector() -> Any:
    return _lingua().LanguageDetectorBuilder.from_all_languages().build()


def _lingua() -> Any:
    try:
        import lingua
    except ImportError as error:
        raise CheckError(
            "the checker of languages needs lingua-language-detector, which is not installed; pip install "
            "'llama-rlhf[language]', or set \"check\" to null, and a model judges"
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
