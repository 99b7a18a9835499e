"""Pairs that are handed out to annotators, and how a judgement that comes back is matched with its pair.

Annotators get only the texts, in an order that says nothing about the policies; which policy wrote which response stays here. A
judgement is matched by the item's id, which is handed out with the texts, so that a tool may change white space. Any other
change of a text is refused, because then nobody knows what was judged.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preference_data.comparison import Comparison, item_id
from preference_data.judgement import RowError
from preference_data.messages import Messages, messages_id

BLANKS = ("choice", "rating", "safety_bin", "annotator")
"""The fields that annotators fill in."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one prompt, and where they come from."""

    item_id: str
    prompt: Messages
    response_a: str
    response_b: str
    is_safety: bool
    risk_category: str | None
    batch: str | None
    policy_a: str | None
    policy_b: str | None
    temperature_a: float | None
    temperature_b: float | None


def make_pair(
    prompt: Messages, responses: Sequence[tuple[str, str | None, float | None]], *, is_safety: bool, risk_category: str | None,
    batch: str | None,
) -> Pair:  # fmt: skip
    """The pair of two ``responses``, each (text, policy, temperature). The item's id decides which becomes ``a``."""
    ordered = sorted(responses, key=lambda response: response[0])
    item = item_id(messages_id(prompt), *(text for text, *_ in ordered))
    if int(item, 16) % 2:
        ordered.reverse()
    (text_a, policy_a, temperature_a), (text_b, policy_b, temperature_b) = ordered
    return Pair(item, prompt, text_a, text_b, is_safety, risk_category, batch, policy_a, policy_b, temperature_a, temperature_b)


def handed_out_row(pair: Pair, with_bins: bool) -> dict[str, Any]:
    """A native row with the judgement left blank; ``with_bins`` also asks for the safety bin."""
    blanks = {name: None for name in BLANKS if with_bins or name != "safety_bin"}
    return {
        "item_id": pair.item_id,
        "prompt": pair.prompt,
        "response_a": pair.response_a,
        "response_b": pair.response_b,
        "batch": pair.batch,
        **blanks,
    }


def write_jsonl(path: Path, pairs: Iterable[Pair], with_bins: bool) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for pair in pairs:
            file.write(json.dumps(handed_out_row(pair, with_bins), ensure_ascii=False) + "\n")


def write_csv(path: Path, pairs: Sequence[Pair], with_bins: bool) -> None:
    """Starts with a byte order mark, without which spreadsheets do not read the text as UTF-8."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        rows = [handed_out_row(pair, with_bins) for pair in pairs]
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"prompt": json.dumps(row["prompt"], ensure_ascii=False)})


def rejoined(fields: Mapping[str, Any], comparison: Comparison, pairs: Mapping[str, Pair]) -> dict[str, Any]:
    """``fields`` of a judgement completed from its pair; ``comparison`` is what they make on their own.

    Raises RowError for a pair that was not handed out, and for texts that have changed.
    """
    item = fields.get("item_id") or comparison.item_id
    pair = pairs.get(item)
    if pair is None:
        raise RowError("not_handed_out", f"the item {item} was not exported; import it without --pairs, or with the right ones")
    if pair.is_safety != (comparison.axis == "safety"):
        axis = "safety" if pair.is_safety else "helpfulness"
        raise RowError("not_handed_out", f"the item {item} was exported for {axis}; import it with --axis {axis}")
    responses = {_words(pair.response_a): "a", _words(pair.response_b): "b"}
    sides = responses.get(_words(comparison.chosen)), responses.get(_words(comparison.rejected))
    prompts = [[_words(message["content"]) for message in prompt] for prompt in (comparison.prompt, pair.prompt)]
    same_prompt = prompts[0] == prompts[1]
    if sides not in (("a", "b"), ("b", "a")) or not same_prompt:
        raise RowError("changed_text", f"the texts of item {item} are not those that were exported; restore the exported texts")
    chosen, rejected = sides
    return {
        **fields,
        "prompt": pair.prompt,
        "is_safety": pair.is_safety,
        "risk_category": fields.get("risk_category") or pair.risk_category,
        "batch": fields.get("batch") or pair.batch,
        **{f"{side}_{what}": getattr(pair, f"{what}_{letter}")
           for side, letter in (("chosen", chosen), ("rejected", rejected)) for what in ("policy", "temperature")},
        "chosen": getattr(pair, f"response_{chosen}"),
        "rejected": getattr(pair, f"response_{rejected}"),
    }  # fmt: skip


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())
