"""Ghost Attention, the sampling half (paper 3.3): last answers that hold to an instruction through a whole dialogue.

An instruction is put in front of EVERY user message of a multi-turn dialogue, and the policy samples k last answers to that;
the best one that obeys is kept. The paper can be read in two ways about the answers before it, and ``intermediate`` says which
is taken: ``original`` leaves them as they were, ``resampled`` has the policy give each of them anew, turn by turn, under the
instruction. The default is the first: the paper's remark that training mismatches the intermediate turns fits only answers that
were not made under the instruction.

An answer that does not obey would teach forgetting, so a dialogue where none obeys is dropped, and counted. Constraints that
are held out are refused here: they are for evaluation.
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
"""Does a prompt with an answer to come, or a whole dialogue, fit the context?"""


@dataclass(frozen=True, slots=True)
class Synthesised:
    """A dialogue, the instruction it got, and the last answer that was kept for it.

    ``dialogue`` is without the instruction, its intermediate answers are those that the last answer was sampled after, and its
    last answer is its own. ``response`` is None where no answer was fit: finished, with text, without chat tags, and obeying
    the whole instruction. ``obeying[i]`` of the k answers obey ``instruction.constraints[i]``; it is empty where no last answer
    was sampled, because the dialogue does not fit the context or an intermediate answer was not fit.
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
    num_kept: int = field(metadata={"help": "dialogues of this batch with a fit answer"})
    num_too_long: int = field(metadata={"help": "dialogues of this batch that with their instruction do not fit the context"})
    dropped: dict[str, int] = field(
        metadata={"help": "dialogues of this batch that fit but have no fit answer, by the instruction's families"}
    )
    obeying: dict[str, int] = field(metadata={"help": "answers of this batch that obey the constraint of a family"})
    sampled: dict[str, int] = field(metadata={"help": "answers of this batch that a constraint of the family was asked of"})
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
    """Give each dialogue an instruction and a last answer that obeys it; yield batch by batch.

    An answer must obey every constraint of its instruction. Among those that do, the one with the highest score of ``scorer``
    is kept, or the first without a scorer. ``done``: the first batches, from an earlier run; they are yielded as they are.
    Raises GattError for a held-out constraint, for one whose wording alone does not fit the context, for a dialogue with a
    system message, and at the end when no dialogue has a fit answer.
    """
    check_constraints(constraints, fits)
    instructions = [compose_instruction(constraints, random.Random(f"{seed}/{index}")) for index in range(len(dialogues))]

    def new_batches() -> Iterator[GattStats]:
        for start in range(done[-1].num_done if done else 0, len(dialogues), config.dialogues_per_batch):
            started = time.perf_counter()
            batch = slice(start, start + config.dialogues_per_batch)
            made = _synthesised(dialogues[batch], instructions[batch], sampler, obeys, fits, config, seed, scorer)
            yield _stats(made, start + len(made), len(dialogues), config.k, time.perf_counter() - started)

    told: list[GattStats] = []
    for stats in chain(done, new_batches()):
        told.append(stats)
        yield stats
    if not any(stats.num_kept for stats in told):
        raise GattError(_nothing_kept(told, len(dialogues)))


def check_constraints(constraints: Sequence[Constraint], fits: Fits) -> None:
    """Raise GattError for constraints that are held out, and for those whose wording leaves no room for an answer."""
    if held_out := [f"{each.family} {each.value}" for each in constraints if each.held_out]:
        raise GattError(f"held-out constraints are for evaluation and cannot be trained on: {', '.join(held_out)}")
    check_room(constraints, fits)


def check_room(constraints: Sequence[Constraint], fits: Fits) -> None:
    """Raise GattError for a constraint whose wording alone leaves no room for an answer."""
    for each in constraints:
        if not all(fits([user(words)]) for words in (each.instruction, each.terse)):
            raise GattError(
                f"the instruction of the {each.family} {each.value!r} ({len(each.instruction):,} characters, beginning "
                f"{each.instruction[:40]!r}) alone leaves no room in the policy's context for an answer of max_new_tokens; "
                "shorten it, or lower max_new_tokens"
            )


def _synthesised(
    dialogues: Sequence[Messages],
    instructions: Sequence[Instruction],
    sampler: Sampler,
    obeys: Obeys,
    fits: Fits,
    config: GattConfig,
    seed: int,
    scorer: Scorer | None,
) -> list[Synthesised]:
    """One batch, in its order."""
    if config.intermediate == "resampled":
        given, spoilt = resampled(dialogues, instructions, sampler, fits, config, seed)
    else:
        given, spoilt = list(dialogues), set[int]()
    prompts = [with_instruction(dialogue, made.text) for dialogue, made in zip(given, instructions, strict=True)]
    fitting = [fits(prompt) and fits([*prompt, dialogue[-1]]) for prompt, dialogue in zip(prompts, given, strict=True)]
    found = [
        Synthesised(dialogue, made, None, (), not fit) for dialogue, made, fit in zip(given, instructions, fitting, strict=True)
    ]
    if asked := [place for place, fit in enumerate(fitting) if fit and place not in spoilt]:
        groups = sampler.sample(
            [prompts[place] for place in asked], config.k, config.temperature, config.top_p, config.max_new_tokens, seed
        )
        chosen = _choose([found[place] for place in asked], [prompts[place] for place in asked], groups, obeys, scorer)
        for place, made in zip(asked, chosen, strict=True):
            found[place] = made
    return found


def resampled(
    dialogues: Sequence[Messages],
    instructions: Sequence[Instruction],
    sampler: Sampler,
    fits: Fits,
    config: GattConfig,
    seed: int,
) -> tuple[list[Messages], set[int]]:
    """The dialogues with every answer but the last sampled anew under the instruction, one sample each, turn by turn; and the
    places of those where an answer was not fit to go on from, which are left as they were by then.
    """
    found, spoilt = [list(dialogue) for dialogue in dialogues], set[int]()
    for turn in range(1, max(map(num_turns, dialogues))):
        prompts = {
            place: with_instruction(dialogue[: 2 * turn], instructions[place].text)
            for place, dialogue in enumerate(found)
            if turn < num_turns(dialogue) and place not in spoilt
        }
        asked = {place: prompt for place, prompt in prompts.items() if fits(prompt)}
        sampled = sampler.sample([*asked.values()], 1, config.temperature, config.top_p, config.max_new_tokens, seed)
        for place, (response,) in zip(asked, sampled, strict=True):
            if _can_stand(response):
                found[place][2 * turn - 1] = assistant(response.text)
            else:
                spoilt.add(place)
    return found, spoilt


def _choose(
    made: Sequence[Synthesised],
    prompts: Sequence[Messages],
    groups: Sequence[Sequence[Response]],
    obeys: Obeys,
    scorer: Scorer | None,
) -> list[Synthesised]:
    """``made`` with the best fit response of each, and how many of its group obey each constraint."""
    verdicts = _verdicts(made, groups, obeys)
    fit = [
        [_can_stand(response) and all(verdict) for response, verdict in zip(group, rows, strict=True)]
        for group, rows in zip(groups, verdicts, strict=True)
    ]
    chosen = best_of_k(_scores(prompts, groups, fit, scorer), torch.tensor(fit))
    return [
        Synthesised(
            one.dialogue, one.instruction, None if best is None else group[best].text, tuple(map(sum, zip(*rows, strict=True)))
        )
        for one, group, rows, best in zip(made, groups, verdicts, chosen, strict=True)
    ]


def _verdicts(made: Sequence[Synthesised], groups: Sequence[Sequence[Response]], obeys: Obeys) -> list[list[list[bool]]]:
    """Of each dialogue, each response and each constraint of its instruction: does it obey?"""
    asked = [
        Asked(constraint, one.dialogue, response.text)
        for one, group in zip(made, groups, strict=True)
        for response in group
        for constraint in one.instruction.constraints
    ]
    found = iter(obeys(asked))
    return [
        [[next(found) for _ in one.instruction.constraints] for _ in group] for one, group in zip(made, groups, strict=True)
    ]


def _can_stand(response: Response) -> bool:
    """Can the response be a message of a dialogue?"""
    return response.finished and bool(response.text.strip()) and not tags_in(response.text)


def _scores(
    prompts: Sequence[Messages], groups: Sequence[Sequence[Response]], fit: list[list[bool]], scorer: Scorer | None
) -> torch.Tensor:
    """(P, K) scores of the fit responses; 0 for the others, and for all of them without a scorer."""
    scores = torch.zeros(len(fit), len(fit[0]))
    mask = torch.tensor(fit)
    if scorer is not None and mask.any():
        scores[mask] = scorer.score(
            [
                [*prompt, assistant(response.text)]
                for prompt, group, row in zip(prompts, groups, fit, strict=True)
                for response, is_fit in zip(group, row, strict=True)
                if is_fit
            ]
        )
    return scores


def _stats(done: list[Synthesised], num_done: int, num_dialogues: int, k: int, seconds: float) -> GattStats:
    sampled: Counter[str] = Counter()
    obeying: Counter[str] = Counter()
    for one in done:
        for constraint, count in zip(one.instruction.constraints, one.obeying, strict=False):  # none where nothing was sampled
            sampled[constraint.family] += k
            obeying[constraint.family] += count
    return GattStats(
        num_done=num_done,
        num_dialogues=num_dialogues,
        num_kept=sum(one.response is not None for one in done),
        num_too_long=sum(one.too_long for one in done),
        dropped=dict(Counter(one.instruction.family for one in done if one.response is None and not one.too_long)),
        obeying=dict(obeying),
        sampled=dict(sampled),
        seconds=seconds,
        synthesised=done,
    )


def _nothing_kept(told: Sequence[GattStats], num_dialogues: int) -> str:
    """Why there is nothing to train on."""
    sampled, obeying = Counter[str](), Counter[str]()
    for stats in told:
        sampled.update(stats.sampled)
        obeying.update(stats.obeying)
    if not sampled:
        too_long = sum(stats.num_too_long for stats in told)
        return (
            f"none of {num_dialogues} dialogues came to its last answer: {too_long} do not fit the context with an instruction "
            f"in every user message and room for an answer, and {num_dialogues - too_long} got an intermediate answer that is "
            "cut off, empty or holds chat tags; give shorter dialogues, or change max_new_tokens"
        )
    rates = ", ".join(f"{family} {obeying[family]} of {count}" for family, count in sorted(sampled.items()))
    return (
        f"no answer to any of {num_dialogues} dialogues is finished and obeys its whole instruction (answers that obey a "
        f"constraint: {rates}), so there is nothing to train on; check that the policy obeys these constraints in a single "
        "turn, or take constraints that it can obey"
    )
