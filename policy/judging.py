"""A chat policy as a judge: does an answer obey an instruction?

The question is in words and nothing is sampled: what counts is the probability of its answer beginning with Yes rather than No,

    P(yes) = exp(z_yes) / (exp(z_yes) + exp(z_no))

with the logits z of the first tokens in which the two words differ, after those that they have in common. The wording is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from policy.batch import pad
from policy.chat import encode_dialogue, encode_prompt, encode_prompts
from policy.generation import BATCH_TOKENS, ContextOverflow, check_context
from policy.tokenizer import longest_text
from preference_data.messages import Messages, assistant, tags_in, user

QUESTION = (
    "Here is an instruction, a message, and an answer to the message.\n\n"
    "Instruction: {instruction}\n\nMessage: {message}\n\nAnswer: {answer}\n\n"
    "Does the answer obey the instruction? Say Yes or No."
)
YES, NO = "Yes", "No"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is judged: does ``answer``, given to ``message``, obey ``instruction``?"""

    instruction: str
    message: str
    answer: str

    def prompt(self) -> Messages:
        """The question to the judge, without the chat-format tags that an answer may hold."""
        texts = {"instruction": self.instruction, "message": self.message, "answer": self.answer}
        return [user(QUESTION.format(**{name: _without_tags(text) for name, text in texts.items()}))]


class Judge(Protocol):
    def judge(self, judgements: Sequence[Judgement]) -> list[bool]:
        """True for those answers that obey, in the order of ``judgements``."""
        ...


class PolicyJudge:
    """A Judge that is a policy: an answer obeys where P(yes) is above one half.

    ``batch_tokens``: tokens read together at most, padding included.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_tokens: int = BATCH_TOKENS):
        self.model, self.tokenizer, self.batch_tokens = model, tokenizer, batch_tokens
        yes, no = _answer_ids(tokenizer, YES), _answer_ids(tokenizer, NO)
        start = next(place for place, pair in enumerate(zip(yes, no, strict=False)) if pair[0] != pair[1])
        self.common, self.yes, self.no = yes[:start], yes[start], no[start]

    def check_room(self, instructions: Sequence[str], messages: Sequence[str], max_new_tokens: int) -> None:
        """Raise ContextOverflow unless the longest of each fit the context with an answer of ``max_new_tokens``, in this
        tokenizer's tokens. It is called before anything is sampled, so that no answer is sampled in vain.
        """
        longest = Judgement(longest_text(self.tokenizer, instructions), longest_text(self.tokenizer, messages), "")
        needed = len(encode_prompt(self.tokenizer, longest.prompt()).ids) + max_new_tokens + len(self.common) + 1
        if needed > (context := self.model.config.max_position_embeddings):
            raise ContextOverflow(
                f"the judge would have to read up to {needed} tokens, and its context has {context}: the instruction beginning "
                f"{longest.instruction[:60]!r}, the message beginning {longest.message[:60]!r}, and an answer of "
                f"{max_new_tokens}; use a judge with a longer context, or lower max_new_tokens"
            )

    def judge(self, judgements: Sequence[Judgement]) -> list[bool]:
        return [probability > 0.5 for probability in self.probabilities(judgements)]

    @torch.inference_mode()
    def probabilities(self, judgements: Sequence[Judgement]) -> list[float]:
        """P(yes) of each. Raises ContextOverflow for one that does not fit the judge's context."""
        prompts = [judgement.prompt() for judgement in judgements]
        encoded = [[*prompt.ids, *self.common] for prompt in encode_prompts(self.tokenizer, prompts)]
        check_context(prompts, encoded, 1, self.model.config.max_position_embeddings)
        probabilities = [0.0] * len(encoded)
        order = sorted(range(len(encoded)), key=lambda place: -len(encoded[place]))
        while order:
            size = max(1, self.batch_tokens // len(encoded[order[0]]))
            places, order = order[:size], order[size:]
            for place, probability in zip(places, self._read([encoded[place] for place in places]), strict=True):
                probabilities[place] = probability
        return probabilities

    def _read(self, rows: list[list[int]]) -> list[float]:
        """P(yes) of each row. Padding stands on the right, where causal attention cannot see it."""
        hidden = self.model.model(pad(rows).to(self.model.device), use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
        logits = self.model.lm_head(last)[:, [self.yes, self.no]]
        return logits.double().softmax(-1)[:, 0].tolist()


def _answer_ids(tokenizer: PreTrainedTokenizerBase, word: str) -> list[int]:
    """The tokens of an answer of ``word``, EOS included."""
    opening = [user("?")]
    start = len(encode_prompt(tokenizer, opening).ids)
    return encode_dialogue(tokenizer, [*opening, assistant(word)]).ids[start:]


def _without_tags(text: str) -> str:
    while tags := tags_in(text):  # what is left may close up to another one
        text = text.replace(tags[0], "")
    return text
