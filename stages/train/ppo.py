"""PPO, from the last version of the rounds (paper 3.2.3).

The artifact holds the policy, the critic in ``value_model/`` (another run can start its critic from there), and in
``validation.jsonl`` what the policy answered to held-out prompts on the way, with the scores.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from preference_data.prompt import Prompt
from registry.saved_states import SavedStates
from rlhf.config import PPOConfig
from rlhf.ppo import ppo
from rlhf.ppo_stats import PPOStats, validated
from rlhf.validation import Validation, best_validation
from stages.engine.answerable import check_answerable
from stages.engine.evaluation_overlap import check_overlap
from stages.engine.prompts import draw_prompts, held_out_prompts, prompts_of
from stages.sections import PPOStageConfig
from stages.stage import Inputs, one
from stages.terminal.progress import Progress
from stages.terminal.watched_ppo import watched_ppo
from stages.train.ppo_models import VALUE_MODEL_FOLDER, PPOModels, ppo_models

VALIDATION_FILE = "validation.jsonl"


class NoSafetyTags(ValueError):
    """The reward asks of each prompt whether it has the safety tag, and none has."""


def run(
    config: PPOStageConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    prompts = prompts_of(one(inputs, "prompts"))
    _check_tags(prompts, config)
    drawn, heldout = draw(prompts, config, seed)
    overlapping = check_overlap([*drawn, *heldout], prompts, inputs, config.allow_overlap, "ppo", progress)
    check_answerable(one(inputs, "policy").path, [*drawn, *heldout], config.max_new_tokens)
    models = ppo_models(inputs, config, seed, progress)
    history = _trained(models, drawn, heldout, config, seed, states, progress)
    models.save_policy(out)
    models.save_value_model(out / VALUE_MODEL_FOLDER)
    write_validations(out / VALIDATION_FILE, validated(history), heldout)
    return {**_training_metrics(history), **_validation_metrics(validated(history)), "overlapping": overlapping}


def draw(prompts: Sequence[Prompt], config: PPOStageConfig, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts to train on, and others for the validations: none where there are no validations. Raises TooFewPrompts."""
    drawn = draw_prompts(prompts, config.num_helpful, config.num_adversarial, "ppo", seed)
    if not config.validation.every:
        return drawn, []
    what_to_do = (
        "the validations need other prompts than training: lower ppo.validation.num_prompts, ppo.num_helpful or "
        "ppo.num_adversarial, or set ppo.validation.every=0"
    )
    return drawn, held_out_prompts(prompts, drawn, config.validation.num_prompts, "ppo-validation", seed, what_to_do)


def _trained(
    models: PPOModels,
    drawn: Sequence[Prompt],
    heldout: Sequence[Prompt],
    config: PPOConfig,
    seed: int,
    states: SavedStates,
    progress: Progress,
) -> list[PPOStats]:
    """The stats of all iterations, while progress is shown."""
    history: list[PPOStats] = []
    trained = models.policy, models.ref_policy, models.value_model, models.tokenizer
    training = ppo(*trained, drawn, models.reward, config, seed, states, heldout)
    for stats in watched_ppo(progress, training, config.iterations, heldout):
        if stats.recomputed and not history:
            progress.say(
                f"step 0: |ratio - 1| is {stats.ratio_error:.2g}, more than rounding, between the sampler and a forward pass; "
                "the log-probabilities of the forward pass are used. rlhf doctor looks for the cause"
            )
        history.append(stats)
    return history


def _check_tags(prompts: Sequence[Prompt], config: PPOConfig) -> None:
    if config.reward == "combined" and not any(prompt.is_safety for prompt in prompts):
        raise NoSafetyTags(
            f"none of the {len(prompts)} prompts has the safety tag, and the reward {config.reward} takes the safety score of "
            "those that have; tag the prompts that may elicit unsafe answers (is_safety), or name a reward that ignores tags "
            "(--set ppo.reward=sum, lagrangian or helpfulness)"
        )


def write_validations(path: Path, validations: Sequence[Validation], heldout: Sequence[Prompt]) -> None:
    """One line a validation and prompt: the answer, its scores as raw logits, and what is known of the prompt."""
    prompts = {prompt.id: prompt for prompt in heldout}
    with path.open("w", encoding="utf-8") as file:
        for validation in validations:
            for answer in validation.answers:
                prompt = prompts[answer.prompt_id]
                record = {
                    "iteration": validation.iteration,
                    "prompt_id": prompt.id,
                    "messages": prompt.messages,
                    "is_safety": prompt.is_safety,
                    "family": prompt.family,
                    "response": answer.response,
                    "num_tokens": answer.num_tokens,
                    "finished": answer.finished,
                    "kl": answer.kl,
                    "helpfulness": answer.helpfulness,
                    "safety": answer.safety,
                    "combined": answer.combined,
                }
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _training_metrics(history: Sequence[PPOStats]) -> dict[str, Any]:
    """Means of the first and last five iterations, and what went wrong in any."""
    first, last = history[:5], history[-5:]
    return {
        "iterations": len(history),
        "score_first": fmean(stats.score for stats in first),
        "score_last": fmean(stats.score for stats in last),
        "kl": fmean(stats.kl for stats in last),
        "response_length": fmean(stats.response_length for stats in last),
        "eos_fraction": fmean(stats.eos_fraction for stats in last),
        "ratio_error": history[0].ratio_error,
        "recomputed": sum(stats.recomputed for stats in history),
    }


def _validation_metrics(validations: Sequence[Validation]) -> dict[str, Any]:
    """Which iteration's weights were kept; with one validation or more, its score and that before training, raw logits."""
    if not validations:
        return {"best_iteration": None}
    best = best_validation(validations)
    return {
        "best_iteration": best.iteration,
        "validation_prompts": len(best.answers),
        "validation_score_first": validations[0].score,
        "validation_score_best": best.score,
        "validation_kl_best": best.kl,
        "validation_eos_fraction_best": best.eos_fraction,
        "validation_empty_fraction_best": best.empty_fraction,
    }
