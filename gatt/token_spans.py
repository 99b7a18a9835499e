"""Where the messages of a dialogue, and the instruction that its first message holds, lie among its tokens."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from policy.chat import encode_dialogue, encode_prompt
from preference_data.messages import Messages


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """A dialogue of T turns as L ids, and which of them are what.

    ``turns``: of each turn its tokens, end to end from the first id to the last. ``answers``: where in ``turns`` the answer
    begins. ``instruction``: the tokens that hold the instruction's text, in the first turn. The BOS that opens each turn, which
    attention often falls back on, is never among them.
    """

    ids: list[int]
    turns: tuple[range, ...]
    answers: tuple[int, ...]
    instruction: range

    @property
    def parts(self) -> list[range]:
        """End to end: what comes before the instruction, the instruction, the rest of the first user message and then each
        message by itself; none is empty."""
        cuts = {self.instruction.start, self.instruction.stop, *self.answers, *(turn.stop for turn in self.turns)}
        places = sorted(cuts - {0})
        return [range(start, stop) for start, stop in zip([0, *places], places, strict=False)]


def token_spans(tokenizer: PreTrainedTokenizerBase, dialogue: Messages, instruction: str) -> TokenSpans:
    """The spans of ``dialogue``, whose system message or first user message holds ``instruction``.

    Raises MessagesError, ChatFormatError, and ValueError where the instruction is not in the tokens of the first user message.
    """
    ids = encode_dialogue(tokenizer, dialogue).ids
    system = int(dialogue[0]["role"] == "system")
    users = range(system, len(dialogue), 2)
    answers = [len(encode_prompt(tokenizer, dialogue[: place + 1]).ids) for place in users]
    stops = [len(encode_dialogue(tokenizer, dialogue[: place + 2]).ids) for place in users]
    turns = tuple(range(start, stop) for start, stop in zip([0, *stops], stops, strict=False))
    return TokenSpans(ids, turns, tuple(answers), _places(tokenizer, ids[: answers[0]], instruction.strip()))


def _places(tokenizer: PreTrainedTokenizerBase, ids: list[int], text: str) -> range:
    """Which of ``ids`` hold ``text``, by the length of what each beginning of them decodes to."""

    def decoded(end: int) -> str:
        return str(tokenizer.decode(ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False))

    start = decoded(len(ids)).find(text) if text else -1
    if start < 0:
        raise ValueError(
            f"the first message does not hold the instruction {text!r}; it reads {decoded(len(ids))!r:.300}. Give the "
            "instruction in its own words"
        )
    ends = [len(decoded(end)) for end in range(len(ids) + 1)]
    held = [place for place in range(len(ids)) if ends[place] < start + len(text) and ends[place + 1] > start]
    return range(held[0], held[-1] + 1)
