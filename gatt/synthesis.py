"""Ghost Attention, the sampling half (paper 3.3): last responses that obey an instruction given throughout a dialogue.

The instruction is put in front of EVERY user message of a multi-turn dialogue, and the policy samples k last responses to that;
the best one that obeys is kept. The paper can be read in two ways about the responses before the last, and ``intermediate``
chooses one: ``original`` leaves them as they were, ``resampled`` samples each of them again, turn by turn, under the
instruction. The default is ``original``: the paper's remark that training mismatches the intermediate turns fits only responses
that were not sampled under the instruction.

A response that does not obey would teach forgetting, so a dialogue where none obeys is dropped and counted. Held-out
constraints are refused: they are for evaluation.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import torch

from gatt.config import GattConfig
from gatt.constraints import Constraint, Instruction, compose_instruction
from gatt.obedience import Asked, GattError, Obeys, with_instruction
from policy.generation import Response, Sampler
from preference_data.messages import Messages, assistant, num_turns, tags_in, user
from reward_model.scoring import Scorer
from reward_model.selection import best_of_k

Fits = Callable[[Messages], bool]
"""Does a prompt with the longest response to it, or a whole dialogue, fit the context?"""


@dataclass(frozen=True, slots=True)
class Synthesised:
    """A dialogue, its instruction, and the last response that was kept for it.

    ``dialogue`` is without the instruction; its intermediate responses are those that the last one was sampled after, and its
    last response is its own. ``response`` is None where no sampled response was eligible: finished, with text, without chat
    tags, and obeying the whole instruction. ``obeying[i]`` of the k responses obey ``instruction.constraints[i]``; it is empty
    where no last response was sampled, because the dialogue does not fit the context or an intermediate response was unusable.
    """

    dialogue: Messages
    instruction: Instruction
    response: str | None
    obeying: tuple[int, ...]
    too_long: bool = False


@dataclass(frozen=True, slots=True)
class GattStats:
    """One batch of dialogues."""

    num_done: int = field(metadata={"help": "dialogues tried so far, this batch included"})
    num_dialogues: int = field(metadata={"help": "dialogues of the whole run"})
    num_kept: int = field(metadata={"help": "dialogues of this batch with an eligible response"})
    num_too_long: int = field(metadata={"help": "dialogues of this batch that do not fit the context with their instruction"})
    dropped: dict[str, int] = field(
        metadata={"help": "dialogues of this batch that fit but have no eligible response, by the instruction's families"}
    )
    obeying: dict[str, int] = field(metadata={"help": "responses of this batch that obey the constraint of a family"})
    sampled: dict[str, int] = field(metadata={"help": "responses of this batch sampled under a constraint of the family"})
    seconds: float = field(metadata={"help": "time of sampling and scoring"})
    synthesised: list[Synthesised] = field(metadata={"help": "all dialogues of this batch, kept or not"})


def synthesise(
    dialogues: Sequence[Messages],
    constraints: Sequence[Constraint],
    sampler: Sampler,
    obeys: Obeys,
    fits: Fits,
    config: GattConfig,
    seed: int,
    scorer: Scorer | None = None,
    done: Sequence[GattStats] = (),
) -> Iterator[GattStats]:
    """Give each dialogue an instruction and a last response that obeys it; yield batch by batch.

    A response must obey every constraint of its instruction. Among those that do, the one with the highest score of ``scorer``
    is kept, or the first one without a scorer. ``done``: the first batches, from an earlier run; they are yielded unchanged.
    Raises GattError for a held-out constraint, for one whose wording alone does not fit the context, for a dialogue with a
    system message, and at the end when no dialogue has an eligible response.
    """
    check_constraints(constraints, fits)
    instructions = [compose_instruction(constraints, random.Random(f"{seed}/{index}")) for index in range(len(dialogues))]

    def new_batches() -> Iterator[GattStats]:
        for start in range(done[-1].num_done if done else 0, len(dialogues), config.dialogues_per_batch):
            started = time.perf_counter()
            batch = slice(start, start + config.dialogues_per_batch)
            synthesised = _synthesise_batch(dialogues[batch], instructions[batch], sampler, obeys, fits, config, seed, scorer)
            num_done = start + len(synthesised)
            yield _stats(synthesised, num_done, len(dialogues), config.k, time.perf_counter() - started)

    all_stats: list[GattStats] = []
    for stats in chain(done, new_batches()):
        all_stats.append(stats)
        yield stats
    if not any(stats.num_kept for stats in all_stats):
        raise GattError(_nothing_kept(all_stats, len(dialogues)))


def check_constraints(constraints: Sequence[Constraint], fits: Fits) -> None:
    """Raise GattError for held-out constraints, and for those whose wording leaves no room for a response."""
    if held_out := [f"{constraint.family} {constraint.value}" for constraint in constraints if constraint.held_out]:
        raise GattError(f"held-out constraints are for evaluation and cannot be trained on: {', '.join(held_out)}")
    check_room(constraints, fits)


def check_room(constraints: Sequence[Constraint], fits: Fits) -> None:
    """Raise GattError for a constraint whose wording alone leaves no room for a response."""
    for constraint in constraints:
        if not all(fits([user(wording)]) for wording in (constraint.instruction, constraint.terse)):
            raise GattError(
                f"the instruction of the {constraint.family} {constraint.value!r} ({len(constraint.instruction):,} characters, "
                f"beginning {constraint.instruction[:40]!r}) alone leaves no room in the policy's context for a response of "
                "max_new_tokens; shorten it, or lower max_new_tokens"
            )


def _synthesise_batch(
    dialogues: Sequence[Messages],
    instructions: Sequence[Instruction],
    sampler: Sampler,
    obeys: Obeys,
    fits: Fits,
    config: GattConfig,
    seed: int,
    scorer: Scorer | None,
) -> list[Synthesised]:
    """One batch, in the order of its dialogues."""
    unusable = set[int]()
    if config.intermediate == "resampled":
        dialogues, unusable = resampled(dialogues, instructions, sampler, fits, config, seed)
    prompts = [
        with_instruction(dialogue, instruction.text) for dialogue, instruction in zip(dialogues, instructions, strict=True)
    ]
    fitting = [fits(prompt) and fits([*prompt, dialogue[-1]]) for prompt, dialogue in zip(prompts, dialogues, strict=True)]
    batch = [
        Synthesised(dialogue, instruction, None, (), not is_fitting)
        for dialogue, instruction, is_fitting in zip(dialogues, instructions, fitting, strict=True)
    ]
    if places := [place for place, is_fitting in enumerate(fitting) if is_fitting and place not in unusable]:
        sampled_prompts = [prompts[place] for place in places]
        groups = sampler.sample(sampled_prompts, config.k, config.temperature, config.top_p, config.max_new_tokens, seed)
        with_response = _choose([batch[place] for place in places], sampled_prompts, groups, obeys, scorer)
        for place, synthesised in zip(places, with_response, strict=True):
            batch[place] = synthesised
    return batch


def resampled(
    dialogues: Sequence[Messages],
    instructions: Sequence[Instruction],
    sampler: Sampler,
    fits: Fits,
    config: GattConfig,
    seed: int,
) -> tuple[list[Messages], set[int]]:
    """The dialogues with every response but the last sampled again under the instruction, one sample each, turn by turn; and
    the places of those that got an unusable response, which keep their own responses from there on.
    """
    new_dialogues, unusable = [list(dialogue) for dialogue in dialogues], set[int]()
    for turn in range(1, max(map(num_turns, dialogues))):
        prompts = {
            place: with_instruction(dialogue[: 2 * turn], instructions[place].text)
            for place, dialogue in enumerate(new_dialogues)
            if turn < num_turns(dialogue) and place not in unusable
        }
        fitting = {place: prompt for place, prompt in prompts.items() if fits(prompt)}
        groups = sampler.sample([*fitting.values()], 1, config.temperature, config.top_p, config.max_new_tokens, seed)
        for place, (response,) in zip(fitting, groups, strict=True):
            if _is_usable(response):
                new_dialogues[place][2 * turn - 1] = assistant(response.text)
            else:
                unusable.add(place)
    return new_dialogues, unusable


def _choose(
    batch: Sequence[Synthesised],
    prompts: Sequence[Messages],
    groups: Sequence[Sequence[Response]],
    obeys: Obeys,
    scorer: Scorer | None,
) -> list[Synthesised]:
    """``batch`` with the best eligible response of each group, and how many of the group obey each constraint."""
    obedience = _obedience(batch, groups, obeys)
    eligible = [
        [_is_usable(response) and all(obeyed) for response, obeyed in zip(group, obeyed_by_group, strict=True)]
        for group, obeyed_by_group in zip(groups, obedience, strict=True)
    ]
    chosen = best_of_k(_scores(prompts, groups, eligible, scorer), torch.tensor(eligible))
    return [
        Synthesised(
            entry.dialogue,
            entry.instruction,
            response=None if best is None else group[best].text,
            obeying=tuple(map(sum, zip(*obeyed_by_group, strict=True))),
        )
        for entry, group, obeyed_by_group, best in zip(batch, groups, obedience, chosen, strict=True)
    ]


def _obedience(batch: Sequence[Synthesised], groups: Sequence[Sequence[Response]], obeys: Obeys) -> list[list[list[bool]]]:
    """For each dialogue, response and constraint of the instruction: does the response obey it?"""
    asked = [
        Asked(constraint, entry.dialogue, response.text)
        for entry, group in zip(batch, groups, strict=True)
        for response in group
        for constraint in entry.instruction.constraints
    ]
    results = iter(obeys(asked))
    return [
        [[next(results) for _ in entry.instruction.constraints] for _ in group]
        for entry, group in zip(batch, groups, strict=True)
    ]


def _is_usable(response: Response) -> bool:
    """Can the response be a message of a dialogue?"""
    return response.finished and bool(response.text.strip()) and not tags_in(response.text)


def _scores(
    prompts: Sequence[Messages], groups: Sequence[Sequence[Response]], eligible: list[list[bool]], scorer: Scorer | None
) -> torch.Tensor:
    """(P, K) scores of the eligible responses; 0 for the others, and for all of them without a scorer."""
    scores = torch.zeros(len(eligible), len(eligible[0]))
    mask = torch.tensor(eligible)
    if scorer is not None and mask.any():
        scores[mask] = scorer.score(
            [
                [*prompt, assistant(response.text)]
                for prompt, group, eligible_in_group in zip(prompts, groups, eligible, strict=True)
                for response, is_eligible in zip(group, eligible_in_group, strict=True)
                if is_eligible
            ]
        )
    return scores


def _stats(batch: list[Synthesised], num_done: int, num_dialogues: int, k: int, seconds: float) -> GattStats:
    sampled: Counter[str] = Counter()
    obeying: Counter[str] = Counter()
    for entry in batch:
        # ``obeying`` is empty where nothing was sampled
        for constraint, count in zip(entry.instruction.constraints, entry.obeying, strict=False):
            sampled[constraint.family] += k
            obeying[constraint.family] += count
    return GattStats(
        num_done=num_done,
        num_dialogues=num_dialogues,
        num_kept=sum(entry.response is not None for entry in batch),
        num_too_long=sum(entry.too_long for entry in batch),
        dropped=dict(Counter(entry.instruction.family for entry in batch if entry.response is None and not entry.too_long)),
        obeying=dict(obeying),
        sampled=dict(sampled),
        seconds=seconds,
        synthesised=batch,
    )


def _nothing_kept(all_stats: Sequence[GattStats], num_dialogues: int) -> str:
    """Why there is nothing to train on."""
    sampled, obeying = Counter[str](), Counter[str]()
    for stats in all_stats:
        sampled.update(stats.sampled)
        obeying.update(stats.obeying)
    if not sampled:
        too_long = sum(stats.num_too_long for stats in all_stats)
        return (
            f"none of {num_dialogues} dialogues reached its last response: {too_long} do not fit the context with an "
            f"instruction in every user message and room for a response, and {num_dialogues - too_long} got an intermediate "
            "response that is cut off, empty or holds chat tags; give shorter dialogues, or change max_new_tokens"
        )
    rates = ", ".join(f"{family} {obeying[family]} of {count}" for family, count in sorted(sampled.items()))
    return (
        f"no response to any of {num_dialogues} dialogues is finished and obeys its whole instruction (responses that obey a "
        f"constraint: {rates}), so there is nothing to train on; check that the policy obeys these constraints in a single "
        "turn, or give constraints that it can obey"
    )
