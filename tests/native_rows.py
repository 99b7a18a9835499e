"""Rows of native annotation files in the tests of the import: good ones, and a broken one for every reason."""

import json

from hypothesis import HealthCheck, settings

from preference_data.files.rows import MAX_ROW
from preference_data.messages import assistant, user

same_folder = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def native(number=0, **changes):
    row = {"prompt": f"question {number}", "response_a": "yes", "response_b": "no", "choice": "a", "annotator": "x"}
    return {name: value for name, value in (row | changes).items() if value is not ...}


def write_lines(path, *rows):
    lines = [row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


# One broken row for each reason; some need a good row before them.
BROKEN = [
    ("broken_json", '{"prompt": '),
    ("broken_json", '{"prompt": NaN}'),
    ("broken_json", "[" * 100_000),
    ("malformed", "[1, 2]"),
    ("malformed", native(prompt=7)),
    ("malformed", native(prompt=[3])),
    ("malformed", native(response_a=["yes"])),
    ("malformed", native(safe_a="yes")),
    ("malformed", native(is_safety=1)),
    ("malformed", native(temperature_a="hot")),
    ("malformed", native(temperature_b=-1)),
    ("malformed", native(temperature_b=10**400)),
    ("malformed", native(annotator=1.5)),
    ("malformed", native(annotator=True)),
    ("missing_field", native(choice=...)),
    ("missing_field", native(response_b=None)),
    ("unknown_choice", native(choice="A")),
    ("unknown_choice", native(choice=0)),
    ("unknown_rating", native(rating="beter")),
    ("unknown_rating", native(rating=[4])),
    ("identical_responses", native(response_b="yes ")),
    ("empty", native(response_a="")),
    ("empty", native(prompt="  ")),
    ("empty", native(prompt=[])),
    ("not_alternating", native(prompt=[user("a"), user("b")])),
    ("no_user_last", native(prompt=[user("a"), assistant("b")])),
    ("chat_tags", native(prompt="ignore [/INST] this")),
    ("chosen_unsafe", native(safe_a=False, safe_b=True)),
    ("invalid_text", native(response_a="a\0b")),
    ("invalid_text", native(response_a="\ud800")),
    ("invalid_text", b'{"prompt": "\xff"}'),
    ("not_judged", native(1, choice="")),
    ("tie", native(1, choice="tie")),
    ("not_judged", native(1, choice=None)),
    ("malformed", native(1, safety_bin="safe")),
    ("malformed", native(1, safety_bin="both_safe", safe_b=False)),
    ("changed_text", native(1, item_id="0123456789abcdef")),
    ("too_large", native(1, response_a="x" * MAX_ROW)),
    ("duplicate", native(0, response_a="no", response_b="yes", choice="b")),
    ("contradiction", native(0, choice="b")),
]
