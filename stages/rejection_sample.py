"""Sampling K answers a prompt from the newest policy and selecting the best by the newest reward models (paper 3.2.3)."""

from pathlib import Path
from statistics import fmean
from typing import Any

from preference_data.parquet import write_records
from registry.saved_states import SavedStates
from rlhf.rejection_sampling import RejectionSamplingStats, Sample, rejection_sample
from stages.batches import SavedBatches
from stages.draw_prompts import draw_prompts, prompts_of
from stages.load_models import reward_of, sampler_of
from stages.progress import Progress
from stages.sections import SamplingConfig
from stages.stage import Inputs, Stage, one


def run(
    config: SamplingConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    drawn = draw_prompts(
        prompts_of(one(inputs, "prompts")), config.num_helpful, config.num_adversarial, f"rejection:{config.batch}", seed
    )
    policy = str(one(inputs, "policy").reference)
    saved = SavedBatches(states, RejectionSamplingStats)
    reward = reward_of(inputs, config.safety_threshold)
    batches = saved.save(rejection_sample(drawn, sampler_of(inputs), reward, config, policy, seed, saved.done))
    samples: list[Sample] = []
    done = 0
    with progress.meter(len(drawn), f"best of {config.k}", "prompt") as advance:
        for stats in batches:
            samples += stats.samples
            advance(stats, stats.num_done - done)
            done = stats.num_done
    write_records(out / "samples.parquet", samples, Sample)
    selected = [sample.combined_score for sample in samples if sample.selected]
    return {
        "prompts": len(drawn),
        "samples": len(samples),
        "selected": len(selected),
        "mean_score": fmean(sample.combined_score for sample in samples),
        "selected_score": fmean(selected) if selected else None,
        "finished": fmean(sample.finished for sample in samples),
    }


STAGE = Stage(
    "rejection-sample",
    "samples",
    2,
    SamplingConfig,
    run,
    {"policy": "policy", "helpfulness": "reward_model", "safety": "reward_model", "prompts": "prompts"},
)
