"""What a run measured, gathered from its evaluations, and the page that shows it.

The artifact's payload is ``measurements.json``: the same for the same computation. Times and memory are facts of one run on
one machine; they come from the manifests when the page is drawn (``write_report``).
"""

import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from eval.consistency_turns import TRAINED, Turn, consistency_measures, select, share
from eval.intervals import Estimate, bootstrap_mean
from eval.report.data import (
    AccuracyTable,
    AnnotationTable,
    BestOfKRow,
    ConsistencyMeasures,
    ConsistencyRow,
    DialoguePair,
    GattExample,
    GattTurn,
    JudgedResponse,
    PPOPoint,
    ReportData,
    RunFacts,
    StageTime,
    StudyReport,
    VersionRow,
    from_json,
    headline,
    score_quantiles,
    to_json,
)
from eval.report.render import render_html
from eval.reward_accuracy import Detection, unsafe_detection
from eval.safety import false_refusal_rate, violation_rate
from eval.win_rate import WinRate, win_rate
from preference_data.agreement import pairwise_agreement, rating_agreement, safety_agreement
from preference_data.comparison import AXES, Axis
from preference_data.judged import judgements_of
from preference_data.parquet import read_records
from preference_data.statistics import describe
from registry.artifact import Artifact
from registry.lineage import lineage_text, lineage_tree
from registry.manifest import LOGS_FOLDER
from registry.saved_states import SavedStates
from registry.store import Registry
from stages.data.import_annotations import comparisons_of
from stages.engine.run import Inputs, Stage, one
from stages.measure.consistency import read_turns
from stages.measure.evaluate import Answer, ScoredComparison, accuracy
from stages.studies.study import read_figures, read_study
from stages.terminal.progress import Progress
from stages.train.tune import samples_of

MEASUREMENTS = "measurements.json"
_NUM_SAMPLED = 40


class ReportConfig(BaseModel):
    """What is compared with what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str = Field(description="name of the recipe")
    versions: tuple[str, ...] = Field(min_length=1, description="policies measured, in the order of training; the first is SFT")
    arms: dict[str, str] = Field({}, description="arm of the consistency table -> policy")


def run(config: ReportConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates) -> dict[str, Any]:
    """Inputs ``policies`` are the evaluations of ``versions``, ``consistency`` those of ``arms``, both in order."""
    answers = {version: _answers(artifact) for version, artifact in zip(config.versions, inputs["policies"], strict=True)}
    first, final = answers[config.versions[0]], answers[config.versions[-1]]
    comparisons = read_records(one(inputs, "reward_models").file("comparisons.parquet"), ScoredComparison)
    evaluated = dict(zip(config.arms, inputs.get("consistency", []), strict=True))
    talks = {arm: read_turns(artifact) for arm, artifact in evaluated.items()}
    data = ReportData(
        run=RunFacts(recipe=config.recipe, seed=seed, seconds=0.0, peak_rss_mb=0.0),
        versions=tuple(_version(version, answers[version], first) for version in config.versions),
        accuracy=_accuracy(comparisons),
        detection=_detection(comparisons),
        annotations=tuple(_annotations(axis, inputs["preferences"]) for axis in AXES),
        consistency=tuple(
            row
            for arm, artifact in evaluated.items()
            for row in _consistency(arm, config.arms[arm], talks[arm], artifact.manifest.config["turns"])
        ),
        consistency_measures=tuple(_measures(arm, config.arms[arm], turns) for arm, turns in talks.items()),
        ppo=_ppo_points(one(inputs, "ppo")),
        best_of_k=tuple(_best_of_k(artifact) for artifact in inputs["samples"]),
        featured=_featured(first, final, seed),
        sampled=_sampled(first, final, seed),
        gatt_example=_gatt_example(talks, _last_asked(evaluated)),
        studies=tuple(StudyReport(artifact.reference.name, read_study(artifact)) for artifact in inputs["studies"]),
    )
    measured = json.loads(to_json(data))
    del measured["run"], measured["stage_times"]
    (out / MEASUREMENTS).write_text(json.dumps(measured, indent=1, ensure_ascii=False), encoding="utf-8")
    final_row = data.versions[-1]
    return {
        "gold_helpfulness_win_rate": _value(final_row.gold_helpfulness_win),
        "gold_harmlessness_win_rate": _value(final_row.gold_harmlessness_win),
    }


def write_report(registry: Registry, artifact: Artifact, folder: Path, budget: dict[str, float]) -> dict[str, Any]:
    """Draw ``report.html`` and ``report.json`` into ``folder`` with the facts of the run; returns the headline."""
    made = _ancestors(registry, artifact)
    stages: dict[str, float] = {}
    for ancestor in made:
        stages[ancestor.manifest.stage] = stages.get(ancestor.manifest.stage, 0.0) + ancestor.manifest.seconds
    (chat,) = artifact.manifest.parents["ppo"]
    tree = lineage_tree(registry, chat.reference)
    facts = RunFacts(
        recipe=artifact.manifest.config["recipe"],
        seed=artifact.manifest.seed,
        seconds=sum(stages.values()),
        peak_rss_mb=max(ancestor.manifest.peak_rss_mb for ancestor in made),
        device=artifact.manifest.device,
        parameters=next((found.manifest.metrics["parameters"] for found in made if found.manifest.stage == "pretrain"), None),
        versions=artifact.manifest.versions,
        lineage=lineage_text(tree),
    )
    times = tuple(StageTime(name, seconds, budget.get(name)) for name, seconds in stages.items())
    measured = json.loads(artifact.file(MEASUREMENTS).read_text(encoding="utf-8"))
    for study, parent in zip(measured.get("studies", ()), artifact.manifest.parents.get("studies", ()), strict=True):
        study |= _where_it_lies(registry.open(parent.reference))
    drawn = {**measured, "run": dataclasses.asdict(facts), "stage_times": [dataclasses.asdict(each) for each in times]}
    data = from_json(json.dumps(drawn))
    folder.mkdir(parents=True, exist_ok=True)
    summary = headline(data)
    (folder / "report.html").write_text(render_html(data), encoding="utf-8")
    (folder / "report.json").write_text(
        json.dumps({"headline": summary, **json.loads(to_json(data))}, indent=1, ensure_ascii=False), encoding="utf-8"
    )
    return summary


def _where_it_lies(study: Artifact) -> dict[str, Any]:
    """What of a `StudyReport` depends on the registry, and the figures, which are drawn already."""
    made_from = [each.reference for given in study.manifest.parents.values() for each in given]
    return {"reference": str(study.reference), "made_from": made_from, "figures": read_figures(study)}


def _ancestors(registry: Registry, artifact: Artifact) -> list[Artifact]:
    """The artifact and all that it was made from, each once, parents first."""
    found: dict[str, Artifact] = {}

    def visit(each: Artifact) -> None:
        if str(each.reference) in found:
            return
        for given in each.manifest.parents.values():
            for parent in given:
                if parent.reference not in found:
                    visit(registry.resolve(parent.reference))
        found[str(each.reference)] = each

    visit(artifact)
    return list(found.values())


def _answers(artifact: Artifact) -> list[Answer]:
    return read_records(artifact.file("answers.parquet"), Answer)


def _value(found: WinRate | None) -> float | None:
    return found.estimate.value if found and found.estimate.known else None


def _group(answers: Sequence[Answer], name: str) -> list[Answer]:
    return [answer for answer in answers if answer.group == name]


def _version(version: str, answers: list[Answer], first: list[Answer]) -> VersionRow:
    helpful, adversarial, borderline = (_group(answers, name) for name in ("helpful", "adversarial", "borderline"))
    first_helpful, first_adversarial = _group(first, "helpful"), _group(first, "adversarial")

    def win(field: str, ours: list[Answer], theirs: list[Answer]) -> WinRate | None:
        if answers is first:
            return None
        scores = [getattr(answer, field) for answer in ours]
        others = [  # the same words are a tie for every judge, and the rest would be rounding
            score if mine.response == other.response else getattr(other, field)
            for score, mine, other in zip(scores, ours, theirs, strict=True)
        ]
        return win_rate(scores, others, [answer.prompt_id for answer in ours])

    return VersionRow(
        version,
        gold_helpfulness_win=win("gold_helpfulness", helpful, first_helpful),
        gold_harmlessness_win=win("gold_safety", adversarial, first_adversarial),
        rm_helpfulness_win=win("helpfulness_score", helpful, first_helpful),
        rm_harmlessness_win=win("safety_score", adversarial, first_adversarial),
        gold_helpfulness=_mean_of(helpful, "gold_helpfulness"),
        violation=violation_rate([not answer.is_safe for answer in adversarial]),
        false_refusal_helpful=false_refusal_rate([answer.refused for answer in helpful]),
        false_refusal_borderline=false_refusal_rate([answer.refused for answer in borderline]),
        mean_tokens=_mean_of(helpful, "num_tokens"),
        helpfulness_scores=score_quantiles([answer.helpfulness_score for answer in helpful]),
        safety_scores=score_quantiles([answer.safety_score for answer in adversarial]),
    )


def _mean_of(answers: Sequence[Answer], field: str) -> Estimate:
    return bootstrap_mean([float(getattr(answer, field)) for answer in answers], [answer.prompt_id for answer in answers])


def _accuracy(rows: Sequence[ScoredComparison]) -> tuple[AccuracyTable, ...]:
    """Both models on both test sets; the ceiling is gold's own accuracy against the annotators' noisy choices."""
    return tuple(
        AccuracyTable(model, axis, accuracy(rows, model, axis), accuracy(rows, "gold", axis) if model == axis else None)
        for axis in AXES
        for model in AXES
        if any(row.axis == axis for row in rows)
    )


def _detection(rows: Sequence[ScoredComparison]) -> tuple[Detection, ...]:
    labelled = [
        (score, safe, row.prompt_id)
        for row in rows
        for score, safe in ((row.safety_chosen, row.chosen_safe), (row.safety_rejected, row.rejected_safe))
        if row.axis == "safety" and safe is not None
    ]
    if not labelled:
        return ()
    scores, safe, prompt_ids = zip(*labelled, strict=True)
    return tuple(unsafe_detection(scores, safe, prompt_ids, threshold) for threshold in (0.15, 0.5))


def _annotations(axis: Axis, preferences: Sequence[Artifact]) -> AnnotationTable:
    comparisons = [row for side in ("train", "test") for row in comparisons_of(preferences, side) if row.axis == axis]
    shares = {
        rating: Estimate(share.share, *share.interval, share.total)
        for rating, share in describe(comparisons).ratings.items()
        if rating != "unrated"
    }
    judgements = judgements_of(comparisons)
    agreed, sure = pairwise_agreement(judgements), pairwise_agreement(judgements, "significantly_better")
    ratings = rating_agreement(judgements)
    labels = safety_agreement(judgements) if axis == "safety" else None
    return AnnotationTable(
        axis,
        shares,
        agreement=Estimate(agreed.share, agreed.low, agreed.high, agreed.pairs),
        agreement_significant=Estimate(sure.share, sure.low, sure.high, sure.pairs),
        ac2_ratings=Estimate(ratings.coefficient, ratings.low, ratings.high, ratings.repeated),
        ac2_safety_labels=Estimate(labels.coefficient, labels.low, labels.high, labels.repeated) if labels else None,
    )


def _consistency(arm: Any, policy: str, turns: Sequence[Turn], asked: Sequence[int]) -> list[ConsistencyRow]:
    rows = []
    for number in asked:
        found = select(turns, TRAINED, (number,))
        num_overflowed = sum(turn.obeyed is None for turn in found)
        rows.append(ConsistencyRow(arm, policy, number, share(found), num_overflowed))
    return rows


def _measures(arm: Any, policy: str, turns: Sequence[Turn]) -> ConsistencyMeasures:
    return ConsistencyMeasures(arm, policy, consistency_measures(turns))


def _last_asked(evaluated: Mapping[str, Artifact]) -> int:
    return max((number for artifact in evaluated.values() for number in artifact.manifest.config["turns"]), default=0)


def _ppo_points(policy: Artifact) -> tuple[PPOPoint, ...]:
    log = policy.path / LOGS_FOLDER / "ppo.jsonl"
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
    return tuple(PPOPoint(row["iteration"], row["score"], row["kl"], row["response_length"]) for row in rows)


def _best_of_k(artifact: Artifact) -> BestOfKRow:
    by_prompt: dict[str, list[float]] = {}
    for sample in samples_of(artifact):
        by_prompt.setdefault(sample.prompt_id, []).append(sample.combined_score)
    ids = list(by_prompt)
    return BestOfKRow(
        artifact.reference.name,
        max(map(len, by_prompt.values())),
        bootstrap_mean([max(by_prompt[each]) for each in ids], ids),
        bootstrap_mean([fmean(by_prompt[each]) for each in ids], ids),
    )


def _judged(answer: Answer) -> JudgedResponse:
    if answer.group == "adversarial":
        return JudgedResponse(answer.response, None, "safe" if answer.is_safe else "unsafe")
    return JudgedResponse(answer.response, answer.gold_helpfulness, "false_refusal" if answer.refused else None)


def _pair(before: Answer, after: Answer, label: str) -> DialoguePair:
    return DialoguePair(before.prompt, _judged(before), _judged(after), label)


def _featured(first: Sequence[Answer], final: Sequence[Answer], seed: int) -> tuple[DialoguePair, ...]:
    """Ten: six helpful ones of different families, three adversarial, one borderline, drawn without looking at the answers."""
    rng = random.Random(f"featured:{seed}")
    indices = rng.sample(range(len(first)), len(first))
    chosen: list[int] = []
    families: set[str] = set()
    wanted = {"helpful": 6, "adversarial": 3, "borderline": 1}
    for index in indices:
        answer = first[index]
        if wanted[answer.group] and (answer.group != "helpful" or answer.family not in families):
            wanted[answer.group] -= 1
            families.add(answer.family)
            chosen.append(index)
    return tuple(_pair(first[index], final[index], first[index].family) for index in chosen)


def _sampled(first: Sequence[Answer], final: Sequence[Answer], seed: int) -> tuple[DialoguePair, ...]:
    chosen = random.Random(f"sampled:{seed}").sample(range(len(first)), min(_NUM_SAMPLED, len(first)))
    return tuple(_pair(first[index], final[index], first[index].family) for index in chosen)


def _gatt_example(talks: dict[str, list[Turn]], last: int) -> GattExample | None:
    """The first dialogue to turn ``last``, held with the policy before Ghost Attention and with the final one."""
    if not {"with", "without"} <= set(talks):
        return None
    held = {arm: [turn for turn in talks[arm] if turn.dialogue == 0 and turn.turn <= last] for arm in ("with", "without")}
    return GattExample(
        held["with"][0].instruction,
        tuple(turn for pair in zip(held["with"], held["without"], strict=True) for turn in _gatt_turns(*pair)),
    )


def _gatt_turns(ours: Turn, theirs: Turn) -> list[GattTurn]:
    """A turn, after what was asked in its place, if anything."""
    spoken = GattTurn(ours.turn, ours.user, theirs.response or "", ours.response or "", theirs.obeyed, ours.obeyed)
    question = ours.recall_question or theirs.recall_question
    if not question:
        return [spoken]
    answers = (theirs.recall_response or "", ours.recall_response or "", theirs.recalled, ours.recalled)
    return [GattTurn(ours.turn, question, *answers, aside=True), spoken]


STAGE = Stage(
    "report",
    "report",
    4,
    ReportConfig,
    run,
    {
        "policies": "evaluation",
        "reward_models": "evaluation",
        "consistency": "evaluation",
        "preferences": "preferences",
        "samples": "samples",
        "ppo": "policy",
        "studies": "study",
    },
)
