"""Safety context distillation on adversarial training prompts, filtered by the safety model (paper 4.2.4)."""

from collections import Counter
from pathlib import Path
from typing import Any

from preference_data.parquet import write_records
from preference_data.prompt import Dialogue
from registry.saved_states import SavedStates
from rlhf.context_distillation import DistillationStats, distil
from stages.engine.batches import SavedBatches
from stages.engine.models import sampler_of, scorer_of
from stages.engine.prompts import draw_prompts, prompts_of
from stages.sections import DistillationStageConfig
from stages.stage import Inputs, one
from stages.terminal.progress import Progress


def run(
    config: DistillationStageConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    prompts = draw_prompts(prompts_of(one(inputs, "prompts")), 0, config.num_prompts, "distillation", seed)
    dialogues: list[Dialogue] = []
    outcomes: Counter[str] = Counter()
    done = 0
    with progress.meter(len(prompts), "context distillation", "prompt") as advance:
        saved = SavedBatches(states, DistillationStats)
        batches = distil(prompts, sampler_of(inputs, progress), scorer_of(inputs, "safety"), config, seed, saved.done)
        for stats in saved.save(batches):
            dialogues += stats.dialogues
            outcomes.update(stats.outcomes)
            advance(stats, stats.num_done - done)
            done = stats.num_done
    write_records(out / "dialogues.parquet", dialogues, Dialogue)
    return {"prompts": len(prompts), "kept": len(dialogues), "outcomes": dict(outcomes)}
