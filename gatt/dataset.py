"""Ghost Attention, the training half (paper 3.3): the instruction stays at the beginning alone.

    sampled   [inst u1] a1  [inst u2] a2  ...  [inst un] -> answer
    trained   [inst u1] a1       [u2] a2  ...       [un]    answer      loss on the last answer only

``instruction_in``: in front of the first user message, or as a system message, which the chat format puts there too. The
intermediate answers may not hold to the instruction, so nothing but the last answer may be learnt; ``train_on="last"`` says so
and ``policy/chat.py`` makes the loss mask of it.
"""

from collections.abc import Sequence
from typing import Literal

from gatt.synthesis import Synthesised
from preference_data.messages import Messages, assistant, user
from preference_data.prompt import Dialogue, make_dialogue

InstructionIn = Literal["first_message", "system"]


def gatt_dialogues(synthesised: Sequence[Synthesised], instruction_in: InstructionIn = "first_message") -> list[Dialogue]:
    """The training dialogues of those that have an answer; ``family`` is that of the instruction's constraints."""
    return [
        make_dialogue(
            instructed([*one.dialogue[:-1], assistant(one.response)], one.instruction.text, instruction_in),
            family=one.instruction.family,
            source="gatt",
            train_on="last",
        )
        for one in synthesised
        if one.response is not None
    ]


def instructed(messages: Messages, instruction: str, instruction_in: InstructionIn) -> Messages:
    """``messages``, which begin with the user's, with the instruction where training and use have it."""
    first, *rest = messages
    if instruction_in == "system":
        return [{"role": "system", "content": instruction}, first, *rest]
    return [user(f"{instruction} {first['content']}"), *rest]
