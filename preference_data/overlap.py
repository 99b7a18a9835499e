"""Evaluation prompts that are already in training data, found by the runs of words that they share.

A prompt overlaps with a row when the messages of the row contain at least ``share`` of the prompt's runs of ``n`` words. A
prompt of fewer than ``n`` words overlaps with rows that have a message of exactly these words. Case and punctuation do not
count. The paper looks for contamination by runs of more than 10 tokens, and calls a sample dirty when 80 % of its tokens are in
such runs (A.6); words instead of tokens, and rows one by one, are ours.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from preference_data.messages import Messages

_WORD = re.compile(r"\w+")
Run = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overlap:
    """An evaluation prompt and the ``share`` of its runs of words that a row contains."""

    prompt_id: str
    share: float


class EvaluationPrompts:
    """Prompts by id, to look for in rows. Raises ValueError for ``n`` below 1 or a ``share`` outside (0, 1]."""

    def __init__(self, prompts: Mapping[str, Messages], n: int = 10, share: float = 0.8):
        if n < 1 or not 0 < share <= 1:
            raise ValueError(
                f"runs of {n} words, of which a share of {share} must be shared; give n from 1 and a share above 0, up to 1"
            )
        self._n, self._share = n, share
        self._num_runs: dict[str, int] = {}
        self._holders: dict[Run, list[str]] = {}
        for name, messages in prompts.items():
            runs = set(self._runs_of(message["content"] for message in messages if message["role"] == "user"))
            self._num_runs[name] = len(runs)
            for run in runs:
                self._holders.setdefault(run, []).append(name)

    def in_messages(self, messages: Messages) -> list[Overlap]:
        """The prompts that ``messages`` overlap with, the largest share first."""
        runs = set(self._runs_of(message["content"] for message in messages))
        shared = Counter(name for run in runs & self._holders.keys() for name in self._holders[run])
        overlaps = [Overlap(name, count / self._num_runs[name]) for name, count in shared.items()]
        enough = [overlap for overlap in overlaps if overlap.share >= self._share]
        return sorted(enough, key=lambda overlap: (-overlap.share, overlap.prompt_id))

    def _runs_of(self, texts: Iterable[str]) -> Iterator[Run]:
        for text in texts:
            words = _WORD.findall(text.lower())
            if 0 < len(words) < self._n:
                yield tuple(words)
            for start in range(len(words) - self._n + 1):
                yield tuple(words[start : start + self._n])
