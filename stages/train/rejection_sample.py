"""Sampling K answers a prompt from the newest policy and selecting the best by the newest reward models (paper 3.2.3).

The temperature is chosen first, on prompts of the same kinds that the round does not sample for; what was tried lies in
``temperatures.json`` beside the samples.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from policy.generation import Sampler
from preference_data.parquet import write_records
from preference_data.prompt import Prompt
from registry.saved_states import SavedStates
from reward_model.combined_reward import CombinedReward
from rlhf.rejection_sampling import (
    RejectionSamplingStats,
    TemperatureTrial,
    best_temperature,
    rejection_sample,
    search_temperature,
)
from rlhf.samples import Sample, Unfit, controls
from stages.engine.answerable import check_answerable
from stages.engine.batches import SavedBatches
from stages.engine.evaluation_overlap import check_overlap
from stages.engine.models import engine_of, reward_of
from stages.engine.prompts import draw_prompts, held_out_prompts, prompts_of
from stages.sections import SamplingConfig
from stages.stage import Inputs, one
from stages.terminal.progress import Progress

SAMPLES_FILE, TEMPERATURES_FILE = "samples.parquet", "temperatures.json"
TRIAL_METRICS = ("temperature", "score", "eligible_share", "num_prompts")
UNFIT_IN_WORDS: dict[Unfit, str] = {"unfinished": "unfinished", "empty": "empty", "chat_tags": "with a tag of the chat format"}


def run(
    config: SamplingConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    prompts = prompts_of(one(inputs, "prompts"))
    drawn, searched = draw(prompts, config, seed)
    overlapping = check_overlap(
        [*drawn, *searched], prompts, inputs, config.allow_overlap, "rejection_sampling", progress,
        to_draw_others="--set rejection_sampling.batch=NAME",
    )  # fmt: skip
    check_answerable(one(inputs, "policy").path, [*drawn, *searched], config.max_new_tokens)
    sampler, engine = engine_of(inputs, progress, config)
    reward = reward_of(inputs, config.safety_threshold)
    policy = str(one(inputs, "policy").reference)
    trials = _search(searched, sampler, reward, config, policy, seed, progress, states)
    temperature = best_temperature(trials) if trials else config.temperatures[0]
    saved = SavedBatches(states, RejectionSamplingStats)
    batches = rejection_sample(drawn, sampler, reward, config, policy, seed, temperature, saved.done)
    samples = collected(saved.save(batches), len(drawn), f"best of {config.k}", progress)
    _check_any_selected(samples, config, policy)
    write_records(out / SAMPLES_FILE, samples, Sample)
    chosen = {"temperature": temperature, "trials": [asdict(trial) for trial in trials]}
    (out / TEMPERATURES_FILE).write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf-8")
    tried = [{name: getattr(trial, name) for name in TRIAL_METRICS} for trial in trials]
    chosen_at = {"temperature": temperature, "trials": tried}
    return {**sample_metrics(samples), **chosen_at, "overlapping": overlapping, "engine": engine}


def draw(prompts: Sequence[Prompt], config: SamplingConfig, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts to sample for, and others on which the temperature is chosen: none where there is but one. Raises
    TooFewPrompts.
    """
    lower = "num_helpful or num_adversarial of rejection_sampling"
    drawn = draw_prompts(
        prompts, config.num_helpful, config.num_adversarial, f"rejection:{config.batch}", seed,
        f"give more prompts, or lower {lower}",
    )  # fmt: skip
    if not config.searches:
        return drawn, []
    what_to_do = (
        f"the temperature search needs other prompts than the round: give more prompts, lower search_prompts, {lower}, or give "
        "one temperature"
    )
    return drawn, held_out_prompts(prompts, drawn, config.search_prompts, f"temperature:{config.batch}", seed, what_to_do)


def collected(batches: Iterable[RejectionSamplingStats], num_prompts: int, label: str, progress: Progress) -> list[Sample]:
    """The samples of all batches, while progress is shown."""
    samples: list[Sample] = []
    done = 0
    with progress.meter(num_prompts, label, "prompt") as advance:
        for stats in batches:
            samples += stats.samples
            advance(stats, stats.num_done - done)
            done = stats.num_done
    return samples


def sample_metrics(samples: Sequence[Sample]) -> dict[str, Any]:
    """Counts, and mean combined scores as raw logits: of all, of the selected, and of the random control of their prompts."""
    selected = [sample.combined_score for sample in samples if sample.selected]
    return {
        "prompts": sum(sample.position == 0 for sample in samples),
        "samples": len(samples),
        "selected": len(selected),
        "mean_score": fmean(sample.combined_score for sample in samples),
        "selected_score": fmean(selected) if selected else None,
        "control_score": fmean(sample.combined_score for sample in controls(samples)) if selected else None,
        "finished": fmean(sample.finished for sample in samples),
    }


def _check_any_selected(samples: Sequence[Sample], config: SamplingConfig, policy: str) -> None:
    """Raise ValueError, which counts the reasons, where no response can be selected."""
    if any(sample.selected for sample in samples):
        return
    reasons = Counter(reason for sample in samples if (reason := sample.unfit))
    counted = ", ".join(f"{count} {UNFIT_IN_WORDS[reason]}" for reason, count in reasons.most_common())
    raise ValueError(
        f"none of the {len(samples)} responses can be selected ({counted}), so there is nothing to learn from; where they are "
        f"unfinished {_what_to_do(config, policy)}"
    )


def _check_any_eligible(trials: Sequence[TemperatureTrial], config: SamplingConfig, policy: str) -> None:
    """Raise ValueError where no response of the search can be selected: the round would be sampled for nothing."""
    if any(trial.eligible_share for trial in trials):
        return
    tried = ", ".join(f"{trial.temperature:g}" for trial in trials)
    num_prompts = trials[0].num_prompts
    raise ValueError(
        f"the search for a temperature tried {tried}, and at none of them can any of the {num_prompts * config.k} responses to "
        f"its {num_prompts} prompts be selected (each is unfinished, empty or has a tag of the chat format), so the round is "
        f"not sampled; where they are unfinished {_what_to_do(config, policy)}"
    )


def _what_to_do(config: SamplingConfig, policy: str) -> str:
    return (
        f"raise rejection_sampling.max_new_tokens ({config.max_new_tokens} now), else look at what the policy says "
        f"(rlhf chat {policy})"
    )


def _search(
    prompts: Sequence[Prompt],
    sampler: Sampler,
    reward: CombinedReward,
    config: SamplingConfig,
    policy: str,
    seed: int,
    progress: Progress,
    states: SavedStates,
) -> list[TemperatureTrial]:
    """A trial of each temperature, those of an earlier run as they were saved; none without prompts. Raises ValueError where
    none of them has a response that can be selected."""
    if not prompts:
        return []
    saved = SavedBatches(SavedStates(states.root / "temperatures", states.say, states.every), TemperatureTrial)
    found = saved.save(search_temperature(prompts, sampler, reward, config, seed, saved.done))
    trials = list(progress.track(found, len(config.temperatures), "temperatures", "temperature"))
    _check_any_eligible(trials, config, policy)
    best = best_temperature(trials)
    scores = ", ".join(f"{trial.score:.3g} at {trial.temperature:g}" for trial in trials)
    progress.say(f"the best of {config.k} scores highest at temperature {best:g} on {len(prompts)} prompts: {scores}")
    return trials
