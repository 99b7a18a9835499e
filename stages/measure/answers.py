"""A policy's answers to evaluation prompts: sampled, scored by both reward models, judged by gold."""

from eval.answers import Answer
from policy.generation import Response, TransformersSampler
from preference_data.comparison import AXES
from preference_data.messages import assistant
from registry.saved_states import SavedStates
from sandbox.annotators import utility
from sandbox.dialogues import Case
from sandbox.gold import judge
from sandbox.world import World
from stages.data.make_world import cases_of, world_of
from stages.engine.batches import AnsweredBatch, SavedBatches, answer
from stages.engine.models import scorer_of
from stages.engine.prompts import prompts_of
from stages.sections import EvaluationConfig
from stages.stage import Inputs, one
from stages.terminal.progress import Progress


def judged_answers(
    sampler: TransformersSampler,
    config: EvaluationConfig,
    inputs: Inputs,
    seed: int,
    progress: Progress,
    states: SavedStates,
    k: int = 1,
    label: str = "answers",
) -> list[Answer]:
    """``k`` answers to each of the ``prompts``, scored by both reward models and judged by gold; those of a prompt in a row."""
    artifact = one(inputs, "prompts")
    world, cases, prompts = world_of(artifact), cases_of(artifact), prompts_of(artifact)
    messages = [prompt.messages for prompt in prompts]
    groups: list[list[Response]] = [[] for _ in prompts]
    saved = SavedBatches(states, AnsweredBatch)
    batches = answer(sampler, messages, config.temperature, config.max_new_tokens, seed, saved.done, k=k)
    with progress.meter(k * len(prompts), label, "answer") as advance:
        for batch in saved.save(batches):
            for index, response in zip(batch.indices, batch.responses, strict=True):
                groups[index].append(response)
            advance(None, len(batch.indices))
    answered = [(prompt, response) for prompt, group in zip(prompts, groups, strict=True) for response in group]
    dialogues = [[*prompt.messages, assistant(response.text)] for prompt, response in answered]
    scores = [scorer_of(inputs, axis).score(dialogues).tolist() for axis in AXES]
    return [
        _judged(world, cases[prompt.id], response, *given) for (prompt, response), *given in zip(answered, *scores, strict=True)
    ]


def _judged(world: World, case: Case, response: Response, helpfulness_score: float, safety_score: float) -> Answer:
    prompt, verdict = case.prompt, judge(world, case, response.text)
    return Answer(
        prompt_id=prompt.id,
        prompt=prompt.messages,
        response=response.text,
        group=prompt.family if prompt.family in ("adversarial", "borderline") else "helpful",
        family=prompt.family,
        num_tokens=len(response.ids),
        finished=response.finished,
        helpfulness_score=helpfulness_score,
        safety_score=safety_score,
        gold_helpfulness=utility(verdict, "helpfulness"),
        gold_safety=utility(verdict, "safety"),
        is_safe=verdict.is_safe,
        refused=verdict.refused,
    )
