"""Constraints proposed by the policy itself, so that it knows what it is asked to be (paper 3.3).

The policy is asked for a list several times, with sampled responses. A value that few responses name may be made up; a value is
kept when enough of them name it. This is our reading of "avoiding instructions that are unknown to the model".
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
_LONGEST = 5  # words of a value; longer lines are not entries of the list


@dataclass(frozen=True, slots=True)
class Proposal:
    """``value`` is named by ``mentions`` of ``samples`` responses; the spelling is the most frequent one."""

    family: str
    value: str
    mentions: int
    samples: int


def propose(
    sampler: Sampler, family: str, samples: int, count: int, temperature: float, max_new_tokens: int, seed: int
) -> list[Proposal]:
    """The values that ``samples`` responses to the question for ``count`` values of ``family`` name, most often named first."""
    prompt = [user(QUESTIONS[family].format(count=count))]
    (responses,) = sampler.sample([prompt], samples, temperature, 1.0, max_new_tokens, seed)
    lists = [listed(response.text) for response in responses]
    mentions = Counter(key for values in lists for key in dict.fromkeys(value.casefold() for value in values))
    spellings = Counter(value for values in lists for value in values)
    best_spelling: dict[str, str] = {}
    for value, _ in spellings.most_common():
        best_spelling.setdefault(value.casefold(), value)
    return [Proposal(family, best_spelling[key], number, samples) for key, number in mentions.most_common()]


def listed(text: str) -> list[str]:
    """The entries of a list with one entry per line. If lines have numbers or bullets, only those lines, without any remark
    after the entry; otherwise the lines that are short enough to be an entry."""
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
    """The proposals that at least ``min_mentions`` responses name."""
    return [proposal for proposal in proposals if proposal.mentions >= min_mentions]
