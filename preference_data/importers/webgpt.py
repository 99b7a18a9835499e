"""OpenAI's WebGPT comparisons: two answers to a question, written after browsing, each with a score.

A row is ``{"question": {"dataset", "id", "full_text"}, "quotes_0", "answer_0", "tokens_0", "score_0", "quotes_1", ...}``
(Nakano et al. 2021, the paper's Table 6). The question may also be text, or in a column ``question.full_text``. A
line of the file that the authors published is a list of two records ``{"question", "quotes", "answer", "tokens", "score"}``,
which is read as a row ``{"records": [record, record]}``.

Scores are from -1 to 1 and opposite: the answer with a score above 0 is preferred, 0 is a tie. The authors use only the sign,
so the rows are unrated. The prompt is the question. Quotes are left out, because the prompts of 48 tokens in Table 6 are
without them, although answers refer to them ("[1]"). ``tokens`` repeats the texts and is left out.
"""

from collections.abc import Iterator
from typing import Any

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell
from preference_data.judgement import RowError
from preference_data.messages import user
from preference_data.values import Row, dictionary, items, lacks, number, shown, text

NAME = "webgpt"
REQUIRED = ("answer_0", "answer_1", "score_0", "score_1")
QUESTION = "question.full_text"
FIELDS: dict[str, Cell] = {
    "records": "json",
    "question": "json",
    QUESTION: "text",
    **dict.fromkeys(("answer_0", "answer_1"), "text"),
    **dict.fromkeys(("score_0", "score_1"), "json"),
    **dict.fromkeys(("question.dataset", "question.id", "quotes_0", "quotes_1", "tokens_0", "tokens_1"), "text"),
}


def misfit(row: Row) -> str | None:
    if "records" in row:
        records = row["records"] if isinstance(row["records"], list) else []
        fits = len(records) == 2 and all(isinstance(record, dict) and {"answer", "score"} <= set(record) for record in records)
        return None if fits else "its records are not two answers with their scores"
    if "question" not in row and QUESTION not in row:
        return f"it has no question, nor {QUESTION}"
    return lacks(row, REQUIRED)


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any]]:
    if "records" in row:
        row = _joined(items(row, "records"))
    first, second = number(row, "score_0"), number(row, "score_1")
    if first == second == 0:
        raise RowError("tie", "both scores are 0; leave the pair out")
    if not min(first, second) < 0 < max(first, second):
        raise RowError("malformed", f"the scores are {first:g} and {second:g}; one must be above 0 and the other below")
    chosen, rejected = ("answer_0", "answer_1") if first > 0 else ("answer_1", "answer_0")
    yield {"prompt": [user(_question(row))], "chosen": text(row, chosen), "rejected": text(row, rejected)}


def _question(row: Row) -> str:
    if QUESTION in row:
        return text(row, QUESTION)
    if isinstance(row.get("question"), dict):
        return text(row["question"], "full_text")
    question = text(row, "question")
    if question.lstrip().startswith("{"):
        raise RowError("malformed", f"question is {shown(question)}, a printed object; write it as JSON, or only its text")
    return question


def _joined(records: list[Any]) -> Row:
    """Two records as one row. Raises RowError."""
    if len(records) != 2:
        raise RowError("malformed", f"there must be two records; there are {len(records)}")
    both = [dictionary({"a record": record}, "a record") for record in records]
    if both[0].get("question") != both[1].get("question"):
        raise RowError("different_prompts", "the two records are of different questions")
    answers = {f"{name}_{index}": record.get(name) for index, record in enumerate(both) for name in ("answer", "score")}
    return answers | {"question": both[0].get("question")}
