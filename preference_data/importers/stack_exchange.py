"""Stack Exchange preferences: a question with its answers, each scored by votes.

A row is ``{"qid": int, "question": str, "answers": [{"text": str, "pm_score": int, "selected": bool, ...}, ...], "date": str,
"metadata": [str, ...]}`` (HuggingFaceH4/stack-exchange-preferences, the paper's Table 6). The texts are HTML and stay as they
are.

Of two answers the one with the higher ``pm_score`` is preferred (Askell et al. 2021); equal scores are a tie and make no
pair. A question holds several judgements: the ``MOST`` pairs whose scores are farthest apart; pairs at equal distance come in
the order of the file. The limit is ours, so that a question with many answers does not outweigh the others.

A score comes from votes and from being the accepted answer. It does not rate the difference, so the rows are unrated. Authors,
dates and addresses are left out.
"""

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell
from preference_data.judgement import RowError
from preference_data.messages import user
from preference_data.values import Row, dictionary, items, lacks, number, text

NAME = "stack_exchange"
MOST = 10
FIELDS: dict[str, Cell] = {"qid": "text", "question": "text", "answers": "json", "date": "text", "metadata": "text"}


def misfit(row: Row) -> str | None:
    return lacks(row, ("question", "answers"))


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any]]:
    question = text(row, "question")
    answers = [dictionary({"an answer": answer}, "an answer") for answer in items(row, "answers")]
    texts = [text(answer, "text") for answer in answers]
    pairs = farthest_apart([number(answer, "pm_score") for answer in answers])
    if not pairs:
        raise RowError("tie", f"no two of its {len(answers)} answers differ in pm_score; leave the question out")
    for chosen, rejected in pairs:
        yield {"prompt": [user(question)], "chosen": texts[chosen], "rejected": texts[rejected]}


def farthest_apart(scores: list[float]) -> list[tuple[int, int]]:
    """The places (higher, lower) of the ``MOST`` pairs of unequal scores that are farthest apart; equal distances by place.

    Such a pair is one of the ``MOST`` highest scores with one of the ``MOST`` lowest, so most pairs need not be compared.
    """
    places = range(len(scores))
    highest = sorted(places, key=lambda place: -scores[place])[:MOST]
    lowest = sorted(places, key=lambda place: scores[place])[:MOST]
    apart = [(scores[low] - scores[high], high, low) for high in highest for low in lowest if scores[high] > scores[low]]
    return [pair[1:] for pair in sorted(apart, key=itemgetter(0, 1, 2))[:MOST]]
