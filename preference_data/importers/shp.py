"""Stanford Human Preferences: two Reddit comments on one post, the one with more votes preferred.

A row is ``{"history": str, "human_ref_A": str, "human_ref_B": str, "labels": 1 or 0, "domain": str, "score_A": int, ...}``
(Ethayarajh et al. 2022, the paper's Table 6; SHP-2 has the same columns). The post (``history``) is the prompt. ``labels`` is
1 where A is preferred and 0 where B is; it is not an index. The source has no ties.

Votes (``score_A``, ``score_ratio``) are not an annotator's rating, so the rows are unrated. Votes, times, the names of the
comments and ``domain`` (subreddit and split in one word) are left out.
"""

from collections.abc import Iterator
from typing import Any

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell
from preference_data.messages import user
from preference_data.values import Row, lacks, text, whole_number

NAME = "shp"
REQUIRED = ("history", "human_ref_A", "human_ref_B", "labels")
UNUSED = (
    *("post_id", "domain", "upvote_ratio", "c_root_id_A", "c_root_id_B", "created_at_utc_A", "created_at_utc_B"),
    *("score_A", "score_B", "seconds_difference", "score_ratio"),
)
FIELDS: dict[str, Cell] = {
    "history": "text",
    "human_ref_A": "text",
    "human_ref_B": "text",
    "labels": "json",
    **dict.fromkeys(UNUSED, "text"),
}


def misfit(row: Row) -> str | None:
    return lacks(row, REQUIRED)


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any]]:
    chosen, rejected = ("A", "B") if whole_number(row, "labels", (0, 1)) == 1 else ("B", "A")
    yield {
        "prompt": [user(text(row, "history"))],
        "chosen": text(row, f"human_ref_{chosen}"),
        "rejected": text(row, f"human_ref_{rejected}"),
    }
