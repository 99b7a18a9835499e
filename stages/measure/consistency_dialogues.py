"""The dialogues in which an instruction is to hold, by group (``eval/consistency_turns.py``): the sandbox's, or a team's own.

Each draws its own random numbers, so that the number of those of one group changes none of another.
"""

import random
from collections.abc import Iterator, Sequence

from eval.consistency import ConsistencyDialogue
from eval.consistency_turns import HELD_OUT, TRAINED, UNINSTRUCTED
from gatt.constraints import Constraint
from gatt.obedience import GattError
from preference_data.prompt import Dialogue
from sandbox import constraints as rules
from sandbox.dialogues import PROMPT_WEIGHTS, Questioner
from sandbox.world import World
from stages.sections import ConsistencyConfig

_SHORTEST_TURN = 8  # tokens of the chat format alone, and a word on each side


def sandbox_dialogues(world_seed: int, config: ConsistencyConfig, seed: int, context: int) -> list[ConsistencyDialogue]:
    """One constraint each, on questions of the test split; the families take turns.

    They are questions as the prompts have them, so none asks for words to be said back as they are, against the instruction.
    ``context``: of the policy, in tokens; as many turns as could fit it are drawn for the dialogues to its end.
    """
    world = World(world_seed)
    trained, held_out = (rules.constraints(world_seed, held_out=side) for side in (False, True))
    everything = tuple(rules.all_constraints())
    last, last_of_others = max(config.turns), min(config.control_turns, max(config.turns))
    questions = Questioner(world, "test", PROMPT_WEIGHTS)

    def instructed(group: str, pool: list[rules.Constraint], count: int, num_turns: int) -> Iterator[ConsistencyDialogue]:
        families = sorted({constraint.family for constraint in pool})
        for index in range(count):
            rng = random.Random(f"consistency:{seed}:{group}:{index}")
            family = families[index % len(families)]
            constraint = rng.choice([constraint for constraint in pool if constraint.family == family])
            instruction, recall = rules.state([constraint], rng), rules.recall_question(family, rng)
            to_end, recalled = (group == TRAINED and index < count for count in (config.num_to_end, config.num_recalled))
            drawn = max(num_turns, context // _SHORTEST_TURN) if to_end else num_turns
            turns = tuple(questions.task(rng).question for _ in range(drawn))
            yield ConsistencyDialogue(
                group, instruction, (constraint,), turns, config.instruction_in, to_end, recall if recalled else None
            )

    def uninstructed() -> Iterator[ConsistencyDialogue]:
        for index in range(config.num_uninstructed):
            rng = random.Random(f"consistency:{seed}:{UNINSTRUCTED}:{index}")
            turns = tuple(questions.task(rng).question for _ in range(last_of_others))
            yield ConsistencyDialogue(UNINSTRUCTED, "", everything, turns)

    return [
        *instructed(TRAINED, trained, config.num_dialogues, last),
        *instructed(HELD_OUT, held_out, config.num_heldout, last_of_others),
        *uninstructed(),
    ]


def team_dialogues(
    dialogues: Sequence[Dialogue], constraints: Sequence[Constraint], config: ConsistencyConfig, seed: int, context: int
) -> list[ConsistencyDialogue]:
    """One constraint each, terse half of the time, on what the users of ``dialogues`` say; the families take turns.

    A user says what one dialogue's user said, and goes on with others', drawn at random, where that is too short. Recall is not
    asked. Without an instruction only constraints with a checker are watched for. Raises GattError where the constraints do not
    allow what ``config`` asks for.
    """
    user_texts = [
        tuple(message["content"] for message in dialogue.messages if message["role"] == "user") for dialogue in dialogues
    ]
    checked = tuple(constraint for constraint in constraints if constraint.check is not None)
    pools = {
        TRAINED: [constraint for constraint in constraints if not constraint.held_out],
        HELD_OUT: [constraint for constraint in constraints if constraint.held_out],
    }
    counts = {TRAINED: config.num_dialogues, HELD_OUT: config.num_heldout, UNINSTRUCTED: config.num_uninstructed}
    lacking = {TRAINED: "that is not held out", HELD_OUT: "that is held out", UNINSTRUCTED: "with a checker"}
    for group, pool in {**pools, UNINSTRUCTED: checked}.items():
        if counts[group] and not pool:
            raise GattError(
                f"{counts[group]} dialogues of the group {group} were asked for, and there is no constraint {lacking[group]}; "
                "give one, or ask for none of them"
            )
    last, last_of_others = max(config.turns), min(config.control_turns, max(config.turns))
    talks = []
    for group, count in counts.items():
        for index in range(count):
            rng = random.Random(f"consistency:{seed}:{group}:{index}")
            to_end = group == TRAINED and index < config.num_to_end
            num_turns = last if group == TRAINED else last_of_others
            turns = _user_turns(user_texts, index, rng, max(num_turns, context // _SHORTEST_TURN) if to_end else num_turns)
            if group == UNINSTRUCTED:
                talks.append(ConsistencyDialogue(group, "", checked, turns))
                continue
            families = sorted({constraint.family for constraint in pools[group]})
            constraint = rng.choice(
                [constraint for constraint in pools[group] if constraint.family == families[index % len(families)]]
            )
            instruction = constraint.terse if rng.random() < 0.5 else constraint.instruction
            talks.append(ConsistencyDialogue(group, instruction, (constraint,), turns, config.instruction_in, to_end))
    return talks


def _user_turns(user_texts: Sequence[tuple[str, ...]], first: int, rng: random.Random, count: int) -> tuple[str, ...]:
    """``count`` messages, of the user of the dialogue whose turn it is and then of others, drawn at random."""
    turns = list(user_texts[first % len(user_texts)])
    while len(turns) < count:
        turns += rng.choice(user_texts)
    return tuple(turns[:count])
