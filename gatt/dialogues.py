"""The multi-turn dialogues that get an instruction: strung together from single turns, or as they were given."""

import random
from collections import Counter
from collections.abc import Sequence

from gatt.config import GattConfig
from gatt.obedience import GattError
from preference_data.messages import Messages
from preference_data.messages import num_turns as turns_of
from preference_data.prompt import Dialogue


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
            "string together; give more of them, ask for fewer turns, or take dialogues of several turns as they are "
            "(gatt.multi_turn: given)"
        )
    rng = random.Random(seed)
    return [
        [message for single in rng.sample(single_turn_dialogues, turns) for message in single.messages] for turns in num_turns
    ]


def draw_num_turns(config: GattConfig, seed: int) -> list[int]:
    """Turns of each of ``config.num_dialogues`` dialogues, from min_turns to max_turns; a number n has the weight 1 / n.

    A dialogue teaches one answer however long it is, so short ones, which cost little, are the more common.
    """
    lengths = range(config.min_turns, config.max_turns + 1)
    return random.Random(seed).choices(lengths, [1 / turns for turns in lengths], k=config.num_dialogues)


def mean_num_turns(config: GattConfig) -> float:
    """The mean of what `draw_num_turns` draws."""
    lengths = range(config.min_turns, config.max_turns + 1)
    return len(lengths) / sum(1 / turns for turns in lengths)


def given_dialogues(dialogues: Sequence[Dialogue], config: GattConfig, seed: int) -> tuple[list[Messages], Counter[str]]:
    """(``config.num_dialogues`` multi-turn ones at random, or all where there are fewer; counts of those left out or cut).

    Left out are those with a system message, which would compete with the instruction, and those of less than ``min_turns``
    turns; cut are those of more than ``max_turns``, after their first so many. Raises GattError where none is left.
    """
    changed: Counter[str] = Counter()
    usable: list[Messages] = []
    for each in dialogues:
        if each.messages[0]["role"] == "system":
            changed["system message"] += 1
        elif turns_of(each.messages) < config.min_turns:
            changed["too few turns"] += 1
        else:
            usable.append(each.messages[: 2 * config.max_turns])
            changed["cut"] += len(usable[-1]) < len(each.messages)
    if not usable:
        raise GattError(
            f"none of {len(dialogues)} dialogues has {config.min_turns} turns or more and no system message "
            f"({', '.join(f'{name}: {count}' for name, count in changed.items() if count)}); give dialogues of several turns, "
            "or have single turns strung together (gatt.multi_turn: chained)"
        )
    rng = random.Random(f"given:{seed}")
    return rng.sample(usable, min(config.num_dialogues, len(usable))), +changed
