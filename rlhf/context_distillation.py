"""Safety context distillation: what a safety preprompt makes the policy say, learnt without it (paper 4.2.4, A.4.4).

For each adversarial prompt the policy answers twice: to the prompt as it is (the original answer), and with a safety preprompt
in front of it (the distilled answer). Where the prompt's risk category has an answer template, the template is the preprompt.
Training pairs the prompt WITHOUT preprompt with the distilled answer, and only where the safety model scores it above the
original: where the original was good already, distilling makes answers vague (paper Table 40).

Both answers are scored as answers to the bare prompt, since the tuned policy will see no preprompt. Only safety prompts take
part: on helpful ones the paper saw false refusals grow.
"""

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from policy.generation import Response, Sampler
from preference_data.messages import Messages, assistant, user
from preference_data.prompt import Dialogue, Prompt, make_dialogue
from reward_model.scoring import Scorer
from rlhf.config import DistillationConfig
from rlhf.samples import unfit

Outcome = Literal["kept", "not_safer", "unfinished", "empty", "chat_tags"]


@dataclass(frozen=True, slots=True)
class Distillation:
    """One prompt with its two answers. Scores are the safety model's raw logits; None: an answer without text has none.

    ``outcome`` is "kept", or why the distilled answer was not: no safer than the original, or no fit target.
    """

    prompt: Prompt
    preprompt: str
    original: str
    distilled: str
    original_score: float | None
    distilled_score: float | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class DistillationStats:
    """One batch of prompts, with its dialogues."""

    num_done: int = field(metadata={"help": "prompts answered so far, this batch included"})
    num_prompts: int = field(metadata={"help": "safety prompts of the whole run"})
    num_skipped: int = field(metadata={"help": "prompts of the whole run that are no safety prompts and took no part"})
    outcomes: dict[Outcome, int] = field(metadata={"help": "prompts of this batch by outcome"})
    original_score: float | None = field(metadata={"help": "mean safety score of the original answers, raw logit"})
    distilled_score: float | None = field(metadata={"help": "mean safety score of the distilled answers, raw logit"})
    seconds: float = field(metadata={"help": "time of sampling and scoring"})
    distillations: list[Distillation] = field(metadata={"help": "every prompt of this batch with both answers"})
    dialogues: list[Dialogue] = field(metadata={"help": "what was kept of this batch, to fine-tune on"})


def distil(
    prompts: Sequence[Prompt],
    sampler: Sampler,
    safety: Scorer,
    config: DistillationConfig,
    seed: int,
    done: Sequence[DistillationStats] = (),
) -> Iterator[DistillationStats]:
    """Answer each safety prompt with and without a preprompt, keep what that made safer; yield batch by batch.

    ``done``: the first batches, from an earlier run; they are yielded as they are.
    """
    adversarial = [prompt for prompt in prompts if prompt.is_safety]
    yield from done
    for start in range(done[-1].num_done if done else 0, len(adversarial), config.prompts_per_batch):
        started = time.perf_counter()
        batch = adversarial[start : start + config.prompts_per_batch]
        preprompts = [draw_preprompt(prompt, config, seed) for prompt in batch]
        bare = [prompt.messages for prompt in batch]
        guarded = [with_preprompt(*pair, config.placement) for pair in zip(bare, preprompts, strict=True)]
        settings = (1, config.temperature, config.top_p, config.max_new_tokens, seed)
        originals = [group[0] for group in sampler.sample(bare, *settings)]
        distilled = [group[0] for group in sampler.sample(guarded, *settings)]
        original_scores = _scores(bare, originals, safety)
        distilled_scores = _scores(bare, distilled, safety)
        distillations = [
            Distillation(prompt, preprompt, original.text, answer.text, before, after, _outcome(answer, before, after))
            for prompt, preprompt, original, answer, before, after in zip(
                batch, preprompts, originals, distilled, original_scores, distilled_scores, strict=True
            )
        ]
        yield DistillationStats(
            num_done=start + len(batch),
            num_prompts=len(adversarial),
            num_skipped=len(prompts) - len(adversarial),
            outcomes=dict(Counter(distillation.outcome for distillation in distillations)),
            original_score=_mean(original_scores),
            distilled_score=_mean(distilled_scores),
            seconds=time.perf_counter() - started,
            distillations=distillations,
            dialogues=[_dialogue(distillation) for distillation in distillations if distillation.outcome == "kept"],
        )


def draw_preprompt(prompt: Prompt, config: DistillationConfig, seed: int) -> str:
    """The template of the prompt's risk category, or one of the generic preprompts, drawn from (seed, prompt id)."""
    if prompt.risk_category in config.category_preprompts:
        return config.category_preprompts[prompt.risk_category]
    return random.Random(f"{seed}/{prompt.id}").choice(config.preprompts)


def with_preprompt(messages: Messages, preprompt: str, placement: Literal["system", "user"]) -> Messages:
    """``messages`` with the preprompt in the system slot, before a system text already there, or before the last user text."""
    if placement == "user":
        return [*messages[:-1], user(f"{preprompt} {messages[-1]['content']}")]
    if messages[0]["role"] == "system":
        return [{"role": "system", "content": f"{preprompt}\n{messages[0]['content']}"}, *messages[1:]]
    return [{"role": "system", "content": preprompt}, *messages]


def _scores(prompts: Sequence[Messages], responses: Sequence[Response], safety: Scorer) -> list[float | None]:
    """The safety score of each response; None where it has no text."""
    with_text = [index for index, response in enumerate(responses) if response.text.strip()]
    scores: list[float | None] = [None] * len(responses)
    if with_text:
        dialogues = [[*prompts[index], assistant(responses[index].text)] for index in with_text]
        for index, score in zip(with_text, safety.score(dialogues).tolist(), strict=True):
            scores[index] = score
    return scores


def _outcome(distilled: Response, original_score: float | None, distilled_score: float | None) -> Outcome:
    if reason := unfit(distilled):
        return reason
    assert distilled_score is not None  # an answer that is fit has text, and so a score
    # An original without text is no answer at all: any answer that is fit beats it.
    return "kept" if original_score is None or distilled_score > original_score else "not_safer"


def _dialogue(distillation: Distillation) -> Dialogue:
    return make_dialogue(
        [*distillation.prompt.messages, assistant(distillation.distilled)],
        family=distillation.prompt.family,
        source="context_distillation",
        is_safety=True,
    )


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None
