"""What a run measured, gathered from its evaluations, and the page that shows it.

The artifact's payload is ``measurements.json``: the same for the same computation. Times and memory are facts of one run on
one machine; they come from the manifests when the page is drawn (``write_report``).
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.report.data import (
    PPOPoint,
    ReportData,
    RunFacts,
    StageTime,
    StudyReport,
    from_json,
    headline,
    to_json,
)
from eval.report.render import render_html
from eval.report.rows import (
    accuracy_tables,
    annotation_table,
    best_of_k_row,
    consistency_rows,
    detections,
    featured_pairs,
    gatt_example,
    measures_of,
    sampled_pairs,
    version_row,
)
from eval.reward_accuracy import ScoredComparison
from eval.win_rate import WinRate
from preference_data.comparison import AXES, Axis, Comparison
from preference_data.parquet import read_records
from registry.artifact import Artifact
from registry.lineage import lineage_text, lineage_tree
from registry.manifest import LOGS_FOLDER
from registry.saved_states import SavedStates
from registry.store import Registry
from stages.data.import_annotations import comparisons_of
from stages.engine.artifacts import answers_of
from stages.measure.consistency import read_turns
from stages.measure.study_files import read_figures, read_study
from stages.sections import ReportConfig
from stages.stage import Inputs, one
from stages.terminal.progress import Progress
from stages.train.tune import samples_of

MEASUREMENTS = "measurements.json"


def run(config: ReportConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates) -> dict[str, Any]:
    """Inputs ``policies`` are the evaluations of ``versions``, ``consistency`` those of ``arms``, both in order."""
    answers = {version: answers_of(artifact) for version, artifact in zip(config.versions, inputs["policies"], strict=True)}
    first, final = answers[config.versions[0]], answers[config.versions[-1]]
    comparisons = read_records(one(inputs, "reward_models").file("comparisons.parquet"), ScoredComparison)
    evaluated = dict(zip(config.arms, inputs.get("consistency", []), strict=True))
    talks = {arm: read_turns(artifact) for arm, artifact in evaluated.items()}
    data = ReportData(
        run=RunFacts(recipe=config.recipe, seed=seed, seconds=0.0, peak_rss_mb=0.0),
        versions=tuple(version_row(version, answers[version], first) for version in config.versions),
        accuracy=accuracy_tables(comparisons),
        detection=detections(comparisons),
        annotations=tuple(annotation_table(axis, _comparisons(axis, inputs["preferences"])) for axis in AXES),
        consistency=tuple(
            row
            for arm, artifact in evaluated.items()
            for row in consistency_rows(arm, config.arms[arm], talks[arm], artifact.manifest.config["turns"])
        ),
        consistency_measures=tuple(measures_of(arm, config.arms[arm], turns) for arm, turns in talks.items()),
        ppo=_ppo_points(one(inputs, "ppo")),
        best_of_k=tuple(best_of_k_row(artifact.reference.name, _scored(artifact)) for artifact in inputs["samples"]),
        featured=featured_pairs(first, final, seed),
        sampled=sampled_pairs(first, final, seed),
        gatt_example=gatt_example(talks, _last_asked(evaluated)),
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
    drawn = {**measured, "run": dataclasses.asdict(facts), "stage_times": [dataclasses.asdict(time) for time in times]}
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
    made_from = [parent.reference for given in study.manifest.parents.values() for parent in given]
    return {"reference": str(study.reference), "made_from": made_from, "figures": read_figures(study)}


def _ancestors(registry: Registry, artifact: Artifact) -> list[Artifact]:
    """The artifact and all that it was made from, each once, parents first."""
    ancestors: dict[str, Artifact] = {}

    def visit(each: Artifact) -> None:
        if str(each.reference) in ancestors:
            return
        for given in each.manifest.parents.values():
            for parent in given:
                if parent.reference not in ancestors:
                    visit(registry.resolve(parent.reference))
        ancestors[str(each.reference)] = each

    visit(artifact)
    return list(ancestors.values())


def _value(win: WinRate | None) -> float | None:
    return win.estimate.value if win and win.estimate.known else None


def _comparisons(axis: Axis, preferences: Sequence[Artifact]) -> list[Comparison]:
    return [row for side in ("train", "test") for row in comparisons_of(preferences, side) if row.axis == axis]


def _scored(samples: Artifact) -> list[tuple[str, float]]:
    return [(sample.prompt_id, sample.combined_score) for sample in samples_of(samples)]


def _last_asked(evaluated: Mapping[str, Artifact]) -> int:
    return max((number for artifact in evaluated.values() for number in artifact.manifest.config["turns"]), default=0)


def _ppo_points(policy: Artifact) -> tuple[PPOPoint, ...]:
    log = policy.path / LOGS_FOLDER / "ppo.jsonl"
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
    return tuple(PPOPoint(row["iteration"], row["score"], row["kl"], row["response_length"]) for row in rows)
