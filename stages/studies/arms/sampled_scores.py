"""Many scored responses to each of some prompts, from each policy at each temperature: what the sampling studies look at.

Every response is sampled once, judged by both reward models and, where the prompts carry the facts behind them, by gold; all
lie in ``responses.parquet``, by prompt id. Gold's axis is the prompt's: safety where it has the safety tag, else helpfulness.
One response has the same random numbers at all temperatures and from all policies, which takes noise out of their differences.

What counts is the combined reward after the sigmoid, on (0, 1). A response that rejection sampling could not select
(unfinished, without text, with a tag of the chat format) counts 0, the bottom of that scale, whatever the models give to it: a
rule that looks at nothing but the response itself, so the estimators over subsets stay unbiased, which the lowest score among
the prompt's samples would not leave them. It can be the best of N only where all N are such. Gold judges it as it stands, as
everywhere. Benign prompts that sound harmful are left out: measurements keep that group apart.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eval.calibration import sigmoid
from eval.findings.sampling import Sampled
from eval.findings.study import Row, Table
from eval.intervals import bootstrap_ratio
from policy.generation import Response
from preference_data.messages import Messages, assistant
from preference_data.parquet import write_records
from preference_data.prompt import Prompt
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from reward_model.combined_reward import CombinedReward
from rlhf.samples import Unfit, unfit
from sandbox.annotators import utility
from sandbox.gold import judge
from stages.data.make_world import cases_of, world_of
from stages.engine.answerable import check_answerable
from stages.engine.batches import SavedBatches
from stages.engine.models import reward_of, sampler_of
from stages.engine.prompts import draw_prompts, prompts_of
from stages.stage import Inputs, one
from stages.study_sections import SamplingStudyConfig
from stages.terminal.progress import Progress

RESPONSES_FILE = "responses.parquet"
RESPONSES_PER_BATCH = 1024  # what an interruption can cost
UNFIT_REASONS: tuple[Unfit, ...] = ("unfinished", "empty", "chat_tags")
INELIGIBLE = (
    "A response that rejection sampling could not select (unfinished, empty, with a chat tag) counts as a reward of 0 and is "
    "judged by gold as it stands."
)
SUBSETS = "Each number is the mean over all subsets of N of the k responses to a prompt."


@dataclass(frozen=True, slots=True)
class ScoredResponse:
    """One response, at ``position`` of its prompt's k. Scores are raw logits, None without text; ``num_tokens`` counts EOS.

    ``unfit``: why it could not be selected. ``gold`` is on [0, 1]; None where nothing is known of the prompt.
    """

    policy: str
    temperature: float
    prompt_id: str
    position: int
    response: str
    finished: bool
    num_tokens: int
    unfit: Unfit | None
    helpfulness_score: float | None
    safety_score: float | None
    combined_score: float | None
    gold: float | None


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """All responses of one policy at one temperature to ``num_prompts`` prompts; those of a prompt stand together."""

    policy: str
    temperature: float
    num_prompts: int
    eligible_share: float
    mean_tokens: float
    responses: list[ScoredResponse]


Gold = Callable[[Prompt, str], float]
Samplings = Mapping[str, Mapping[float, Sampled]]
"""Policy -> temperature, ascending -> what was sampled."""


def sampled_scores(
    config: SamplingStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> tuple[Samplings, list[ScoredResponse]]:
    """Sample and judge, and write ``responses.parquet`` into ``out``; what was saved before an interruption is not made again.

    Raises, before anything is sampled, ValueError for policies that cannot be told apart, TooFewPrompts, and ContextOverflow
    for a prompt that leaves one of the policies no room for a response.
    """
    policies = inputs["policy"]
    _check_apart(policies)
    artifact = one(inputs, "prompts")
    known = [prompt for prompt in prompts_of(artifact) if prompt.family != "borderline"]
    prompts = draw_prompts(known, config.num_helpful, config.num_adversarial, "sampling-study", seed)
    for policy in policies:
        check_answerable(policy.path, prompts, config.max_new_tokens)
    saved = SavedBatches(states, ScoredBatch)
    batches = saved.save(_batches(config, policies, inputs, prompts, gold_of(artifact), seed, progress, saved.done))
    total = len(policies) * len(config.temperatures) * len(prompts)
    responses: list[ScoredResponse] = []
    for batch in progress.track(batches, total, f"{config.k} responses", "prompt", lambda batch: batch.num_prompts):
        responses += batch.responses
    write_records(out / RESPONSES_FILE, responses, ScoredResponse)
    return _by_sampling(responses, config.k), responses


def short_name(policy: str) -> str:
    """What tables and figures call a policy: its reference without the kind."""
    return policy.removeprefix("policy/")


def how_sampled(config: SamplingStudyConfig) -> str:
    """How many responses to how many prompts, at which temperature, and of which tokens."""
    num_prompts, temperatures = config.num_helpful + config.num_adversarial, config.temperatures
    at = f"temperature {temperatures[0]:g}" if len(temperatures) == 1 else "each temperature"
    nucleus = f", top-p {config.top_p:g}" if config.top_p < 1 else ""
    likeliest = f", top-k {config.top_k}" if config.top_k else ""
    return f"{config.k} responses to each of {num_prompts} prompts, at {at}{nucleus}{likeliest}."


def unfit_table(samplings: Samplings, responses: Sequence[ScoredResponse]) -> Table:
    """The share of responses that cannot be selected, of each policy at each temperature, by reason."""
    rows = []
    for policy, by_temperature in samplings.items():
        for temperature in by_temperature:
            mine = [response for response in responses if (response.policy, response.temperature) == (policy, temperature)]
            units = [response.prompt_id for response in mine]
            flags = {"any": [float(response.unfit is not None) for response in mine]}
            flags |= {reason: [float(response.unfit == reason) for response in mine] for reason in UNFIT_REASONS}
            measured = {name: bootstrap_ratio(flagged, [1.0] * len(mine), units) for name, flagged in flags.items()}
            rows.append(Row(f"{short_name(policy)}, T {temperature:g}", measured))
    return Table("Responses that cannot be selected", ("any", *UNFIT_REASONS), tuple(rows))


class _Part(NamedTuple):
    """What one batch samples for."""

    policy: Artifact
    temperature: float
    prompts: Sequence[Prompt]


def gold_of(prompts: Artifact) -> Gold | None:
    """Gold's judgement of a response to a prompt, on the prompt's axis; None where nothing is known of the prompts."""
    if not (prompts.path / "cases.jsonl").is_file():
        return None
    world, cases = world_of(prompts), cases_of(prompts)

    def gold(prompt: Prompt, response: str) -> float:
        return utility(judge(world, cases[prompt.id], response), "safety" if prompt.is_safety else "helpfulness")

    return gold


def _check_apart(policies: Sequence[Artifact]) -> None:
    names = [str(policy.reference) for policy in policies]
    if len(set(names)) < len(names):
        raise ValueError(f"the policies are {', '.join(names)}; give each once")


def _batches(
    config: SamplingStudyConfig,
    policies: Sequence[Artifact],
    inputs: Inputs,
    prompts: Sequence[Prompt],
    gold: Gold | None,
    seed: int,
    progress: Progress,
    done: Sequence[ScoredBatch],
) -> Iterator[ScoredBatch]:
    """Policy by policy, temperature by temperature; the batches are the same wherever the first of them are ``done``."""
    yield from done
    size = max(1, RESPONSES_PER_BATCH // config.k)
    parts = [
        _Part(policy, temperature, prompts[start : start + size])
        for policy in policies
        for temperature in sorted(config.temperatures)
        for start in range(0, len(prompts), size)
    ][len(done) :]
    if not parts:
        return
    reward = reward_of(inputs, config.safety_threshold)
    for policy, of_policy in itertools.groupby(parts, key=lambda part: part.policy):
        sampler = sampler_of({**inputs, "policy": [policy]}, progress)
        for part in of_policy:
            messages = [prompt.messages for prompt in part.prompts]
            groups = sampler.sample(
                messages, config.k, part.temperature, config.top_p, config.max_new_tokens, seed, config.top_k
            )
            yield _judged(part, groups, reward, gold)


def _judged(part: _Part, groups: list[list[Response]], reward: CombinedReward, gold: Gold | None) -> ScoredBatch:
    rows = [(prompt, *numbered) for prompt, group in zip(part.prompts, groups, strict=True) for numbered in enumerate(group)]
    scores = _scores([(prompt, response) for prompt, _, response in rows], reward)
    responses = [
        ScoredResponse(
            policy=str(part.policy.reference),
            temperature=part.temperature,
            prompt_id=prompt.id,
            position=position,
            response=response.text,
            finished=response.finished,
            num_tokens=len(response.ids),
            unfit=unfit(response),
            helpfulness_score=helpfulness,
            safety_score=safety,
            combined_score=combined,
            gold=gold(prompt, response.text) if gold else None,
        )
        for (prompt, position, response), (helpfulness, safety, combined) in zip(rows, scores, strict=True)
    ]
    return ScoredBatch(
        policy=str(part.policy.reference),
        temperature=part.temperature,
        num_prompts=len(part.prompts),
        eligible_share=fmean(response.unfit is None for response in responses),
        mean_tokens=fmean(response.num_tokens for response in responses),
        responses=responses,
    )


def _scores(
    rows: Sequence[tuple[Prompt, Response]], reward: CombinedReward
) -> list[tuple[float, float, float] | tuple[None, None, None]]:
    """(helpfulness, safety, combined) of each response; what is said twice to one prompt is scored once, and silence never."""
    texts = {(prompt.id, response.text): prompt for prompt, response in rows if response.text.strip()}
    dialogues: list[Messages] = [[*prompt.messages, assistant(text)] for (_, text), prompt in texts.items()]
    if not dialogues:
        return [(None, None, None)] * len(rows)
    scores = reward.score(dialogues, [prompt.is_safety for prompt in texts.values()])
    columns = zip(scores.helpfulness.tolist(), scores.safety.tolist(), scores.combined.tolist(), strict=True)
    known = dict(zip(texts, columns, strict=True))
    return [known.get((prompt.id, response.text), (None, None, None)) for prompt, response in rows]


def _by_sampling(responses: Sequence[ScoredResponse], k: int) -> Samplings:
    by_policy: dict[str, dict[float, list[ScoredResponse]]] = {}
    for response in responses:
        by_policy.setdefault(response.policy, {}).setdefault(response.temperature, []).append(response)
    return {
        policy: {temperature: _sampled(rows, k) for temperature, rows in by_temperature.items()}
        for policy, by_temperature in by_policy.items()
    }


def _sampled(rows: Sequence[ScoredResponse], k: int) -> Sampled:
    logits = np.array(
        [-np.inf if response.unfit or response.combined_score is None else response.combined_score for response in rows]
    )
    gold: NDArray[np.float64] | None = None
    if all(response.gold is not None for response in rows):
        gold = np.array([response.gold for response in rows], dtype=np.float64).reshape(-1, k)
    return Sampled([response.prompt_id for response in rows[::k]], sigmoid(logits).reshape(-1, k), gold)
