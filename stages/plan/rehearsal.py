"""How long a pass of ``stages/plan/work.py`` takes on this machine, found out by making some.

A small model is built with random weights and run at the very shapes that the recipe has, through the code that the stages
run. A large one is not built: its time is its arithmetic, at the rate that a matrix product reaches here, and its decoding
is bound by how fast the weights are read.

A random policy does not stop by itself, so a sampling pass is rehearsed with a fixed number of new tokens, twice, with many
rows and with few: what a row costs and what a step costs are told apart, and the real responses, whose lengths differ, are
reckoned from both.
"""

import random
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from policy.chat import CHAT_TEMPLATE
from policy.config import FinetuneConfig, PretrainConfig
from policy.finetuning import finetune
from policy.footprint import FLOAT32, num_parameters
from policy.generation import TransformersSampler
from policy.pretraining import document_ids, pretrain
from policy.tokenizer import train_tokenizer
from preference_data.comparison import Comparison
from preference_data.messages import Messages, assistant, user
from preference_data.prompt import make_dialogue, make_prompt
from reward_model.combined_reward import CombinedReward
from reward_model.config import RewardModelConfig
from reward_model.scoring import RewardScorer
from reward_model.training import train_reward_model
from rlhf.config import PPOConfig
from rlhf.ppo import ppo
from rlhf.value_model import ValueModel
from sandbox import corpus as library
from sandbox.world import World
from stages.plan.work import Pass

BUILT_UP_TO = 50_000_000  # parameters; a larger model is not built

# Of a batch of responses, the longest takes this many times the mean, and rows stay a little longer than they speak.
_LONGEST_RESPONSE, _ROWS_STAY = 3.0, 1.15
_DOCUMENTS = 1000


class Clock(Protocol):
    """``seconds`` of one batch of a pass; ``how`` they are known."""

    how: str

    def seconds(self, each: Pass) -> float: ...


def clock(config: LlamaConfig) -> Clock:
    """What tells the time of passes of a model with this architecture."""
    return Rehearsal(config) if num_parameters(config) <= BUILT_UP_TO else Arithmetic(config)


class Rehearsal:
    """Makes passes with a small model that is built for it."""

    how = "by a rehearsal"

    def __init__(self, config: LlamaConfig):
        self.config = config
        self._told: dict[tuple[object, ...], float] = {}

    def seconds(self, each: Pass) -> float:
        key = (each.kind, each.rows, each.width, each.new, each.k)
        if key not in self._told:
            self._told[key] = self._make(each)
        return self._told[key]

    def _make(self, each: Pass) -> float:
        match each.kind:
            case "pretrain":
                return self._pretrain(each)
            case "finetune":
                return self._finetune(each)
            case "reward":
                return self._reward(each)
            case "update":
                return self._update(each)
            case "read":
                dialogues = [self._dialogue(each.width) for _ in range(each.rows)]
                return _median(lambda: self._scorer.score(dialogues))
            case "sample" | "turn":
                return self._sample(each)
            case "write documents":
                return _timed(lambda: library.corpus(World(0), _DOCUMENTS, 0)) / _DOCUMENTS
            case "encode documents":
                return _timed(lambda: document_ids(self._tokenizer, self._documents)) / _DOCUMENTS

    def _pretrain(self, each: Pass) -> float:
        blocks = [torch.randint(3, self._vocabulary, (each.rows, each.width)) for _ in range(6)]
        tokens = each.rows * each.width
        shape = {"num_tokens": tokens, "block_size": each.width}
        config = PretrainConfig(preset="micro", vocab_size=300, phases=[shape], batch_tokens=tokens)
        return _per_item(pretrain(self._policy(), blocks, config), 5)

    def _finetune(self, each: Pass) -> float:
        num_batches = 5
        dialogues = [
            make_dialogue(self._dialogue(each.width), family="", source="") for _ in range((num_batches + 1) * each.rows)
        ]
        times: list[float] = []
        config = FinetuneConfig(batch_size=each.rows, epochs=1)
        finetune(self._policy(), self._tokenizer, dialogues, config, 0, lambda stats: times.append(time.perf_counter()))
        return (times[-1] - times[0]) / (len(times) - 1)

    def _reward(self, each: Pass) -> float:
        pairs = each.rows // 2
        rows = [self._comparison(each.width) for _ in range(5 * pairs)]
        config = RewardModelConfig(axis="helpfulness", batch_size=pairs, microbatch_size=min(32, pairs), margin="none")
        return _per_item(train_reward_model(self._reward_model(), self._tokenizer, rows, config, 0), 4)

    def _update(self, each: Pass) -> float:
        """A minibatch of policy and critic, as PPO reports the time of its updates."""
        prompts = [make_prompt(self._prompt(each.width // 2), family="", split="train", source="") for _ in range(each.rows)]
        config = PPOConfig(
            iterations=3, batch_size=each.rows, minibatch_size=each.rows, microbatch_size=each.rows,
            max_new_tokens=max(1, each.width // 2),
        )  # fmt: skip
        reward = CombinedReward(_Blind(), _Blind())
        critic = self._reward_model()
        value_model = ValueModel(critic.model, critic.score)
        told = ppo(self._policy(), self._policy(), value_model, self._tokenizer, prompts, reward, config, 0)
        return sorted(stats.update_seconds for stats in told)[1]

    def _sample(self, each: Pass) -> float:
        """One batch: what its rows cost, and what its steps cost beside."""
        few = max(each.k, each.rows // 4 // each.k * each.k)
        many_rows, few_rows = (self._sampling_seconds(each, rows) for rows in (each.rows, few))
        if few == each.rows:
            return many_rows * _ROWS_STAY
        row = (many_rows - few_rows) / (each.rows - few)
        steps = max(0.0, many_rows - row * each.rows)
        return row * each.rows * _ROWS_STAY + steps * _LONGEST_RESPONSE

    def _sampling_seconds(self, each: Pass, rows: int) -> float:
        kept = rows * 2 * each.width if each.kind == "turn" else 0
        sampler = TransformersSampler(self._policy().eval(), self._tokenizer, kept_tokens=kept)
        prompts = [self._prompt(each.width - each.new) for _ in range(rows // each.k)]

        def sample(asked: Sequence[Messages]) -> list[Messages]:
            found = sampler.sample(asked, each.k, 1.0, 1.0, each.new, 0)
            return [[*prompt, assistant(group[0].text or ".")] for prompt, group in zip(asked, found, strict=True)]

        def ask() -> float:
            # the turn that follows one which the cache holds: it holds each once, so that is made anew each time
            asked = [[*dialogue, user("And what else?")] for dialogue in sample(prompts)] if kept else prompts
            return _timed(lambda: sample(asked))

        ask()
        return sorted(ask() for _ in range(3))[1]

    # Models and texts

    @cached_property
    def _documents(self):
        return library.corpus(World(0), _DOCUMENTS, 0)

    @cached_property
    def _tokenizer(self):
        texts = [each.text or each.messages[-1]["content"] for each in self._documents]
        return train_tokenizer(texts, min(self.config.vocab_size, 1200), CHAT_TEMPLATE)

    @cached_property
    def _scorer(self) -> RewardScorer:
        return RewardScorer(self._reward_model(), self._tokenizer)

    @property
    def _vocabulary(self) -> int:
        return self.config.vocab_size

    def _policy(self) -> LlamaForCausalLM:
        torch.manual_seed(0)
        return LlamaForCausalLM(self.config)

    def _reward_model(self) -> LlamaForSequenceClassification:
        torch.manual_seed(0)
        config = LlamaConfig(**{**self.config.to_dict(), "num_labels": 1})
        return LlamaForSequenceClassification(config)

    def _prompt(self, num_tokens: int) -> Messages:
        """A user message of about so many tokens, no two alike."""
        return [user(self._words(num_tokens - 4))]

    def _dialogue(self, num_tokens: int) -> Messages:
        half = max(1, num_tokens // 2)
        return [*self._prompt(half), assistant(self._words(num_tokens - half - 2))]

    def _comparison(self, num_tokens: int) -> Comparison:
        one, other = self._dialogue(num_tokens), self._dialogue(num_tokens)
        return Comparison(
            id="", item_id="", prompt_id="", source="", prompt=one[:-1], chosen=one[-1]["content"],
            rejected=other[-1]["content"], rating="unrated", axis="helpfulness", is_safety=False,
        )  # fmt: skip

    def _words(self, num_tokens: int) -> str:
        return " ".join(self._random.choices(self._single, k=max(1, num_tokens)))

    @cached_property
    def _random(self) -> random.Random:
        return random.Random(0)

    @cached_property
    def _single(self) -> list[str]:
        """Words of one token each."""
        vocabulary = self._tokenizer.get_vocab()
        return sorted(word[1:] for word in vocabulary if word.startswith("▁") and word[1:].isalpha() and len(word) > 3)


class Arithmetic:
    """Reckons with floating-point operations and bytes, for a model too large to build.

    A token costs two operations a parameter to read and six to train (Kaplan et al. 2020, section 2.1); decoding a batch
    reads every weight once a token.
    """

    how = "by the speed of its matrix products"

    def __init__(self, config: LlamaConfig):
        self.parameters, self.width = num_parameters(config), config.hidden_size

    def seconds(self, each: Pass) -> float:
        tokens = each.rows * each.width
        match each.kind:
            case "pretrain" | "finetune" | "reward":
                return 6 * self.parameters * tokens / self.operations
            case "update":
                return 12 * self.parameters * tokens / self.operations
            case "read":
                return 2 * self.parameters * tokens / self.operations
            case "sample" | "turn":
                prefill = 2 * self.parameters * (each.width - each.new) * each.rows / each.k / self.operations
                step = max(2 * self.parameters * each.rows / self.operations, FLOAT32 * self.parameters / self.bandwidth)
                return prefill + _LONGEST_RESPONSE * each.new * step
            case _:
                return 0.0

    @cached_property
    def operations(self) -> float:
        """Floating-point operations a second of a large matrix product."""
        one = torch.rand(512, self.width)
        other = torch.rand(self.width, self.width)
        return 2 * 512 * self.width**2 / _median(lambda: float((one @ other).sum()))

    @cached_property
    def bandwidth(self) -> float:
        """Bytes a second at which weights are read for a single row."""
        matrix = torch.rand(self.width, 4 * self.width)
        row = torch.rand(1, self.width)
        return FLOAT32 * 4 * self.width**2 / _median(lambda: float((row @ matrix).sum()))


class _Blind:
    """A scorer that reads nothing: scoring is another pass."""

    def score(self, dialogues: Sequence[Messages]) -> torch.Tensor:
        return torch.arange(len(dialogues), dtype=torch.float32)


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _median(action: Callable[[], object], times: int = 3) -> float:
    action()  # the first is slower: memory is being found
    return sorted(_timed(action) for _ in range(times))[times // 2]


def _per_item(items, count: int) -> float:
    """Seconds of each of ``count`` items of a generator, the first before them left out."""
    next(items)
    return _timed(lambda: [next(items) for _ in range(count)]) / count
