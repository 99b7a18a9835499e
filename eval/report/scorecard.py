"""The findings as the report shows them: the paper's claim and numbers, our measurements, and the verdict of each part."""

from collections import Counter
from dataclasses import dataclass

from eval.findings.verdict import Effect
from eval.intervals import Estimate
from eval.report.data import ReportData, all_findings

_VERDICTS = {"holds": "holds", "fails": "fails", "inconclusive": "inconclusive", "not measured": "not measured yet"}


@dataclass(frozen=True, slots=True)
class PartRow:
    """One part of a finding; ``claimed``: the side on which the paper claims it."""

    name: str
    claimed: str
    paper: float | None
    estimate: Estimate
    verdict: str


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding; ``study`` and ``reference`` name the study that measured it, and are empty where none did."""

    id: str
    claim: str
    source: str
    paper: str
    verdict: str
    parts: tuple[PartRow, ...]
    study: str = ""
    reference: str = ""


def scorecard(data: ReportData) -> list[FindingRow]:
    """Every finding that was measured and every finding of the core set, in order of their numbers."""
    rows = []
    for finding, study in all_findings(data):
        parts = tuple(
            PartRow(effect.name, claimed(effect), effect.paper, effect.estimate, effect.verdict) for effect in finding.effects
        )
        measured_by = (study.name, study.reference or study.name) if study and parts else ("", "")
        rows.append(FindingRow(finding.id, finding.claim, finding.source, finding.paper, finding.verdict, parts, *measured_by))
    return rows


def claimed(effect: Effect) -> str:
    """The side on which the paper claims an effect: ``> 0.1``, ``< 0.01``, ``within ±0.02``."""
    sign = {"above": "> ", "below": "< ", "within": "within ±"}[effect.side]
    return f"{sign}{effect.threshold:g}".replace("-", "\N{MINUS SIGN}")


def tally(rows: list[FindingRow]) -> str:
    """The number of findings with each verdict, in a sentence."""
    counts = Counter(row.verdict for row in rows)
    return f"{len(rows)} findings: {', '.join(f'{words} {counts[verdict]}' for verdict, words in _VERDICTS.items())}."
