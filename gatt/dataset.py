"""Ghost Attention, the training half (paper 3.3): the instruction stays in the first user message alone.

    sampled   [inst u1] a1  [inst u2] a2  ...  [inst un] -> answer
    trained   [inst u1] a1       [u2] a2  ...       [un]    answer      loss on the last answer only

The intermediate answers do not hold to the instruction, so nothing but the last answer may be learnt; ``train_on="last"``
says so and ``policy/chat.py`` makes the loss mask of it.
"""

from collections.abc import Sequence

from gatt.synthesis import Synthesised
from preference_data.messages import assistant, user
from preference_data.prompt import Dialogue, make_dialogue


def gatt_dialogues(synthesised: Sequence[Synthesised]) -> list[Dialogue]:
    """The training dialogues of those that have an answer; ``family`` is that of the instruction's constraints."""
    return [gatt_dialogue(one, one.response) for one in synthesised if one.response is not None]


def gatt_dialogue(one: Synthesised, response: str) -> Dialogue:
    """One training dialogue: instruction in the first user message, intermediate answers as given, ``response`` last."""
    first, *rest = one.dialogue[:-1]
    messages = [user(f"{one.instruction.text} {first['content']}"), *rest, assistant(response)]
    return make_dialogue(messages, family=one.instruction.family, source="gatt", train_on="last")
