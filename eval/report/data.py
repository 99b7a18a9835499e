"""The contents of the report as plain numbers and text: the caller fills `ReportData`, and ``render_html`` reads it.

Leave out what was not measured: an empty tuple or None drops its section, row or line from the page. ``versions`` are in the
order of training; the first is the SFT policy that the others are compared with, the last the final policy. All of it is stored
as JSON (``to_json``, ``from_json``), so that a report can be rendered again without measuring again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from eval.calibration import sigmoid
from eval.findings.claims import CORE
from eval.findings.claims import finding as unmeasured
from eval.findings.study import Study
from eval.findings.verdict import Finding
from eval.intervals import Estimate
from eval.reward_accuracy import Detection
from eval.win_rate import WinRate

AxisName = Literal["helpfulness", "safety"]
Arm = Literal["with", "without", "v3_gatt"]
SafetyJudgement = Literal["safe", "unsafe", "false_refusal"]


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Percentiles of the scores of ``n`` responses, as sigmoid of the logit, in (0, 1)."""

    p10: float
    p25: float
    p50: float
    p75: float
    p90: float
    n: int


def score_quantiles(scores: Sequence[float]) -> Quantiles:
    """Quantiles of reward model ``scores`` (N,), given as raw logits. Raises ValueError for no scores."""
    if len(scores) == 0:
        raise ValueError("cannot take quantiles of no scores; give at least one")
    sigmoids = sigmoid(np.asarray(scores, dtype=np.float64))
    p10, p25, p50, p75, p90 = map(float, np.quantile(sigmoids, [0.10, 0.25, 0.50, 0.75, 0.90]))
    return Quantiles(p10, p25, p50, p75, p90, len(scores))


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One policy measured on the evaluation prompts; win rates are against the first version (None for it)."""

    version: str
    gold_helpfulness_win: WinRate | None = None
    gold_harmlessness_win: WinRate | None = None
    rm_helpfulness_win: WinRate | None = None
    rm_harmlessness_win: WinRate | None = None
    gold_helpfulness: Estimate | None = None
    violation: Estimate | None = None
    false_refusal_helpful: Estimate | None = None
    false_refusal_borderline: Estimate | None = None
    mean_tokens: Estimate | None = None
    helpfulness_scores: Quantiles | None = None
    safety_scores: Quantiles | None = None


@dataclass(frozen=True, slots=True)
class AccuracyTable:
    """One reward model on one test set, as `eval.reward_accuracy.accuracy_by_rating` returns it.

    ``ceiling`` is the accuracy of a judge that knows the true quality: the most that the annotators' noise allows.
    """

    model: AxisName
    test_set: AxisName
    by_rating: Mapping[str, Estimate]
    ceiling: Mapping[str, Estimate] | None = None


@dataclass(frozen=True, slots=True)
class AnnotationTable:
    """The comparisons of one axis: the share of each rating, and how often two annotators of one item agree."""

    axis: AxisName
    rating_shares: Mapping[str, Estimate]
    agreement: Estimate | None = None
    agreement_significant: Estimate | None = None
    ac2_ratings: Estimate | None = None
    ac2_safety_labels: Estimate | None = None


@dataclass(frozen=True, slots=True)
class ConsistencyRow:
    """Share of dialogues obeying at a turn. Arms: the final policy, the policy before GAtt, the policy right after GAtt."""

    arm: Arm
    policy: str
    turn: int
    estimate: Estimate
    num_overflowed: int = 0


@dataclass(frozen=True, slots=True)
class ConsistencyMeasures:
    """Other measures of an arm's dialogues, by name: obedience at the last turn, recall, held-out constraints."""

    arm: Arm
    policy: str
    measures: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class PPOPoint:
    """Means over the responses of one PPO iteration: score (the caller chooses which), KL in nats, length in tokens."""

    iteration: int
    score: float
    kl: float
    length: float


@dataclass(frozen=True, slots=True)
class BestOfKRow:
    """The maximum and the mean combined score of k samples, averaged over the prompts of a round."""

    version: str
    k: int
    maximum: Estimate
    mean: Estimate


@dataclass(frozen=True, slots=True)
class StageTime:
    name: str
    seconds: float
    budget_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class JudgedResponse:
    """A response as sampled, with the judgement of the gold judge."""

    text: str
    helpfulness: float | None = None
    safety: SafetyJudgement | None = None
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DialoguePair:
    """One prompt with the responses of the first and of the last version; ``label`` says why it is shown."""

    prompt: Sequence[Mapping[str, Any]]  # messages; pydantic cannot read a typing.TypedDict back on Python 3.11
    before: JudgedResponse
    after: JudgedResponse
    label: str = ""


@dataclass(frozen=True, slots=True)
class GattTurn:
    """One turn of the same dialogue with both policies.

    ``aside``: it was asked in place of the turn, and the dialogue continued without it.
    """

    turn: int
    user: str
    without: str
    with_gatt: str
    without_obeys: bool | None = None
    with_gatt_obeys: bool | None = None
    aside: bool = False


@dataclass(frozen=True, slots=True)
class GattExample:
    instruction: str
    turns: tuple[GattTurn, ...]


@dataclass(frozen=True, slots=True)
class StudyReport:
    """A study of the run. ``reference`` is its artifact, ``made_from`` its input artifacts; ``figures`` are SVG by name."""

    name: str
    study: Study
    reference: str = ""
    made_from: tuple[str, ...] = ()
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """How the run was made; ``versions`` are library versions, ``lineage`` a text tree."""

    recipe: str
    seed: int
    seconds: float
    peak_rss_mb: float
    device: str = ""
    parameters: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    lineage: str = ""


@dataclass(frozen=True, slots=True)
class ReportData:
    run: RunFacts
    versions: tuple[VersionRow, ...] = ()
    accuracy: tuple[AccuracyTable, ...] = ()
    detection: tuple[Detection, ...] = ()
    annotations: tuple[AnnotationTable, ...] = ()
    consistency: tuple[ConsistencyRow, ...] = ()
    consistency_measures: tuple[ConsistencyMeasures, ...] = ()
    ppo: tuple[PPOPoint, ...] = ()
    best_of_k: tuple[BestOfKRow, ...] = ()
    stage_times: tuple[StageTime, ...] = ()
    featured: tuple[DialoguePair, ...] = ()
    sampled: tuple[DialoguePair, ...] = ()
    gatt_example: GattExample | None = None
    studies: tuple[StudyReport, ...] = ()

    @property
    def first(self) -> VersionRow | None:
        """The SFT policy's row."""
        return self.versions[0] if self.versions else None

    @property
    def final(self) -> VersionRow | None:
        """The last policy's row; None while there is nothing after SFT."""
        return self.versions[-1] if len(self.versions) > 1 else None


def all_findings(data: ReportData) -> list[tuple[Finding, StudyReport | None]]:
    """Every finding of the studies with its study, and those of the core set that no study has; in order of their numbers."""
    of_studies = [(finding, study) for study in data.studies for finding in study.study.findings]
    ids = {finding.id for finding, _ in of_studies}
    missing = [(unmeasured(name), None) for name in CORE if name not in ids]
    return sorted([*of_studies, *missing], key=lambda entry: int(entry[0].id.removeprefix("F")))


def headline(data: ReportData) -> dict[str, Any]:
    """The run as one JSON object; a measure that was not taken is None. Turns are string keys, as JSON needs."""
    return {
        "gold_helpfulness_win_rate": _measure(data.final, "gold_helpfulness_win"),
        "gold_harmlessness_win_rate": _measure(data.final, "gold_harmlessness_win"),
        "violation_rate_sft": _measure(data.first, "violation"),
        "violation_rate_final": _measure(data.final, "violation"),
        "false_refusal_rate_helpful": _measure(data.final, "false_refusal_helpful"),
        "false_refusal_rate_borderline": _measure(data.final, "false_refusal_borderline"),
        "reward_accuracy": {
            table.model: {rating: asdict(estimate) for rating, estimate in table.by_rating.items()}
            for table in data.accuracy
            if table.model == table.test_set
        },
        "gatt_consistency": {
            arm: {str(row.turn): asdict(row.estimate) for row in data.consistency if row.arm == arm}
            for arm in ("with", "without", "v3_gatt")
        },
        "findings": {finding.id: finding.verdict for finding, _ in all_findings(data)},
        "seconds_total": data.run.seconds,
        "seconds_by_stage": {stage.name: stage.seconds for stage in data.stage_times},
        "peak_rss_mb": data.run.peak_rss_mb,
        "seed": data.run.seed,
        "recipe": data.run.recipe,
        "versions": dict(data.run.versions),
    }


def to_json(data: ReportData) -> str:
    """The whole report as JSON text; ``from_json`` reads it back."""
    return TypeAdapter(ReportData).dump_json(data, indent=1).decode()


def from_json(text: str) -> ReportData:
    """Read the text of ``to_json``. Raises pydantic's ValidationError naming every field that does not fit."""
    return TypeAdapter(ReportData).validate_json(text)


def _measure(row: VersionRow | None, name: str) -> dict[str, Any] | None:
    measure: WinRate | Estimate | None = getattr(row, name) if row else None
    estimate = measure.estimate if isinstance(measure, WinRate) else measure
    return asdict(estimate) if estimate else None
