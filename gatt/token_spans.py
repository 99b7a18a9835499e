"""The tokens of each message of a dialogue, and of the instruction that its first message holds."""

from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from policy.chat import encode_dialogue, encode_prompt
from preference_data.messages import Messages


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """A dialogue of T turns as L ids, and the spans of its parts.

    ``turns``: the tokens of each turn, end to end from the first id to the last. ``answers``: where the response of
    each turn begins. ``instruction``: the tokens that hold the instruction's text, in the first turn. The BOS that opens each
    turn, which often gets attention by default, is never among them.
    """

    ids: list[int]
    turns: tuple[range, ...]
    answers: tuple[int, ...]
    instruction: range

    @property
    def parts(self) -> list[range]:
        """End to end and never empty: the tokens before the instruction, the instruction, the rest of the first user message,
        and then each message."""
        ends = {self.instruction.start, self.instruction.stop, *self.answers, *(turn.stop for turn in self.turns)}
        return [range(start, stop) for start, stop in pairwise(sorted(ends | {0}))]


def token_spans(tokenizer: PreTrainedTokenizerBase, dialogue: Messages, instruction: str) -> TokenSpans:
    """The spans of ``dialogue``, whose system message or first user message holds ``instruction``.

    Raises MessagesError, ChatFormatError, and ValueError where the instruction is not in the tokens of the first user message.
    """
    ids = encode_dialogue(tokenizer, dialogue).ids
    first_user = int(dialogue[0]["role"] == "system")
    user_places = range(first_user, len(dialogue), 2)
    answers = [len(encode_prompt(tokenizer, dialogue[: place + 1]).ids) for place in user_places]
    stops = [len(encode_dialogue(tokenizer, dialogue[: place + 2]).ids) for place in user_places]
    turns = tuple(range(start, stop) for start, stop in pairwise([0, *stops]))
    return TokenSpans(ids, turns, tuple(answers), _span_of_text(tokenizer, ids[: answers[0]], instruction.strip()))


def _span_of_text(tokenizer: PreTrainedTokenizerBase, ids: list[int], text: str) -> range:
    """The places in ``ids`` that hold ``text``, from the lengths of the decoded prefixes of ``ids``."""

    def decode(end: int) -> str:
        return str(tokenizer.decode(ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False))

    decoded = decode(len(ids))
    start = decoded.find(text) if text else -1
    if start < 0:
        raise ValueError(
            f"the first message does not hold the instruction {text!r}; it reads {decoded!r:.300}. Give the instruction "
            "exactly as the message has it"
        )
    ends = [len(decode(end)) for end in range(len(ids) + 1)]
    places = [place for place in range(len(ids)) if ends[place] < start + len(text) and ends[place + 1] > start]
    return range(places[0], places[-1] + 1)
