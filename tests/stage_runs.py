"""Artifacts put into a registry by hand, stages run on them, and what a study wrote: what tests of stages share."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from fakes import tiny_policy, tiny_tokenizer
from registry_folders import RUN
from transformers import LlamaForCausalLM

from policy.checkpoint import save_checkpoint
from preference_data.comparison import AXES, Comparison
from preference_data.parquet import read_records, write_records
from preference_data.prompt import Dialogue, Prompt
from registry.artifact import Artifact
from registry.store import Registry
from reward_model.model import build_reward_model
from stages.engine.run import run_stage
from stages.stage import Stage
from stages.terminal.progress import Progress

Row = TypeVar("Row")
REWARD_MODELS = {axis: [f"reward_model/{axis}"] for axis in AXES}


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


def put_policy(registry: Registry, name: str, seed: int = 0, policy: LlamaForCausalLM | None = None) -> Artifact:
    """A random tiny policy, or ``policy``."""
    model = policy or tiny_policy(seed)
    return put(registry, f"policy/{name}", lambda path: save_checkpoint(model, tiny_tokenizer(), path))


def put_reward_model(
    registry: Registry, name: str, policy: str, seed: int = 0, scale: float = 1.0, axis: str | None = None
) -> Artifact:
    """A random head on the backbone of ``policy``; with a large ``scale`` scores lie on both sides of the threshold."""
    model, tokenizer = build_reward_model(registry.resolve(policy).path, seed)
    with torch.no_grad():
        model.get_parameter("score.weight").mul_(scale)
    config = {"axis": axis} if axis else {}
    return put(registry, f"reward_model/{name}", lambda path: save_checkpoint(model, tokenizer, path), config, "train-reward")


def put_models(registry: Registry, name: str, policy: LlamaForCausalLM | None = None, scale: float = 1.0) -> None:
    """A policy, and a reward model of each axis on it."""
    put_policy(registry, name, policy=policy)
    for seed, axis in enumerate(AXES):
        put_reward_model(registry, axis, f"policy/{name}", seed, scale, axis)


def put_rows(registry: Registry, reference: str, file: str, rows: Sequence[Row], of: type[Row], **made: Any) -> Artifact:
    """``made``: config, stage and parents, as in ``put``."""
    return put(registry, reference, lambda path: write_records(path / file, rows, of), **made)


def put_prompts(registry: Registry, name: str, prompts: Sequence[Prompt]) -> Artifact:
    return put_rows(registry, f"prompts/{name}", "prompts.parquet", prompts, Prompt)


def put_dialogues(registry: Registry, name: str, dialogues: Sequence[Dialogue], **made: Any) -> Artifact:
    return put_rows(registry, f"dialogues/{name}", "dialogues.parquet", dialogues, Dialogue, **made)


def put_preferences(
    registry: Registry, name: str, train: Sequence[Comparison] = (), test: Sequence[Comparison] = ()
) -> Artifact:
    def write(path: Path) -> None:
        write_records(path / "train.parquet", train, Comparison)
        write_records(path / "test.parquet", test, Comparison)

    return put(registry, f"preferences/{name}", write)


def prompts_in(registry: Registry, reference: str) -> list[Prompt]:
    return read_records(registry.resolve(reference).file("prompts.parquet"), Prompt)


def opened(registry: Registry, inputs: Mapping[str, Sequence[str]]) -> dict[str, list[Artifact]]:
    return {role: [registry.resolve(text) for text in texts] for role, texts in inputs.items()}


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


def by_arm(study: Artifact, file: str, of: type[Row]) -> dict[str, list[Row]]:
    """The rows of ``file``, by the arm that they are of."""
    found: dict[str, list[Row]] = {}
    for row in read_records(study.file(file), of):
        found.setdefault(row.arm, []).append(row)  # type: ignore[attr-defined]
    return found
