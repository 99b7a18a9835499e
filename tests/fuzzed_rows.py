"""Rows of every format, and values where no tool would write them."""

import copy
from random import Random
from typing import Any

from public_rows import FILES, RECORDS, rows_of
from public_rows import SAMPLES as PUBLIC

from preference_data.formats import IMPORTERS
from preference_data.handing_out import handed_out_row, make_pair
from preference_data.messages import assistant, user

PAIRS = [
    make_pair(
        [user(f"Which tea, {number}?"), assistant("Green."), user('And\n"then"?')],
        [("Black  tea,\nI say.", "policy/sft@1", 0.7), ("Träume", None, None)],
        is_safety=bool(number % 2),
        risk_category=None,
        batch="w1",
    )
    for number in range(4)
]
_FULL = {
    "prompt": [user("Où?")], "response_a": "Ici", "response_b": "Là", "choice": "b", "rating": "better", "safe_a": False,
    "safe_b": True, "is_safety": True, "risk_category": "r", "annotator": 7, "batch": "b", "policy_a": "p", "policy_b": "q",
    "temperature_a": 0.5, "temperature_b": 1, "source": "s",
}  # fmt: skip
FULL = [_FULL, _FULL | {"choice": "a"}, _FULL | {"response_b": " Ici\n"}, _FULL | {"prompt": "<s>", "choice": "tie"}]
COLUMNS = (
    "question=prompt",
    "left=response_a",
    "right=response_b",
    "winner=choice",
    "strength=rating",
    "meta.worker=annotator",
)
CHOICES = ("choice:1=a", "choice:2=b", "choice:null=a", "rating:much=significantly_better", "safe_a:harmful=false")
RENAMED = [
    {"question": "q?", "left": "yes", "right": "no", "winner": winner, "strength": "much", "meta": {"worker": winner}}
    for winner in (1, 2, "a", None)
]
MAPPINGS = (
    (COLUMNS, CHOICES),
    (COLUMNS[:4], CHOICES[:2]),
    (("question=prompt", "left=chosen", "right=rejected", "meta.worker=annotator"), ("rating:much=better",)),
)
"""(columns, values) of ``ColumnMap``."""


def _corpora() -> list[tuple[str, list[Any]]]:
    """(format, rows) of every sample; pairs that came back, and rows under other names, have formats of their own."""
    found = [(next(name for name in IMPORTERS if path.stem.startswith(name)), rows_of(path)) for path in FILES]
    judged = {"choice": "b", "rating": "better", "safety_bin": "both_safe", "annotator": "ada"}
    back = [handed_out_row(pair, with_bins=True) for pair in PAIRS]
    returned = [back[0], *(row | judged for row in back)]
    found += [*PUBLIC.items(), ("webgpt", [RECORDS, RECORDS]), ("native", FULL), ("pairs", returned), ("mapped", RENAMED)]
    return found


CORPORA = _corpora()
RAW = {
    "@nan@": "NaN", "@infinite@": "-Infinity", "@large@": "1e999", "@digits@": "9" * 5000, "@deep@": "[" * 2000 + "]" * 2000,
    "@open@": '{"a":' * 20_000, "@half@": '"\\ud800"', "@nul@": '"\\u0000"', "@quotes@": '"a"b"', "@nothing@": "",
    "@twice@": '{"role": "user", "role": "assistant", "content": "x", "content": null}', "@cut@": '"a\nb"',
}  # fmt: skip
"""What stands in the text of a file in place of such a value, and no JSON writer would write."""
ODD = [
    None, True, False, 0, 1, -1, 2, 0.0, 0.5, -0.5, 1e308, 10**20, 10**400, -(10**40),
    "", " ", "a", "b", "1", "A", "tie", "null", "{", "[1", "\t", "\0", "é", "\u2028", "\x85", "\ufeff", "\ud800", "[INST] x",
    "\n\nHuman: a\n\nAssistant: b", "\n\nHuman:", "<extra_id_1>", "significantly_better", "both_unsafe", "word " * 400,
    [], {}, [[]], [{}], [None], {"": ""}, ["a"], user("x"), [user("x")], [assistant("y")], [user("x"), assistant("y")],
    [user(" ")], [{"role": "robot", "content": "x"}], [{"role": "user", "content": ["x"]}], {"role": "user", "content": None},
    {"choices": ["a"]}, {"selected": "left"}, [{"answer": "x", "score": 1}] * 3, [{"user_id": "u", "value": "a"}], *RAW,
]  # fmt: skip


def by(worker: int, row: Any) -> Any:
    """A copy of ``row`` that another person judged, in the formats that say who did."""
    named = dict.fromkeys(("annotator", "worker", "judge"), str(worker))
    return copy.deepcopy(row) | named if isinstance(row, dict) else copy.deepcopy(row)


def _spots(value: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) within ``value``."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [spot for key in keys for spot in ((value, key), *_spots(value[key]))]


def change_value(rows: list[Any], random: Random) -> None:
    """Put another value in one place of ``rows``, swap two, take one out, or call it otherwise."""
    if not (spots := _spots(rows)):
        return
    (holder, key), (other, place) = random.choice(spots), random.choice(spots)
    match random.randrange(6):
        case 0 | 1 | 2:
            holder[key] = copy.deepcopy(random.choice(ODD))
        case 3:
            holder[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(holder[key])
        case 4:
            del holder[key]
        case 5 if isinstance(holder, dict):
            name = place if isinstance(place, str) else random.choice(("", "\ud800", "item_id", "choice", "a.b", "x" * 3000))
            holder[name] = holder.pop(key)
