"""The pairs of one round in files that people fill in, and in ``pairs.parquet``, where it stands which policy wrote what."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from preference_data.comparison import AXES, Axis
from preference_data.handing_out import Pair, make_pair, write_csv, write_jsonl
from preference_data.label_studio_config import label_studio_task, labelling_config
from preference_data.parquet import write_records
from preference_data.prompt import Prompt
from stages.sections import AnnotationConfig


class Answer(NamedTuple):
    """A response of ``policy`` (its reference) at ``temperature``."""

    response: str
    policy: str
    temperature: float


class NothingToJudge(ValueError):
    """No two answers to one prompt differ."""


def hand_out(
    config: AnnotationConfig, prompts: Sequence[Prompt], answers: Mapping[str, Sequence[Answer]], out: Path
) -> dict[str, int]:
    """Write the first two answers to each prompt as pairs, by axis; returns how many there are of each.

    Pairs of empty or equal answers are left out. Raises NothingToJudge when none is left.
    """
    pairs: dict[Axis, list[Pair]] = defaultdict(list)
    for prompt in prompts:
        one, other = answers[prompt.id][:2]
        if one.response.strip() and other.response.strip() and one.response.strip() != other.response.strip():
            pair = make_pair(
                prompt.messages,
                [one, other],
                is_safety=prompt.is_safety,
                risk_category=prompt.risk_category,
                batch=config.batch,
            )
            pairs["safety" if prompt.is_safety else "helpfulness"].append(pair)
    if not pairs:
        raise NothingToJudge("no two answers to one prompt differ; sample at a higher temperature, or from other policies")
    write_records(out / "pairs.parquet", [pair for axis in AXES for pair in pairs[axis]], Pair)
    for axis in AXES:
        if pairs[axis]:
            _write(out, axis, config.annotators, pairs[axis])
    return {axis: len(pairs[axis]) for axis in AXES}


def _write(out: Path, axis: Axis, annotators: str, pairs: Sequence[Pair]) -> None:
    if annotators == "csv":
        write_csv(out / f"{axis}.csv", pairs, with_bins=axis == "safety")
    elif annotators == "jsonl":
        write_jsonl(out / f"{axis}.jsonl", pairs, with_bins=axis == "safety")
    else:
        tasks = [label_studio_task(pair.item_id, pair.prompt, pair.response_a, pair.response_b) for pair in pairs]
        (out / f"{axis}.json").write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")
        (out / f"{axis}.xml").write_text(labelling_config(axis), encoding="utf-8")
