"""PKU-SafeRLHF: two responses a row, compared twice (more helpful, less harmful), each labelled safe or unsafe.

A row is ``{"prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe", "better_response_id",
"safer_response_id"}`` and, except in the first releases, ``response_0_source`` and ``response_0_harm_category`` (names with
true or false), likewise for 1 (Ji et al., "PKU-SafeRLHF"). An id is 0 or 1, the number of the chosen response. The two ids
often disagree: for the helpfulness axis the choice is ``better_response_id``, for the safety axis ``safer_response_id``. The
sources are the policies, and the harms that are true of either response are the risk category. There are no ratings and no
ties; the severity of a harm is not read.
"""

from collections.abc import Iterator
from typing import Any

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell
from preference_data.messages import user
from preference_data.values import Row, boolean, dictionary, label, lacks, text, whole_number

NAME = "pku_saferlhf"
REQUIRED = ("prompt", "response_0", "response_1")
CHOICES: dict[Axis, str] = {"helpfulness": "better_response_id", "safety": "safer_response_id"}
FIELDS: dict[str, Cell] = {
    "prompt": "text",
    "response_0": "text",
    "response_1": "text",
    "prompt_source": "text",
    "response_0_source": "text",
    "response_1_source": "text",
    "is_response_0_safe": "json",
    "is_response_1_safe": "json",
    "response_0_harm_category": "json",
    "response_1_harm_category": "json",
    "response_0_severity_level": "json",
    "response_1_severity_level": "json",
    "better_response_id": "json",
    "safer_response_id": "json",
    "response_0_sha256": "text",
    "response_1_sha256": "text",
}


def misfit(row: Row) -> str | None:
    if {"response", "is_safe"} <= row.keys():
        return "it holds single responses with safety labels (response, is_safe), as BeaverTails does, not pairs"
    if missing := lacks(row, REQUIRED):
        return missing
    return None if any(name in row for name in CHOICES.values()) else f"it has neither {' nor '.join(CHOICES.values())}"


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any]]:
    chosen = whole_number(row, CHOICES[axis], (0, 1))
    rejected = 1 - chosen
    yield {
        "prompt": [user(text(row, "prompt"))],
        "chosen": text(row, f"response_{chosen}"),
        "rejected": text(row, f"response_{rejected}"),
        "chosen_safe": boolean(row, f"is_response_{chosen}_safe"),
        "rejected_safe": boolean(row, f"is_response_{rejected}_safe"),
        "risk_category": risk_category(row),
        "chosen_policy": label(row, f"response_{chosen}_source"),
        "rejected_policy": label(row, f"response_{rejected}_source"),
    }


def risk_category(row: Row) -> str | None:
    """The harms of either response, in alphabetical order; None where there are none."""
    harms = {name for number in (0, 1) for name in _harms(row, f"response_{number}_harm_category")}
    return ", ".join(sorted(harms)) or None


def _harms(row: Row, field: str) -> list[str]:
    if row.get(field) is None:
        return []
    harms = dictionary(row, field)
    return [name for name in harms if boolean(harms, name)]
