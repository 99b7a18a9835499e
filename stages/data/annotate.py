"""Collecting one round's comparisons (paper 3.2.1): two model variants answer, annotators choose.

Half of the responses of a pair come from each variant (the previous and the current policy), at temperatures drawn for each
response. Held-out prompts, where they are given, get four responses, two of each variant, which make six comparisons. The
sandbox's annotators judge at once; for people the pairs are written to files (``stages/data/hand_out.py``), which they fill in
and hand to ``rlhf import``.
"""

import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from policy.checkpoint import load_policy
from policy.generation import TransformersSampler
from preference_data.comparison import AXES
from preference_data.prompt import Prompt
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from sandbox.annotators import Item, annotate
from sandbox.dialogues import Case
from stages.data.hand_out import Answer, hand_out
from stages.data.make_world import cases_of, world_of
from stages.engine.batches import AnsweredBatch, SavedBatches, answer
from stages.engine.prompts import draw_prompts, prompts_of
from stages.sections import AnnotationConfig
from stages.stage import Inputs, one
from stages.terminal.progress import Progress


class Sampling(NamedTuple):
    """One answer of ``policy`` (its place among the stage's) to each of ``prompts``, which are all different."""

    policy: int
    temperature: float
    seed: int
    prompts: list[Prompt]


def run(
    config: AnnotationConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    prompts = one(inputs, "prompts")
    training = draw_prompts(prompts_of(prompts), config.num_helpful, config.num_safety, config.batch, seed)
    if config.annotators != "simulated":
        if inputs.get("heldout_prompts") or len(inputs["policies"]) > 2:
            raise ValueError(
                "files for people take one or two policies, and rlhf import decides which pairs are held out; "
                "remove --heldout-prompts and further --policies"
            )
        prompts_to_answer = training * (2 if len(inputs["policies"]) == 1 else 1)
        answers = _answer_all(config, inputs["policies"], prompts_to_answer, progress, seed, states)
        return {"pairs": hand_out(config, training, answers, out)}
    heldout = inputs.get("heldout_prompts", [])
    testing = [
        prompt
        for artifact in heldout
        for prompt in draw_prompts(prompts_of(artifact), config.num_heldout, config.num_heldout, config.batch, seed)
    ]
    answers = _answer_all(config, inputs["policies"], [*training, *testing, *testing], progress, seed, states)
    world = world_of(prompts)
    cases = {name: case for artifact in (prompts, *heldout) for name, case in cases_of(artifact).items()}
    counts = {}
    for axis in AXES:
        for name, drawn in ((axis, training), (f"{axis}-heldout", testing))[: 1 + bool(heldout)]:
            of_axis = [prompt for prompt in drawn if prompt.is_safety == (axis == "safety")]
            items = [item for prompt in of_axis for item in _items(cases[prompt.id], answers[prompt.id])]
            rows = annotate(world, items, axis, config.batch, seed)
            with (out / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            counts[name] = len(rows)
    return {"comparisons": counts}


def _answer_all(
    config: AnnotationConfig,
    policies: Sequence[Artifact],
    prompts: Sequence[Prompt],
    progress: Progress,
    seed: int,
    states: SavedStates,
) -> dict[str, list[Answer]]:
    """Per prompt id, one answer of each policy for each time that the prompt occurs in ``prompts``."""
    samplings = _samplings(config, len(policies), prompts, seed)
    answers: dict[str, list[Answer]] = defaultdict(list)
    saved = SavedBatches(states, AnsweredBatch)
    with progress.meter(sum(len(sampling.prompts) for sampling in samplings), "answers", "prompt") as advance:
        for batch in saved.save(_batches(config, policies, samplings, progress, saved.done)):
            sampling = samplings[batch.sampling]
            policy = str(policies[sampling.policy].reference)
            for index, response in zip(batch.indices, batch.responses, strict=True):
                answers[sampling.prompts[index].id].append(Answer(response.text, policy, sampling.temperature))
            advance(None, len(batch.indices))
    return answers


def _samplings(config: AnnotationConfig, num_policies: int, prompts: Sequence[Prompt], seed: int) -> list[Sampling]:
    """Everything that is to be sampled, in its order."""
    samplings = []
    for policy in range(num_policies):
        rng = random.Random(f"annotate:{config.batch}:{policy}:{seed}")
        drawn = [(prompt, rng.choice(config.temperatures), occurrence) for prompt, occurrence in _occurrences(prompts)]
        for group in sorted({(temperature, occurrence) for _, temperature, occurrence in drawn}):
            group_prompts = [prompt for prompt, *drawn_group in drawn if tuple(drawn_group) == group]
            # Each policy and occurrence has random numbers of its own, or equal policies would give equal answers.
            samplings.append(Sampling(policy, group[0], rng.getrandbits(63), group_prompts))
    return samplings


def _batches(
    config: AnnotationConfig,
    policies: Sequence[Artifact],
    samplings: Sequence[Sampling],
    progress: Progress,
    done: Sequence[AnsweredBatch],
) -> Iterator[AnsweredBatch]:
    for policy, artifact in enumerate(policies):
        sampler = TransformersSampler(*load_policy(artifact.path), say=progress.say)
        for number, sampling in enumerate(samplings):
            if sampling.policy == policy:
                prompts = [prompt.messages for prompt in sampling.prompts]
                yield from answer(sampler, prompts, sampling.temperature, config.max_new_tokens, sampling.seed, done, number)


def _occurrences(prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, int]]:
    seen: Counter[str] = Counter()
    for prompt in prompts:
        yield prompt, seen[prompt.id]
        seen[prompt.id] += 1


def _items(case: Case, answers: Sequence[Answer]) -> list[Item]:
    """All pairs of different answers."""
    return [
        Item(case, a.response, b.response, a.policy, b.policy, a.temperature, b.temperature)
        for a, b in itertools.combinations(answers, 2)
        if a.response and b.response and a.response != b.response
    ]
