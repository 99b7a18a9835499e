"""Samples scored and selected anew, by other reward models: nothing is sampled (paper 3.2.3).

Each round keeps all of its samples, so a better reward model can choose among them again.
"""

from pathlib import Path
from typing import Any

from preference_data.parquet import read_records, write_records
from registry.saved_states import SavedStates
from rlhf.config import SelectionConfig
from rlhf.rejection_sampling import RejectionSamplingStats, rescore
from rlhf.samples import Sample
from stages.engine.batches import SavedBatches
from stages.engine.models import reward_of
from stages.stage import Inputs, one
from stages.terminal.progress import Progress
from stages.train.rejection_sample import SAMPLES_FILE, collected, sample_metrics


def run(
    config: SelectionConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    before = read_records(one(inputs, "samples").file(SAMPLES_FILE), Sample)
    saved = SavedBatches(states, RejectionSamplingStats)
    batches = rescore(before, reward_of(inputs, config.safety_threshold), config.prompts_per_batch, saved.done)
    num_prompts = sum(sample.position == 0 for sample in before)
    samples = collected(saved.save(batches), num_prompts, "scoring anew", progress)
    write_records(out / SAMPLES_FILE, samples, Sample)
    newly_selected = sum(new.selected and not old.selected for new, old in zip(samples, before, strict=True))
    return {**sample_metrics(samples), "newly_selected": newly_selected}
