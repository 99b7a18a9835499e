"""The result of a study: tables with the paper's numbers beside ours, and findings. It is stored as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter

from eval.findings.verdict import Finding, finding_json
from eval.intervals import Estimate


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: the measured estimates by column, and the paper's numbers where it prints them."""

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
    """``notes``: sentences on how the study was made; ``facts``: other measurements, as JSON values."""

    title: str
    tables: tuple[Table, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def study_json(study: Study) -> dict[str, Any]:
    """A study as JSON values, with the verdict of each finding and of each of its parts."""
    return {
        "title": study.title,
        "tables": [asdict(table) for table in study.tables],
        "findings": [finding_json(finding) for finding in study.findings],
        "notes": list(study.notes),
        "facts": study.facts,
    }


def study_from_json(text: str) -> Study:
    """Read the text of ``study_json``; verdicts are computed again. Raises pydantic's ValidationError for what does not fit."""
    return TypeAdapter(Study).validate_json(text)
