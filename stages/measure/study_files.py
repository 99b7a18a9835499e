"""What a study leaves behind: ``study.json``, the whole as data; ``pairs.parquet``, the comparisons that its arms scored; and
its figures as ``*.svg``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.findings.reward_models import ScoredPair
from eval.findings.study import Study, study_from_json, study_json
from preference_data.parquet import write_records
from registry.artifact import Artifact

STUDY_FILE, PAIRS_FILE = "study.json", "pairs.parquet"


def write_study(
    study: Study, out: Path, pairs: Sequence[Sequence[ScoredPair]] = (), figures: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Write a study, and the scored comparisons of its arms, into ``out``; returns its metrics: the verdict of each finding."""
    (out / STUDY_FILE).write_text(json.dumps(study_json(study), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if pairs:
        write_records(out / PAIRS_FILE, (pair for arm in pairs for pair in arm), ScoredPair)
    for name, svg in (figures or {}).items():
        (out / f"{name}.svg").write_text(svg, encoding="utf-8")
    return {"findings": {finding.id: finding.verdict for finding in study.findings}}


def read_study(artifact: Artifact) -> Study:
    return study_from_json(artifact.file(STUDY_FILE).read_text(encoding="utf-8"))


def read_figures(artifact: Artifact) -> dict[str, str]:
    """The figures of a study by name, as SVG."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(artifact.path.glob("*.svg"))}
