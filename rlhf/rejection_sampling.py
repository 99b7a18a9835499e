"""Rejection sampling: K responses a prompt, the best becomes a target to fine-tune on (paper 3.2.3).

    x*(p) = argmax over g_1 .. g_K ~ pi(. | p) of R_c(g | p)

with the combined reward as R_c (ours: the paper says the best reward model at hand). Every response is recorded, selected or
not, so that the curve of best score against K comes from the same run, and so that other reward models can score and select
again without sampling (``rescore``).

The best temperature differs from policy to policy (paper Figure 8), so each round searches for its own, on prompts that it
samples nothing else for: the one whose best of K scores highest there, after the sigmoid and 0 where nothing can be selected,
so that a temperature without eligible responses is worth the least.

Which response can be selected, what becomes of ties, truncated and empty ones, and the random control: ``rlhf/samples.py``.
Fine-tuning on the result is ``policy/finetuning.py``'s part.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeVar

import torch

from policy.generation import Sampler
from preference_data.messages import assistant
from preference_data.prompt import Dialogue, Prompt, make_dialogue
from reward_model.combined_reward import CombinedReward
from rlhf.config import RejectionSamplingConfig
from rlhf.samples import Sample, Unfit, by_prompt, controls, score_and_select

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class RejectionSamplingStats:
    """One batch of prompts, with its samples."""

    num_done: int = field(metadata={"help": "prompts done so far, this batch included"})
    num_prompts: int = field(metadata={"help": "prompts of the whole run"})
    num_selected: int = field(metadata={"help": "prompts of this batch with a selected response"})
    mean_score: float = field(metadata={"help": "mean combined score of all responses, raw logit"})
    selected_score: float | None = field(metadata={"help": "mean combined score of the selected responses; none where none is"})
    control_score: float | None = field(
        metadata={"help": "mean combined score of the first eligible response of the same prompts: the random control"}
    )
    unfit: dict[Unfit, int] = field(metadata={"help": "responses that cannot be selected, by reason"})
    num_tokens: int = field(metadata={"help": "tokens of all responses"})
    seconds: float = field(metadata={"help": "time of sampling and scoring"})
    samples: list[Sample] = field(metadata={"help": "all samples of this batch, k a prompt, in the order of the prompts"})


@dataclass(frozen=True, slots=True)
class TemperatureTrial:
    """What the best of k scores at one temperature, on the prompts of the search."""

    temperature: float = field(metadata={"help": "sampling temperature"})
    score: float = field(metadata={"help": "mean of prompt_scores, 0 to 1: the highest wins"})
    eligible_share: float = field(metadata={"help": "share of all responses that can be selected, 0 to 1"})
    num_prompts: int = field(metadata={"help": "prompts tried"})
    prompt_scores: list[float] = field(
        metadata={"help": "sigmoid of the combined score of each prompt's best eligible response; 0 where none is eligible"}
    )


def search_temperature(
    prompts: Sequence[Prompt],
    sampler: Sampler,
    reward: CombinedReward,
    config: RejectionSamplingConfig,
    seed: int,
    done: Sequence[TemperatureTrial] = (),
) -> Iterator[TemperatureTrial]:
    """Try each of the config's temperatures: k responses to every prompt, with the same random numbers at all of them.

    ``done``: the first trials, from an earlier run; they are yielded as they are. Raises ScoresAllEqual.
    """
    yield from done
    for temperature in config.temperatures[len(done) :]:
        samples: list[Sample] = []
        for batch in _batches(prompts, config.prompts_per_batch):
            samples += score_and_select(_sampled(batch, sampler, config, "", seed, temperature), reward)
        scores = [_trial_score(group) for group in by_prompt(samples)]
        eligible_share = fmean(sample.unfit is None for sample in samples)
        yield TemperatureTrial(temperature, fmean(scores), eligible_share, len(prompts), scores)


def best_temperature(trials: Sequence[TemperatureTrial]) -> float:
    """The temperature of the highest score; the lower one of equals."""
    return max(trials, key=lambda trial: (trial.score, -trial.temperature)).temperature


def rejection_sample(
    prompts: Sequence[Prompt],
    sampler: Sampler,
    reward: CombinedReward,
    config: RejectionSamplingConfig,
    policy: str,
    seed: int,
    temperature: float,
    done: Sequence[RejectionSamplingStats] = (),
) -> Iterator[RejectionSamplingStats]:
    """Sample k responses a prompt at ``temperature``, score them all, select the best; yield batch by batch.

    ``policy`` names what ``sampler`` samples from, for the record. Prompts where no response is eligible select none.
    ``done``: the first batches, from an earlier run; they are yielded as they are. Raises ScoresAllEqual.
    """
    yield from done
    num_done = done[-1].num_done if done else 0
    for batch in _batches(prompts[num_done:], config.prompts_per_batch):
        started = time.perf_counter()
        samples = score_and_select(_sampled(batch, sampler, config, policy, seed, temperature), reward)
        num_done += len(batch)
        yield _stats(samples, num_done, len(prompts), started)


def rescore(
    samples: Sequence[Sample],
    reward: CombinedReward,
    prompts_per_batch: int,
    done: Sequence[RejectionSamplingStats] = (),
) -> Iterator[RejectionSamplingStats]:
    """Score ``samples`` again and select the best of each prompt; nothing is sampled. Yields as ``rejection_sample`` does.

    Samples of one prompt stand together, from position 0 on. Raises ScoresAllEqual.
    """
    yield from done
    groups = by_prompt(samples)
    num_done = done[-1].num_done if done else 0
    for batch in _batches(groups[num_done:], prompts_per_batch):
        started = time.perf_counter()
        scored = score_and_select([sample for group in batch for sample in group], reward)
        num_done += len(batch)
        yield _stats(scored, num_done, len(groups), started)


def selected_dialogues(samples: Sequence[Sample]) -> list[Dialogue]:
    """The selected samples as dialogues to fine-tune on."""
    return [_dialogue(sample, "rejection_sampling") for sample in samples if sample.selected]


def control_dialogues(samples: Sequence[Sample]) -> list[Dialogue]:
    """The matched random control: of each prompt with a selected response, its first eligible one by position."""
    return [_dialogue(sample, "random_control") for sample in controls(samples)]


def _sampled(
    prompts: Sequence[Prompt], sampler: Sampler, config: RejectionSamplingConfig, policy: str, seed: int, temperature: float
) -> list[Sample]:
    """k samples a prompt, not scored yet."""
    messages = [prompt.messages for prompt in prompts]
    groups = sampler.sample(messages, config.k, temperature, config.top_p, config.max_new_tokens, seed, config.top_k)
    return [
        Sample(
            prompt_id=prompt.id,
            prompt=prompt.messages,
            response=response.text,
            position=position,
            finished=response.finished,
            num_tokens=len(response.ids),
            is_safety=prompt.is_safety,
            family=prompt.family,
            policy=policy,
            temperature=temperature,
            helpfulness_score=math.nan,
            safety_score=math.nan,
            combined_score=math.nan,
            selected=False,
        )
        for prompt, group in zip(prompts, groups, strict=True)
        for position, response in enumerate(group)
    ]


def _stats(samples: list[Sample], num_done: int, num_prompts: int, started: float) -> RejectionSamplingStats:
    """The stats of one batch of scored samples."""
    selected = [sample.combined_score for sample in samples if sample.selected]
    return RejectionSamplingStats(
        num_done=num_done,
        num_prompts=num_prompts,
        num_selected=len(selected),
        mean_score=fmean(sample.combined_score for sample in samples),
        selected_score=fmean(selected) if selected else None,
        control_score=fmean(sample.combined_score for sample in controls(samples)) if selected else None,
        unfit=dict(Counter(reason for sample in samples if (reason := sample.unfit))),
        num_tokens=sum(sample.num_tokens for sample in samples),
        seconds=time.perf_counter() - started,
        samples=samples,
    )


def _trial_score(group: Sequence[Sample]) -> float:
    """Of one prompt: the sigmoid of its selected response's combined score, on (0, 1); 0 where none is selected."""
    scores = [sample.combined_score for sample in group if sample.selected]
    return torch.tensor(scores[0], dtype=torch.float64).sigmoid().item() if scores else 0.0


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _dialogue(sample: Sample, source: str) -> Dialogue:
    messages = [*sample.prompt, assistant(sample.response)]
    return make_dialogue(messages, family=sample.family, source=source, is_safety=sample.is_safety)
