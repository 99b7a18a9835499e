"""The multi-turn dialogues that get an instruction: chained from single-turn dialogues, or multi-turn ones as given."""

import random
from collections import Counter
from collections.abc import Sequence

from gatt.config import GattConfig
from gatt.obedience import GattError
from preference_data.messages import Messages
from preference_data.messages import num_turns as turns_of
from preference_data.prompt import Dialogue


def chain_dialogues(single_turn_dialogues: Sequence[Dialogue], num_turns: Sequence[int], seed: int) -> list[Messages]:
    """Multi-turn dialogues chained from single-turn ones: one for each entry of ``num_turns``, with that many turns.

    No single-turn dialogue is used twice in one dialogue. Raises GattError for too few single-turn dialogues, and for one that
    has more turns.
    """
    for single in single_turn_dialogues:
        if [message["role"] for message in single.messages] != ["user", "assistant"]:
            roles = ", ".join(message["role"] for message in single.messages)
            raise GattError(f"dialogue {single.prompt_id} has the roles {roles}; chaining takes single turns: user, assistant")
    if (longest := max(num_turns, default=0)) > len(single_turn_dialogues):
        raise GattError(
            f"a dialogue of {longest} turns was asked for, and there are {len(single_turn_dialogues)} single-turn dialogues to "
            "string together; give more of them, ask for fewer turns, or give multi-turn dialogues to use as they are "
            "(gatt.multi_turn: given)"
        )
    rng = random.Random(seed)
    return [
        [message for single in rng.sample(single_turn_dialogues, turns) for message in single.messages] for turns in num_turns
    ]


def draw_num_turns(config: GattConfig, seed: int) -> list[int]:
    """Turns of each of ``config.num_dialogues`` dialogues, from min_turns to max_turns; a number n has the weight 1 / n.

    A dialogue trains one response however long it is, so short ones, which cost less, are more frequent.
    """
    lengths = range(config.min_turns, config.max_turns + 1)
    return random.Random(seed).choices(lengths, [1 / turns for turns in lengths], k=config.num_dialogues)


def mean_num_turns(config: GattConfig) -> float:
    """The mean of what `draw_num_turns` draws."""
    lengths = range(config.min_turns, config.max_turns + 1)
    return len(lengths) / sum(1 / turns for turns in lengths)


def given_dialogues(dialogues: Sequence[Dialogue], config: GattConfig, seed: int) -> tuple[list[Messages], Counter[str]]:
    """(``config.num_dialogues`` of the multi-turn dialogues at random, or all if fewer; counts of those dropped or cut).

    Dialogues with a system message, which would compete with the instruction, and those with fewer than ``min_turns`` turns are
    dropped; those with more than ``max_turns`` are cut to their first ``max_turns``. Raises GattError where none is left.
    """
    changed: Counter[str] = Counter()
    usable: list[Messages] = []
    for dialogue in dialogues:
        if dialogue.messages[0]["role"] == "system":
            changed["system message"] += 1
        elif turns_of(dialogue.messages) < config.min_turns:
            changed["too few turns"] += 1
        else:
            usable.append(dialogue.messages[: 2 * config.max_turns])
            changed["cut"] += len(usable[-1]) < len(dialogue.messages)
    if not usable:
        raise GattError(
            f"none of {len(dialogues)} dialogues has {config.min_turns} turns or more and no system message "
            f"({', '.join(f'{reason}: {count}' for reason, count in changed.items() if count)}); give multi-turn dialogues, or "
            "chain single turns (gatt.multi_turn: chained)"
        )
    rng = random.Random(f"given:{seed}")
    return rng.sample(usable, min(config.num_dialogues, len(usable))), +changed
