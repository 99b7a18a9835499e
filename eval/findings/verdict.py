"""The rule that gives every finding its verdict, fixed before anything is measured.

A finding has parts, each one effect: a difference or a slope, and the side of a threshold where the paper claims it. A part
``holds`` when its whole 95 % interval lies on that side, ``fails`` when the whole interval lies on the other side, and is
``inconclusive`` when the interval contains the threshold. A claim of no change has the side ``within``: the part holds when the
interval lies inside -threshold ... threshold, and fails when it lies wholly outside. Where a claim is about the value itself,
the value alone decides (``judged_by``), at the threshold or beyond it. A finding holds when every part holds, fails when any
part fails, and is inconclusive otherwise.

The interval covers the choice of prompts, for the models that were trained. It does not cover other training seeds.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from eval.intervals import Estimate

Side = Literal["above", "below", "within"]
Verdict = Literal["holds", "fails", "inconclusive", "not measured"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One part of a finding: ``estimate`` is claimed to lie above or below ``threshold``, or within it of zero.

    ``paper`` is the paper's own number, where it prints one. ``judged_by``: whether the interval or the value decides.
    """

    name: str
    estimate: Estimate
    side: Side = "above"
    threshold: float = 0.0
    paper: float | None = None
    judged_by: Literal["interval", "value"] = "interval"

    def __post_init__(self) -> None:
        if self.side == "within" and self.threshold <= 0:
            raise ValueError(
                f"{self.name}: a claim of no change needs a threshold above zero; the threshold is {self.threshold}"
            )
        if self.side == "within" and self.judged_by == "value":
            raise ValueError(f"{self.name}: a claim of no change is decided by its interval; judged_by must be 'interval'")

    @property
    def verdict(self) -> Verdict:
        low, high, threshold = self.estimate.low, self.estimate.high, self.threshold
        if not self.estimate.known:
            return "inconclusive"
        if self.judged_by == "value":
            value = self.estimate.value
            return "holds" if (value >= threshold if self.side == "above" else value <= threshold) else "fails"
        if self.side == "within":
            holds = -threshold < low and high < threshold
            fails = high < -threshold or threshold < low
        elif self.side == "above":
            holds, fails = threshold < low, high < threshold
        else:
            holds, fails = high < threshold, threshold < low
        return "holds" if holds else "fails" if fails else "inconclusive"


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim of the paper: ``id`` F1 ... F31, ``source`` its table or figure. Without effects it was not measured.

    ``paper``: the paper's numbers that do not belong to a part, in words.
    """

    id: str
    source: str
    claim: str
    effects: tuple[Effect, ...]
    paper: str = ""

    @property
    def verdict(self) -> Verdict:
        verdicts = {effect.verdict for effect in self.effects}
        if not verdicts:
            return "not measured"
        if "fails" in verdicts:
            return "fails"
        return "holds" if verdicts == {"holds"} else "inconclusive"


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding as JSON values, with its own verdict and that of each part."""
    fields = asdict(finding)
    parts = zip(fields["effects"], finding.effects, strict=True)
    return {**fields, "effects": [{**part, "verdict": effect.verdict} for part, effect in parts], "verdict": finding.verdict}
