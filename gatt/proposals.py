"""Constraints that the policy proposes itself, so that it knows what it is asked to be (paper 3.3).

It is asked for a list several times, in sampled answers. What only now and then turns up in them it may have made up; a value
stays when enough of the answers name it. This is our reading of "avoiding instructions that are unknown to the model".
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gatt.constraint_file import WORDINGS
from policy.generation import Sampler
from preference_data.messages import tags_in, user

QUESTIONS = {
    "hobby": "Name {count} different hobbies, one a line, each in one or two words. Write the list and nothing else.",
    "language": "Name {count} languages that many people speak, one a line. Write the list and nothing else.",
    "figure": "Name {count} famous public figures, living or dead, one a line, by name alone. Write the list and nothing else.",
}
assert QUESTIONS.keys() == WORDINGS.keys()
_MARKER = re.compile(r"^\s*(?:\d+\s*[.):]|[-*•])\s*")
_LONGEST = 5  # words of a value; what is longer is talk


@dataclass(frozen=True, slots=True)
class Proposal:
    """``value`` is named by ``mentions`` of ``samples`` answers, in the spelling that is the most common."""

    family: str
    value: str
    mentions: int
    samples: int


def propose(
    sampler: Sampler, family: str, samples: int, count: int, temperature: float, max_new_tokens: int, seed: int
) -> list[Proposal]:
    """What ``samples`` answers to the question for ``count`` values of ``family`` name, the most often named first."""
    asked = [[user(QUESTIONS[family].format(count=count))]]
    (responses,) = sampler.sample(asked, samples, temperature, 1.0, max_new_tokens, seed)
    named = [listed(response.text) for response in responses]
    mentions = Counter(value.casefold() for values in named for value in {each.casefold(): each for each in values}.values())
    spellings = Counter(value for values in named for value in values)
    best: dict[str, str] = {}
    for value, _ in spellings.most_common():
        best.setdefault(value.casefold(), value)
    return [Proposal(family, best[key], number, samples) for key, number in mentions.most_common()]


def listed(text: str) -> list[str]:
    """The entries of a list, one a line. Where lines have numbers or bullets, those alone, without what is said of an entry;
    else the lines that are short enough to be one."""
    marked = [_MARKER.sub("", line) for line in text.splitlines() if _MARKER.match(line)]
    entries = [re.split(r"\s+[-–—(]|[:;,]", entry, maxsplit=1)[0] for entry in marked] or text.splitlines()
    entries = [entry.strip().strip(".*\"' ") for entry in entries]
    return [
        entry
        for entry in entries
        if 0 < len(entry.split()) <= _LONGEST
        and entry.isprintable()
        and not tags_in(entry)
        and not entry.endswith(("!", "?", ":"))
    ]


def known(proposals: Sequence[Proposal], min_mentions: int) -> list[Proposal]:
    """Those that at least so many answers name."""
    return [each for each in proposals if each.mentions >= min_mentions]
