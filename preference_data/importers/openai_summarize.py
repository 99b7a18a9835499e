"""OpenAI's comparisons of summaries: two summaries of a Reddit post or a news article, one of them chosen.

A row is ``{"info": {"subreddit", "title", "post", ...}, "summaries": [{"text", "policy", "note"}, ...], "choice": 0 or 1,
"worker", "batch", "split", "extra"}`` (Stiennon et al. 2020, the paper's Table 6); ``info`` of a news article holds
``article``. ``choice`` is the index of the better summary. Annotator, batch and policies (``ref``: a person's summary) are
kept.

The prompt has the layout of the authors' code for their reward model: subreddit, title and post followed by "TL;DR:", or the
article followed by "TL;DR:". The white space between "TL;DR:" and the summary is removed.

Left out: notes, and ``extra.confidence``, whose scale is not documented, so the rows are unrated. Rows of ``axis_evals`` (one
``summary`` with scores) are not comparisons.
"""

from collections.abc import Iterator
from typing import Any

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell
from preference_data.judgement import RowError
from preference_data.messages import user
from preference_data.values import Row, dictionary, items, label, lacks, text, whole_number

NAME = "openai_summarize"
REQUIRED = ("info", "summaries", "choice")
FIELDS: dict[str, Cell] = {
    "info": "json",
    "summaries": "json",
    "choice": "json",
    "worker": "text",
    "batch": "text",
    "split": "text",
    "extra": "json",
}


def misfit(row: Row) -> str | None:
    return lacks(row, REQUIRED)


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any]]:
    summaries = items(row, "summaries")
    if len(summaries) != 2:
        raise RowError("malformed", f"there must be two summaries; there are {len(summaries)}")
    choice = whole_number(row, "choice", (0, 1))
    chosen, rejected = (dictionary({"a summary": summaries[index]}, "a summary") for index in (choice, 1 - choice))
    yield {
        "prompt": [user(request(dictionary(row, "info")))],
        "chosen": text(chosen, "text").strip(),
        "rejected": text(rejected, "text").strip(),
        "annotator": label(row, "worker"),
        "batch": label(row, "batch"),
        "chosen_policy": label(chosen, "policy"),
        "rejected_policy": label(rejected, "policy"),
    }


def request(info: Row) -> str:
    """The prompt, in the authors' layout. Raises RowError."""
    if info.get("article") is not None:
        return f"{text(info, 'article')}\n\nTL;DR:"
    subreddit, title, post = (text(info, name) for name in ("subreddit", "title", "post"))
    return f"SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
