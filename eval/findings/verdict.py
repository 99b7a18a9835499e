"""The verdict rule of all findings, fixed before anything is measured.

A finding has parts, each one effect: a difference or a slope with the side on which the paper has it. A part ``holds`` when its
whole 95 % interval lies on that side of the threshold, ``fails`` when the whole lies on the other, and is ``inconclusive`` when
it straddles. A claim of no change has the side ``within``: the interval lies inside -threshold ... threshold, or wholly
outside. Where a claim is of the value itself, the value alone decides (``judged_by``), on the threshold or beyond it. A finding
holds when every part does, fails when any part does, and is inconclusive otherwise.

The interval speaks of these prompts and of the models that were trained; how another training seed would fare it does not say.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from eval.intervals import Estimate

Side = Literal["above", "below", "within"]
Verdict = Literal["holds", "fails", "inconclusive", "not measured"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One part of a finding: ``estimate`` is claimed to lie above or below ``threshold``, or within it of zero.

    ``paper`` is the paper's own number for it, where it prints one. ``judged_by``: whether the whole interval has to lie there,
    or the value.
    """

    name: str
    estimate: Estimate
    side: Side = "above"
    threshold: float = 0.0
    paper: float | None = None
    judged_by: Literal["interval", "value"] = "interval"

    def __post_init__(self) -> None:
        if self.side == "within" and self.threshold <= 0:
            raise ValueError(f"{self.name}: a claim of no change needs a threshold above zero, and it is {self.threshold}")
        if self.side == "within" and self.judged_by == "value":
            raise ValueError(f"{self.name}: a claim of no change is judged by its interval, never by its value")

    @property
    def verdict(self) -> Verdict:
        low, high, at = self.estimate.low, self.estimate.high, self.threshold
        if not self.estimate.known:
            return "inconclusive"
        if self.judged_by == "value":
            value = self.estimate.value
            return "holds" if (value >= at if self.side == "above" else value <= at) else "fails"
        if self.side == "within":
            holds, fails = -at < low and high < at, high < -at or at < low
        elif self.side == "above":
            holds, fails = at < low, high < at
        else:
            holds, fails = high < at, at < low
        return "holds" if holds else "fails" if fails else "inconclusive"


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim of the paper: ``id`` F1 ... F31, ``source`` its table or figure. Without effects it was not measured.

    ``paper``: what the paper has in numbers beside those of the parts, in words.
    """

    id: str
    source: str
    claim: str
    effects: tuple[Effect, ...]
    paper: str = ""

    @property
    def verdict(self) -> Verdict:
        parts = [effect.verdict for effect in self.effects]
        if not parts:
            return "not measured"
        if "fails" in parts:
            return "fails"
        return "holds" if set(parts) == {"holds"} else "inconclusive"


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding as JSON values, with the verdicts of the whole and of its parts."""
    fields = asdict(finding)
    parts = zip(fields["effects"], finding.effects, strict=True)
    return {**fields, "effects": [{**part, "verdict": effect.verdict} for part, effect in parts], "verdict": finding.verdict}
