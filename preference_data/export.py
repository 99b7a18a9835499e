"""Comparisons back to the native annotation format: what ``import_files`` reads again as the same comparisons.

Which response becomes ``a`` follows from the sort order of the two texts, so the place betrays nothing about the choice and
the file can be handed to annotators again. The axis is no column of the format: a file holds one axis.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from preference_data.comparison import Comparison


def native_row(comparison: Comparison) -> dict[str, Any]:
    """The native row of ``comparison``, without the fields that are not known."""
    chosen, rejected = ("a", "b") if comparison.chosen < comparison.rejected else ("b", "a")
    responses = {chosen: comparison.chosen, rejected: comparison.rejected}
    row = {
        "prompt": comparison.prompt,
        "response_a": responses["a"],
        "response_b": responses["b"],
        "choice": chosen,
        "rating": None if comparison.rating == "unrated" else comparison.rating,
        f"safe_{chosen}": comparison.chosen_safe,
        f"safe_{rejected}": comparison.rejected_safe,
        "is_safety": comparison.is_safety,
        "risk_category": comparison.risk_category,
        "annotator": comparison.annotator,
        "batch": comparison.batch,
        f"policy_{chosen}": comparison.chosen_policy,
        f"policy_{rejected}": comparison.rejected_policy,
        f"temperature_{chosen}": comparison.chosen_temperature,
        f"temperature_{rejected}": comparison.rejected_temperature,
        "source": comparison.source,
    }
    return {name: value for name, value in row.items() if value is not None}


def export_native(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write ``comparisons`` as native JSONL. Raises ValueError when they are of both axes."""
    if len(axes := sorted({comparison.axis for comparison in comparisons})) > 1:
        raise ValueError(
            f"export to {path}: the comparisons are of two axes ({', '.join(axes)}); export each axis to its own file"
        )
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for comparison in comparisons:
            file.write(json.dumps(native_row(comparison), ensure_ascii=False) + "\n")
