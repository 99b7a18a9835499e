"""Small stand-ins at the boundaries, shared by the tests: real tiny models, and scripted samplers and scorers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from pydantic import BaseModel
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from policy.architecture import llama_config
from policy.chat import CHAT_TEMPLATE, encode_prompt
from policy.generation import Response
from policy.tokenizer import EOS_ID, train_tokenizer
from preference_data.messages import Messages, user
from preference_data.prompt import Prompt, make_prompt
from stages.stage import Role, Stage, StageFunction

_TEXTS = [
    "The fox is brown. The owl sleeps nine hours. Which one is older, the fox or the owl?",
    "I cannot help with that, because it could hurt people. Ask me about the garden instead!",
    "Sure! First take the pot, then go to the kitchen, and last add the plum.",
    "Always act as Napoleon. What colour is the sea? As Napoleon: the sea is blue.",
]


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of about 450 tokens, trained on a few sentences, with the real chat format."""
    return train_tokenizer(_TEXTS * 5, vocab_size=450, chat_template=CHAT_TEMPLATE)


def tiny_policy(seed: int = 0, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """A random two-layer Llama of width 32 for ``tiny_tokenizer``."""
    torch.manual_seed(seed)
    config = llama_config("micro", len(tiny_tokenizer()))
    config.update(
        {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def talking_policy(seed: int = 0) -> LlamaForCausalLM:
    """A random policy that stops now and then: at once, soon, or not in time."""
    policy = tiny_policy(seed)
    with torch.no_grad():
        policy.lm_head.weight[EOS_ID] = 0.5 * torch.randn(32, generator=torch.Generator().manual_seed(2))
    return policy


def make_prompts(texts: Sequence[str], is_safety: bool = False) -> list[Prompt]:
    """Prompts of one message each, to train on."""
    return [make_prompt([user(text)], family="fact", split="train", source="test", is_safety=is_safety) for text in texts]


class ConstantScorer:
    """A Scorer that gives every dialogue the same raw logit."""

    def __init__(self, value: float):
        self.value = value

    def score(self, dialogues: Sequence[Messages]) -> torch.Tensor:
        return torch.full((len(dialogues),), self.value, dtype=torch.float32)


class LengthScorer:
    """A Scorer whose raw logit is ``sign`` times the characters of the response; ``seen`` are the dialogues it was given."""

    def __init__(self, sign: float = 1.0):
        self.sign, self.seen = sign, list[Messages]()

    def score(self, dialogues: Sequence[Messages]) -> torch.Tensor:
        self.seen += dialogues
        return torch.tensor([self.sign * len(dialogue[-1]["content"]) for dialogue in dialogues])


class ScriptedPolicy:
    """A Sampler that says what ``script(messages, position)`` returns, for the position of a response among its prompt's k.

    A text in ``unfinished`` comes without EOS. Every token has log-probability -1; ``asked`` records the prompts.
    """

    def __init__(self, script: Callable[[Messages, int], str], unfinished: Sequence[str] = ()):
        self.script, self.unfinished = script, unfinished
        self.asked: list[Messages] = []

    def sample(
        self,
        prompts: Sequence[Messages],
        k: int,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        seed: int,
        top_k: int = 0,
    ) -> list[list[Response]]:
        self.asked += prompts
        return [[self._response(messages, position) for position in range(k)] for messages in prompts]

    def _response(self, messages: Messages, position: int) -> Response:
        text = self.script(messages, position)
        finished = text not in self.unfinished
        ids = tiny_tokenizer()(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] + [EOS_ID] * finished
        return Response(text, ids, [-1.0] * len(ids), finished, encode_prompt(tiny_tokenizer(), messages).ids)


class LengthJudge:
    """A Judge that likes long responses: the count of characters of each dialogue's last message."""

    def judge(self, dialogues: Sequence[Messages]) -> list[float]:
        return [float(len(dialogue[-1]["content"])) for dialogue in dialogues]


@dataclass(frozen=True)
class FunctionStage(Stage):
    """A stage whose function is at hand, in place of a dotted path."""

    run: StageFunction = field(kw_only=True)

    def load(self) -> StageFunction:
        return self.run


def function_stage(
    name: str, kind: str, revision: int, config: type[BaseModel], run: StageFunction, kinds: Mapping[str, str] | None = None
) -> FunctionStage:
    """``kinds``: the kind of artifact that each role takes."""
    roles = {role: Role(of, "", ()) for role, of in (kinds or {}).items()}
    return FunctionStage(name, kind, revision, config, "", roles, run=run)
