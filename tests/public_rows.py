"""Rows in each shape of the public preference sets; the texts are invented. Those with every column are in ``samples/``."""

import csv
import json
from pathlib import Path

from preference_data.messages import assistant, user

FILES = sorted((Path(__file__).parent / "samples").iterdir())


def rows_of(path):
    """The rows of a sample file, one JSON value each; those of CSV hold text."""
    if path.suffix == ".csv":
        return list(csv.DictReader(path.read_text().splitlines()))
    return json.loads(path.read_text()) if path.suffix == ".json" else list(map(json.loads, path.read_text().splitlines()))


def said(*texts):
    """Messages of the user and the assistant in turn."""
    return [(user, assistant)[place % 2](text) for place, text in enumerate(texts)]


WHOLE = {path.stem: rows_of(path) for path in FILES}
SUMMARIES = WHOLE["openai_summarize"][0]["summaries"]
QUESTION = {"dataset": "eli5", "id": "q1", "full_text": "Why is the sky blue?"}
TOKENS = {"prefix": [1, 2], "completion": [3]}
ANSWERS = [{"answer_id": 1, "author": "a", "author_id": 5, "author_profile": "https://x.example/5", "selected": True}]
OPEN = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: A colour?\n\nAssistant:"


def answer(text, pm_score):
    return ANSWERS[0] | {"pm_score": pm_score, "text": text}


# One row of each shape that is a comparison.
SAMPLES = {
    "native": [{"prompt": "q", "response_a": "yes", "response_b": "no", "choice": "a"}],
    "anthropic_hh": [{"chosen": f"{OPEN} Blue.", "rejected": f"{OPEN} No."}],
    "openai_summarize": [WHOLE["openai_summarize"][0], WHOLE["openai_summarize"][2] | {"extra": {"confidence": 8}}],
    "webgpt": [
        WHOLE["webgpt"][1],
        {
            **{"question.dataset": "eli5", "question.id": "q1", "question.full_text": "Why?", "score_0": 1, "score_1": -1},
            **{"answer_0": "So.", "answer_1": "No."},
        },
    ],
    "shp": WHOLE["shp"][:1],
    "stack_exchange": [
        {
            **{"qid": 11, "question": "<p>Why?</p>", "date": "2011/01/09", "metadata": ["https://x.example/questions/11"]},
            "answers": [answer("<p>So.</p>", 3), answer("<p>Maybe.</p>", 1)],
        }
    ],
    "ultrafeedback": [
        WHOLE["ultrafeedback"][0],
        {
            **{"source": "evol", "prompt": "hi?", "chosen": said("hi?", "Hello."), "chosen-rating": 4.75},
            **{"rejected": said("hi?", "No."), "rejected-rating": 2, "chosen-model": "big", "rejected-model": "small"},
        },
    ],
    "dahoas": [{"prompt": OPEN, "response": " Blue.", "chosen": " Blue.", "rejected": " No."}],
    "trl": [
        {"prompt": "A colour?", "chosen": "Blue.", "rejected": "No."},
        {"chosen": "A colour? Blue.", "rejected": "A colour? No."},
        {"prompt": said("A colour?"), "chosen": [assistant("Blue.")], "rejected": [assistant("No.")], "margin": 1.5},
        {"chosen": said("A colour?", "Blue."), "rejected": said("A colour?", "No.")},
    ],
}
_RECORD = {"question": QUESTION, "quotes": [{"title": "Light", "extract": "Air."}], "tokens": TOKENS}
RECORDS = [_RECORD | {"answer": "It scatters.", "score": 0.25}, _RECORD | {"quotes": [], "answer": "The sea.", "score": -0.25}]
"""A line of WebGPT's own file."""
