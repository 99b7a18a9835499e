"""Ghost Attention, the sampling half (paper 3.3): last answers that hold to an instruction through a whole dialogue.

An instruction is put in front of EVERY user message of a multi-turn dialogue, and the policy samples k last answers to that;
the best one that obeys is kept. The intermediate answers stay as they were: the paper can be read either way, and its remark
that training mismatches the intermediate turns fits only answers that were not made under the instruction.

An answer that does not obey would teach forgetting, so a dialogue where none obeys is dropped, and counted.
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
from policy.generation import Response, Sampler
from preference_data.messages import Messages, assistant, check_dialogue, tags_in, user
from preference_data.prompt import Dialogue
from reward_model.scoring import Scorer
from reward_model.selection import best_of_k

Obeys = Callable[[Constraint, str], bool]


class GattError(ValueError):
    """Ghost Attention dialogues cannot be made of what was given."""


@dataclass(frozen=True, slots=True)
class Synthesised:
    """A dialogue, the instruction it got, and the last answer that was kept for it.

    ``dialogue`` is as it was given, without the instruction. ``response`` is None where no answer was fit: finished, with text,
    without chat tags, and obeying the whole instruction. ``obeying[i]`` of the k answers obey ``instruction.constraints[i]``.
    """

    dialogue: Messages
    instruction: Instruction
    response: str | None
    obeying: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GattStats:
    """One batch of dialogues."""

    num_done: int = field(metadata={"help": "dialogues tried so far, this batch included"})
    num_dialogues: int = field(metadata={"help": "dialogues of the whole run"})
    num_kept: int = field(metadata={"help": "dialogues of this batch with a fit answer"})
    dropped: dict[str, int] = field(
        metadata={"help": "dialogues of this batch without a fit answer, by the instruction's families"}
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
    config: GattConfig,
    seed: int,
    scorer: Scorer | None = None,
    done: Sequence[GattStats] = (),
) -> Iterator[GattStats]:
    """Give each dialogue an instruction and a last answer that obeys it; yield batch by batch.

    ``obeys`` judges an answer by one constraint; an answer must obey all of its instruction's. Among those that do,
    the one with the highest score of ``scorer`` is kept, or the first without a scorer. Raises GattError for a dialogue
    with a system message, and at the end when no dialogue has a fit answer. ``done``: the first batches, from an earlier
    run; they are yielded as they are.
    """
    instructions = [compose_instruction(constraints, random.Random(f"{seed}/{index}")) for index in range(len(dialogues))]
    prompts = [with_instruction(dialogue, made.text) for dialogue, made in zip(dialogues, instructions, strict=True)]
    sampled: Counter[str] = Counter()
    obeying: Counter[str] = Counter()
    num_kept = 0

    def new_batches() -> Iterator[GattStats]:
        for start in range(done[-1].num_done if done else 0, len(dialogues), config.dialogues_per_batch):
            started = time.perf_counter()
            batch = slice(start, start + config.dialogues_per_batch)
            groups = sampler.sample(prompts[batch], config.k, config.temperature, config.top_p, config.max_new_tokens, seed)
            made = _choose(dialogues[batch], instructions[batch], prompts[batch], groups, obeys, scorer)
            yield _stats(made, start + len(made), len(dialogues), config.k, time.perf_counter() - started)

    for stats in chain(done, new_batches()):
        sampled.update(stats.sampled)
        obeying.update(stats.obeying)
        num_kept += stats.num_kept
        yield stats
    if not num_kept:
        rates = ", ".join(f"{family} {obeying[family]} of {count}" for family, count in sorted(sampled.items()))
        raise GattError(
            f"no answer to any of {len(dialogues)} dialogues is finished and obeys its whole instruction (answers that obey a "
            f"constraint: {rates}), so there is nothing to train on; check that the policy obeys these constraints in a single "
            "turn, or take constraints that it can obey"
        )


def with_instruction(dialogue: Messages, instruction: str) -> Messages:
    """The prompt of the dialogue's last turn, with ``instruction`` in front of every user message.

    Raises MessagesError for what is no dialogue, GattError for one with a system message.
    """
    check_dialogue(dialogue)
    if dialogue[0]["role"] == "system":
        raise GattError("this dialogue has a system message, which would compete with the instruction; give one without")
    return [user(f"{instruction} {message['content']}") if message["role"] == "user" else message for message in dialogue[:-1]]


def chain_dialogues(single_turn_dialogues: Sequence[Dialogue], num_turns: Sequence[int], seed: int) -> list[Messages]:
    """Multi-turn dialogues strung together from single-turn ones: one for each entry of ``num_turns``, with that many turns.

    Within a dialogue no single-turn dialogue is used twice. Raises GattError for too few of them, and for one with more turns.
    """
    for single in single_turn_dialogues:
        if [message["role"] for message in single.messages] != ["user", "assistant"]:
            roles = ", ".join(message["role"] for message in single.messages)
            raise GattError(f"dialogue {single.prompt_id} has the roles {roles}; chaining takes single turns: user, assistant")
    if (longest := max(num_turns, default=0)) > len(single_turn_dialogues):
        raise GattError(
            f"a dialogue of {longest} turns was asked for, and there are {len(single_turn_dialogues)} single-turn dialogues to "
            "string together; give more of them or ask for fewer turns"
        )
    rng = random.Random(seed)
    return [
        [message for single in rng.sample(single_turn_dialogues, turns) for message in single.messages] for turns in num_turns
    ]


def draw_num_turns(config: GattConfig, seed: int) -> list[int]:
    """Turns of each of ``config.num_dialogues`` dialogues, uniform from min_turns to max_turns."""
    rng = random.Random(seed)
    return [rng.randint(config.min_turns, config.max_turns) for _ in range(config.num_dialogues)]


def _choose(
    dialogues: Sequence[Messages],
    instructions: Sequence[Instruction],
    prompts: Sequence[Messages],
    groups: Sequence[Sequence[Response]],
    obeys: Obeys,
    scorer: Scorer | None,
) -> list[Synthesised]:
    verdicts = [
        [[obeys(constraint, response.text) for constraint in made.constraints] for response in group]
        for made, group in zip(instructions, groups, strict=True)
    ]
    fit = [
        [_can_be_target(response) and all(verdict) for response, verdict in zip(group, rows, strict=True)]
        for group, rows in zip(groups, verdicts, strict=True)
    ]
    chosen = best_of_k(_scores(prompts, groups, fit, scorer), torch.tensor(fit))
    return [
        Synthesised(dialogue, made, None if best is None else group[best].text, tuple(map(sum, zip(*rows, strict=True))))
        for dialogue, made, group, rows, best in zip(dialogues, instructions, groups, verdicts, chosen, strict=True)
    ]


def _can_be_target(response: Response) -> bool:
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
        for constraint, count in zip(one.instruction.constraints, one.obeying, strict=True):
            sampled[constraint.family] += k
            obeying[constraint.family] += count
    return GattStats(
        num_done=num_done,
        num_dialogues=num_dialogues,
        num_kept=sum(one.response is not None for one in done),
        dropped=dict(Counter(one.instruction.family for one in done if one.response is None)),
        obeying=dict(obeying),
        sampled=dict(sampled),
        seconds=seconds,
        synthesised=done,
    )
