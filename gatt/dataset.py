"""Ghost Attention, the training half (paper 3.3): the instruction stays at the beginning alone.

    sampled   [inst u1] a1  [inst u2] a2  ...  [inst un] -> response
    trained   [inst u1] a1       [u2] a2  ...       [un]    response      loss on the last response only

``instruction_in``: in front of the first user message, or as a system message, which the chat format also puts there. The
intermediate responses may not obey the instruction, so training must use the last response only; ``train_on="last"`` says so,
and ``policy/chat.py`` makes the loss mask from it.
"""

from collections.abc import Sequence

from gatt.config import InstructionIn
from gatt.synthesis import Synthesised
from preference_data.messages import Messages, assistant, user
from preference_data.prompt import Dialogue, make_dialogue


def gatt_dialogues(synthesised: Sequence[Synthesised], instruction_in: InstructionIn = "first_message") -> list[Dialogue]:
    """The training dialogues of the entries that have a response; ``family`` is that of the instruction's constraints."""
    return [
        make_dialogue(
            instructed([*entry.dialogue[:-1], assistant(entry.response)], entry.instruction.text, instruction_in),
            family=entry.instruction.family,
            source="gatt",
            train_on="last",
        )
        for entry in synthesised
        if entry.response is not None
    ]


def instructed(messages: Messages, instruction: str, instruction_in: InstructionIn) -> Messages:
    """``messages``, which begin with a user message, with the instruction where training and use have it."""
    first, *rest = messages
    if instruction_in == "system":
        return [{"role": "system", "content": instruction}, first, *rest]
    return [user(f"{instruction} {first['content']}"), *rest]
