"""The findings as the report shows them: what the paper claims and prints, what we measured, and the verdict of each part."""

from collections import Counter
from dataclasses import dataclass

from eval.findings.verdict import Effect
from eval.intervals import Estimate
from eval.report.data import ReportData, judged

_TALLIED = {"holds": "holds", "fails": "fails", "inconclusive": "inconclusive", "not measured": "not measured yet"}


@dataclass(frozen=True, slots=True)
class PartRow:
    """One part of a finding; ``claimed``: where the paper has it."""

    name: str
    claimed: str
    paper: float | None
    estimate: Estimate
    verdict: str


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding; ``study`` and ``reference`` name what measured it, and are empty where nothing did."""

    id: str
    claim: str
    source: str
    paper: str
    verdict: str
    parts: tuple[PartRow, ...]
    study: str = ""
    reference: str = ""


def scorecard(data: ReportData) -> list[FindingRow]:
    """Every finding that was measured and every one of the core set, in order."""
    rows = []
    for finding, study in judged(data):
        parts = tuple(PartRow(each.name, claimed(each), each.paper, each.estimate, each.verdict) for each in finding.effects)
        measured_by = (study.name, study.reference or study.name) if study and parts else ("", "")
        rows.append(FindingRow(finding.id, finding.claim, finding.source, finding.paper, finding.verdict, parts, *measured_by))
    return rows


def claimed(effect: Effect) -> str:
    """Where an effect lies by the paper's claim: ``> 0.1``, ``< 0.01``, ``within ±0.02``."""
    sign = {"above": "> ", "below": "< ", "within": "within ±"}[effect.side]
    return f"{sign}{effect.threshold:g}".replace("-", "\N{MINUS SIGN}")


def tally(rows: list[FindingRow]) -> str:
    """How many findings there are of each verdict; none is left out."""
    counts = Counter(row.verdict for row in rows)
    return f"{len(rows)} findings: {', '.join(f'{words} {counts[verdict]}' for verdict, words in _TALLIED.items())}."
