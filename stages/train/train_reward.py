"""One reward model, helpfulness or safety, from a chat policy and all comparisons so far (paper 3.2.2)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from policy.adapters import load_update, save_update
from policy.checkpoint import save_checkpoint
from preference_data.aggregation import majority
from preference_data.comparison import Comparison
from preference_data.margin import margin
from preference_data.mixture import paper_mixture
from preference_data.split import dialogue_key
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from reward_model.model import HEAD, build_reward_model, save_reward_model
from reward_model.training import NonFiniteLoss, train_reward_model
from stages.data.import_annotations import comparisons_of, held_out_dialogues
from stages.sections import RewardTrainingConfig
from stages.stage import Inputs, one
from stages.terminal.progress import Progress


def run(
    config: RewardTrainingConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    comparisons, left_out = training_comparisons(config, inputs, seed)
    ratings, labels = Counter(comparison.rating for comparison in comparisons), _safety_labels(comparisons)
    if config.margin != "none" and ratings["unrated"]:
        unrated = margin("unrated", config.margin)
        progress.say(f"{ratings['unrated']} of {len(comparisons)} comparisons are unrated; their margin is {unrated:g}")
    if config.axis == "safety" and config.safety_loss_coef and None in labels:
        progress.say(f"{labels[None]} of {labels.total()} safety responses have no label; the safety loss leaves them out")
    start, learnt = one(inputs, "policy").path, dict[str, Any]()
    model, tokenizer = build_reward_model(start, seed)
    training = train_reward_model(model, tokenizer, comparisons, config, seed, states, learnt.update)
    label, total = f"{config.axis} reward model", config.epochs * len(comparisons)
    try:
        history = list(progress.track(training, total, label, "pair", lambda stats: stats.num_pairs))
    except NonFiniteLoss as error:
        kept = states.root / "before-that-step"
        save_checkpoint(model, tokenizer, kept)
        raise NonFiniteLoss(f"{error}. The reward model as it was before that step is kept in {kept}") from error
    save_reward_model(model, tokenizer, out)
    if config.lora:
        save_update(load_update(start).then(learnt), out, {HEAD: model.get_parameter(HEAD)})
    last = history[-max(1, len(history) // 5) :]
    return {
        "comparisons": dict(sorted(Counter(comparison.axis for comparison in comparisons).items())),
        "ratings": dict(sorted(ratings.items())),
        "safety_labels": {"safe": labels[True], "unsafe": labels[False], "none": labels[None]},
        **left_out,
        "dropped": history[-1].dropped,
        "steps": len(history),
        "training_accuracy": fmean(stats.accuracy for stats in last),
        "training_ranking_loss": fmean(stats.ranking_loss for stats in last),
        "training_accuracy_by_rating": _means([stats.accuracy_by_rating for stats in last]),
        "training_accuracy_by_source": _means([stats.accuracy_by_source for stats in last]),
        "score_mean": fmean(stats.score_mean for stats in last),
        "score_std": fmean(stats.score_std for stats in last),
        "overconfidence": fmean(stats.overconfidence for stats in last),
        "length_correlation": _mean([stats.length_correlation for stats in last]),
        "shared_fraction": fmean(stats.shared_fraction for stats in history),
        "padding_fraction": fmean(stats.padding_fraction for stats in history),
    }


def _safety_labels(comparisons: Sequence[Comparison]) -> Counter[bool | None]:
    """How many responses of the safety comparisons have which label."""
    safety = [comparison for comparison in comparisons if comparison.axis == "safety"]
    return Counter(label for comparison in safety for label in (comparison.chosen_safe, comparison.rejected_safe))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _means(batches: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over the batches of each group that is in them."""
    return {name: fmean(batch[name] for batch in batches if name in batch) for name in sorted({n for b in batches for n in b})}


def training_comparisons(config: RewardTrainingConfig, inputs: Inputs, seed: int) -> tuple[list[Comparison], dict[str, int]]:
    """What is trained on, mixed as the config says; how many of its own axis were left out, by reason; and of the paper's mix,
    how many were repeated, and how many of the other axis were asked for and drawn.

    Raises ValueError where the paper's mix is asked for and there are no comparisons of the other axis.
    """
    held_out = held_out_dialogues([*inputs["preferences"], *inputs.get("other_preferences", ())])
    own, left_out = _judged(config, inputs["preferences"], held_out)
    if config.mixture == "own":
        return own, left_out
    if not inputs.get("other_preferences"):
        raise ValueError(
            f"the {config.axis} model's mixture is paper, which needs comparisons of the other axis; give "
            f"--other-preferences, or --set {config.axis}.mixture=own"
        )
    other, _ = _judged(config, inputs["other_preferences"], held_out)
    own_ids, other_ids = ([comparison.id for comparison in side] for side in (own, other))
    mix = paper_mixture(config.axis, own_ids, other_ids, seed)
    of_the_mix = {"repeated": mix.repeated, "other_axis_asked": mix.wanted[1], "other_axis_drawn": mix.drawn[1]}
    return mix.of([own, other]), left_out | of_the_mix


def _judged(
    config: RewardTrainingConfig, preferences: Sequence[Artifact], held_out: set[str]
) -> tuple[list[Comparison], dict[str, int]]:
    """The comparisons to train on, and what was left out: dialogues held out elsewhere, and what has no majority."""
    all_judgements = comparisons_of(preferences, "train")
    judgements = [comparison for comparison in all_judgements if dialogue_key(comparison.prompt) not in held_out]
    counts = {"held_out_elsewhere": len(all_judgements) - len(judgements)}
    if config.aggregate == "all":
        return judgements, counts
    majority_choices = majority(judgements)
    return majority_choices.comparisons, counts | {
        "ties": majority_choices.ties,
        "majority_chosen_unsafe": majority_choices.chosen_unsafe,
    }
