"""One reward model, helpfulness or safety, from a chat policy and all comparisons so far (paper 3.2.2)."""

from pathlib import Path
from statistics import fmean
from typing import Any

from preference_data.mixture import helpfulness_mixture, safety_mixture
from registry.saved_states import SavedStates
from reward_model.model import build_reward_model, save_reward_model
from reward_model.training import train_reward_model
from stages.import_annotations import comparisons_of
from stages.progress import Progress
from stages.sections import RewardTrainingConfig
from stages.stage import Inputs, Stage, one


def run(
    config: RewardTrainingConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    own = comparisons_of(inputs["preferences"], "train")
    comparisons = own
    counts: dict[str, int] = {config.axis: len(own)}
    if config.mixture == "paper":
        other = comparisons_of(inputs["other_preferences"], "train")
        mix = helpfulness_mixture if config.axis == "helpfulness" else safety_mixture
        mixture = mix(own, other, seed=seed)
        comparisons, counts = mixture.comparisons, mixture.by_axis
    model, tokenizer = build_reward_model(one(inputs, "policy").path, seed)
    num_batches = config.epochs * -(-len(comparisons) // config.batch_size)
    history = list(
        progress.track(
            train_reward_model(model, tokenizer, comparisons, config, seed, states),
            config.epochs * len(comparisons),
            f"{config.axis} reward model",
            "pair",
            lambda stats: stats.num_pairs,
        )
    )
    save_reward_model(model, tokenizer, out)
    last = history[-max(1, num_batches // 5) :]
    return {
        "comparisons": counts,
        "dropped": history[-1].dropped,
        "steps": len(history),
        "training_accuracy": fmean(stats.accuracy for stats in last),
        "training_ranking_loss": fmean(stats.ranking_loss for stats in last),
        "padding_fraction": fmean(stats.padding_fraction for stats in history),
    }


STAGE = Stage(
    "train-reward",
    "reward_model",
    1,
    RewardTrainingConfig,
    run,
    {"policy": "policy", "preferences": "preferences", "other_preferences": "preferences"},
)
