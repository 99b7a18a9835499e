"""Artifacts put into a registry by hand, stages run on them, and what a study wrote: what tests of stages share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fakes import tiny_policy, tiny_tokenizer
from registry_folders import RUN

from policy.checkpoint import save_checkpoint
from preference_data.parquet import write_records
from preference_data.prompt import Prompt
from registry.artifact import Artifact
from registry.store import Registry
from stages.engine.run import run_stage
from stages.stage import Stage
from stages.terminal.progress import Progress


def put(
    registry: Registry,
    reference: str,
    write: Callable[[Path], Any],
    config: dict[str, Any] | None = None,
    stage: str = RUN.stage,
    **parents: Artifact,
) -> Artifact:
    """``kind/name`` with what ``write`` writes, as if ``stage`` had made it with ``config`` from ``parents``."""
    kind, name = reference.split("/")
    run = RUN.model_copy(update={"stage": stage, "config": config or {}})
    with registry.draft(kind, name, f"{reference}{config}".encode().hex()[-60:]) as draft:
        write(draft.path)
        return draft.commit(run, {role: [parent] for role, parent in parents.items()})


def put_policy(registry: Registry, name: str, seed: int = 0) -> Artifact:
    """A random tiny policy."""
    return put(registry, f"policy/{name}", lambda path: save_checkpoint(tiny_policy(seed), tiny_tokenizer(), path))


def put_prompts(registry: Registry, name: str, prompts: list[Prompt]) -> Artifact:
    return put(registry, f"prompts/{name}", lambda path: write_records(path / "prompts.parquet", prompts, Prompt))


def make(
    registry: Registry,
    stage: Stage,
    config: Any,
    inputs: Any,
    name: str,
    progress: Progress | None = None,
    seed: int = 3,
    **options: Any,
) -> Artifact:
    """What ``stage`` makes, quietly."""
    progress = progress or Progress(quiet=True)
    return run_stage(
        registry, stage, name=name, config=config, inputs=inputs, seed=seed, progress=progress, **options
    ).artifact  # fmt: skip


def told(study: Artifact) -> dict[str, Any]:
    """What a study wrote."""
    return json.loads(study.file("study.json").read_text())


def cells(study: Artifact, table: int) -> dict[str, dict[str, float]]:
    """The values of one of its tables, by row and column."""
    rows = told(study)["tables"][table]["rows"]
    return {row["name"]: {column: estimate["value"] for column, estimate in row["measured"].items()} for row in rows}
