"""Rejection sampling: K responses a prompt, the best becomes a target to fine-tune on (paper 3.2.3).

    x*(p) = argmax over g_1 .. g_K ~ pi(. | p) of R_c(g | p)

with the combined reward as the judge (ours: the paper says the best reward model at hand). Every sample is recorded, chosen or
not, so that the curve of best score against K and the random control, the first sample of each prompt, come from one run.

A response is eligible when it ended with EOS, has text, and holds no tag of the chat format: what is learnt as a target must be
something that can be said. Fine-tuning on the result is ``policy/finetuning.py``'s part.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from policy.generation import Response, Sampler
from preference_data.messages import Messages, assistant, tags_in
from preference_data.prompt import Dialogue, Prompt, make_dialogue
from reward_model.combined_reward import CombinedReward
from reward_model.selection import best_of_k
from rlhf.config import RejectionSamplingConfig
from rlhf.rollout import score_responses

Unfit = Literal["unfinished", "empty", "chat_tags"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled response. ``position`` is its place among the prompt's k; scores are raw logits; ``num_tokens`` counts EOS.

    A response without text has the lowest scores of its batch.
    """

    prompt_id: str
    prompt: Messages
    response: str
    position: int
    finished: bool
    num_tokens: int
    is_safety: bool
    family: str
    policy: str
    temperature: float
    helpfulness_score: float
    safety_score: float
    combined_score: float
    selected: bool


@dataclass(frozen=True, slots=True)
class RejectionSamplingStats:
    """One batch of prompts, with its samples."""

    num_done: int = field(metadata={"help": "prompts sampled so far, this batch included"})
    num_prompts: int = field(metadata={"help": "prompts of the whole run"})
    num_selected: int = field(metadata={"help": "prompts of this batch with a selected response"})
    mean_score: float = field(metadata={"help": "mean combined score of all responses, raw logit"})
    best_score: float | None = field(metadata={"help": "mean combined score of the selected responses; none where none is"})
    first_score: float = field(metadata={"help": "mean combined score of each prompt's first response: the random control"})
    unfit: dict[Unfit, int] = field(metadata={"help": "responses that cannot be selected, by reason"})
    num_tokens: int = field(metadata={"help": "tokens sampled"})
    seconds: float = field(metadata={"help": "time of sampling and scoring"})
    samples: list[Sample] = field(metadata={"help": "all samples of this batch, k a prompt, in the order of the prompts"})


def rejection_sample(
    prompts: Sequence[Prompt],
    sampler: Sampler,
    reward: CombinedReward,
    config: RejectionSamplingConfig,
    policy: str,
    seed: int,
    done: Sequence[RejectionSamplingStats] = (),
) -> Iterator[RejectionSamplingStats]:
    """Sample k responses a prompt, score them all, select the best; yield batch by batch.

    ``policy`` names what ``sampler`` samples from, for the record. Prompts where no response is eligible select none.
    ``done``: the first batches, from an earlier run; they are yielded as they are.
    """
    yield from done
    for start in range(done[-1].num_done if done else 0, len(prompts), config.prompts_per_batch):
        started = time.perf_counter()
        batch = prompts[start : start + config.prompts_per_batch]
        groups = sampler.sample(
            [prompt.messages for prompt in batch], config.k, config.temperature, config.top_p, config.max_new_tokens, seed
        )
        samples = _select(batch, groups, reward, config, policy)
        selected = [sample.combined_score for sample in samples if sample.selected]
        reasons = Counter(reason for group in groups for response in group if (reason := unfit(response)))
        yield RejectionSamplingStats(
            num_done=start + len(batch),
            num_prompts=len(prompts),
            num_selected=len(selected),
            mean_score=_mean([sample.combined_score for sample in samples]),
            best_score=_mean(selected) if selected else None,
            first_score=_mean([sample.combined_score for sample in samples if sample.position == 0]),
            unfit=dict(reasons),
            num_tokens=sum(sample.num_tokens for sample in samples),
            seconds=time.perf_counter() - started,
            samples=samples,
        )


def selected_dialogues(samples: Sequence[Sample]) -> list[Dialogue]:
    """The selected samples as dialogues to fine-tune on."""
    return [
        make_dialogue(
            [*sample.prompt, assistant(sample.response)],
            family=sample.family,
            source="rejection_sampling",
            is_safety=sample.is_safety,
        )
        for sample in samples
        if sample.selected
    ]


def unfit(response: Response) -> Unfit | None:
    """Why a response must not become a training target; None when it may."""
    if not response.finished:
        return "unfinished"
    if not response.text.strip():
        return "empty"
    return "chat_tags" if tags_in(response.text) else None


def _select(
    prompts: Sequence[Prompt],
    groups: list[list[Response]],
    reward: CombinedReward,
    config: RejectionSamplingConfig,
    policy: str,
) -> list[Sample]:
    rows = [
        (prompt, position, response)
        for prompt, group in zip(prompts, groups, strict=True)
        for position, response in enumerate(group)
    ]
    scores = score_responses([row[0] for row in rows], [row[2] for row in rows], reward)
    eligible = torch.tensor([[unfit(response) is None for response in group] for group in groups])
    best = best_of_k(scores.combined.view(len(prompts), config.k), eligible)
    columns = zip(scores.helpfulness.tolist(), scores.safety.tolist(), scores.combined.tolist(), strict=True)
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
            temperature=config.temperature,
            helpfulness_score=helpfulness,
            safety_score=safety,
            combined_score=combined,
            selected=best[index // config.k] == position,
        )
        for index, ((prompt, position, response), (helpfulness, safety, combined)) in enumerate(zip(rows, columns, strict=True))
    ]


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)
