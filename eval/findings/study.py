"""What a study tells: tables with the paper's numbers beside ours, and the findings that they decide. It travels as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter

from eval.findings.verdict import Finding, finding_json
from eval.intervals import Estimate


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what was measured by column, and the paper's numbers for the columns it prints."""

    name: str
    measured: Mapping[str, Estimate]
    paper: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """``percent``: the numbers are shares, shown in percent."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    percent: bool = True


@dataclass(frozen=True, slots=True)
class Study:
    """``notes``: sentences on how it was made; ``facts``: what else was measured, as JSON values."""

    title: str
    tables: tuple[Table, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def study_json(study: Study) -> dict[str, Any]:
    """A study as JSON values, each finding and each of its parts with its verdict."""
    return {
        "title": study.title,
        "tables": [asdict(table) for table in study.tables],
        "findings": [finding_json(finding) for finding in study.findings],
        "notes": list(study.notes),
        "facts": study.facts,
    }


def study_from_json(text: str) -> Study:
    """Read ``study_json`` as text back; verdicts are judged anew. Raises pydantic's ValidationError for what does not fit."""
    return TypeAdapter(Study).validate_json(text)
