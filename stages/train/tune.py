"""Supervised fine-tuning of a policy: SFT itself, each version of the rounds, and Ghost Attention.

All three mix dialogues of several sources. A version is tuned from the base model on demonstrations, the selected samples,
the distilled safety answers and, once there are some, Ghost Attention dialogues, so that nothing learnt is lost by the restart.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from policy.adapters import Factors, load_update, save_update
from policy.checkpoint import load_policy, save_checkpoint
from policy.config import FinetuneConfig
from policy.finetuning import FinetuneResult, finetune
from preference_data.parquet import read_records
from preference_data.prompt import Dialogue
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from rlhf.rejection_sampling import control_dialogues, selected_dialogues
from rlhf.samples import Sample
from stages.sections import TuningConfig
from stages.stage import Inputs, one
from stages.terminal.progress import Progress
from stages.train.rejection_sample import SAMPLES_FILE


def run_sft(
    config: FinetuneConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    dialogues = [dialogue for artifact in inputs["dialogues"] for dialogue in dialogues_of(artifact)]
    return _tune(one(inputs, "policy"), dialogues, config, out, progress, seed, states)


def run_version(
    config: TuningConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    return _tune(one(inputs, "policy"), version_dialogues(config, inputs), config, out, progress, seed, states)


def version_dialogues(config: TuningConfig, inputs: Inputs) -> list[Dialogue]:
    """What a version learns from: demonstrations, and what there is of samples, distilled answers and Ghost Attention."""
    demonstrations = dialogues_of(one(inputs, "demonstrations"))
    targets = {"best": selected_dialogues, "random": control_dialogues}[config.targets]
    sampled = [dialogue for artifact in inputs.get("samples", []) for dialogue in targets(samples_of(artifact))]
    dialogues, others = demonstrations[: config.num_demonstrations], demonstrations[config.num_demonstrations :]
    dialogues += [*unsampled(others, sampled), *sampled]
    for artifact in inputs.get("distilled", []):
        dialogues += dialogues_of(artifact)
    for artifact in inputs.get("gatt", []):
        dialogues += [dialogue for dialogue in dialogues_of(artifact) if dialogue.source == "gatt"]
    return dialogues


def unsampled(demonstrations: Sequence[Dialogue], sampled: Sequence[Dialogue]) -> list[Dialogue]:
    """The demonstrations of families that nothing ``sampled`` is of: beside samples a skill that is in none would be lost."""
    families = {dialogue.family for dialogue in sampled}
    return [dialogue for dialogue in demonstrations if dialogue.family not in families] if families else []


def dialogues_of(artifact: Artifact) -> list[Dialogue]:
    return read_records(artifact.file("dialogues.parquet"), Dialogue)


def samples_of(artifact: Artifact) -> list[Sample]:
    return read_records(artifact.file(SAMPLES_FILE), Sample)


def tuned(
    start: Path,
    dialogues: Sequence[Dialogue],
    config: FinetuneConfig,
    seed: int,
    progress: Progress,
    states: SavedStates,
    label: str = "fine-tuning",
    on_merge: Callable[[Factors], object] = lambda factors: None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, FinetuneResult]:
    """The policy in the folder ``start``, trained on ``dialogues`` in an order that is drawn from ``seed``.

    ``on_merge``: see ``finetune``.
    """
    model, tokenizer = load_policy(start)
    ordered = list(dialogues)
    random.Random(f"tune:{seed}").shuffle(ordered)
    with progress.meter(None, label, "step") as advance:
        result = finetune(
            model, tokenizer, ordered, config, seed, lambda stats: advance(stats, 1, stats.num_steps), states, on_merge
        )
    return model, tokenizer, result


def _tune(
    start: Artifact,
    dialogues: list[Dialogue],
    config: FinetuneConfig,
    out: Path,
    progress: Progress,
    seed: int,
    states: SavedStates,
) -> dict[str, Any]:
    learnt: dict[str, Any] = {}
    model, tokenizer, result = tuned(start.path, dialogues, config, seed, progress, states, on_merge=learnt.update)
    save_checkpoint(model, tokenizer, out)
    if config.lora:
        save_update(load_update(start.path).then(learnt), out)
    return {
        "dialogues": result.num_dialogues,
        "too_long": result.num_too_long,
        "steps": result.num_steps,
        "trained_tokens": result.num_trained_tokens,
        "loss": result.final_loss,
        "by_source": dict(Counter(dialogue.source for dialogue in dialogues)),
    }
