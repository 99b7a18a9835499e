"""What each step of a recipe will have to compute, counted before there is any data.

Counts come from the recipe, lengths from its section ``expected``; what a step reads is as large as the step that makes it
will make it. Studies are counted in ``stages/plan/study_workload.py``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gatt.dialogues import mean_num_turns
from policy.architecture import llama_config
from policy.config import FinetuneConfig
from policy.footprint import FLOAT32, Footprint, cache_bytes, num_parameters, training
from policy.generation import BATCH_SIZE, BATCH_TOKENS
from policy.training_state import KEPT
from preference_data.comparison import AXES
from stages.plan.work import ENCODED, ON_DISK, RECORD, Pass, Texts, Work
from stages.recipe import Recipe, SandboxRecipe, TeamRecipe
from stages.sections import GattStageConfig, RewardTrainingConfig
from stages.step import Step

_LONGEST = 3  # the longest of many texts, in means
# How much wider a batch is than its mean text: of texts that were sorted by length, and of texts as they came.
_SORTED, _UNSORTED = 1.2, 2.2


class Workload:
    """The work of each step of a recipe. Ask for the steps in their order: a step reads what earlier ones make."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        sandbox = recipe if isinstance(recipe, SandboxRecipe) else None
        self.sandbox = sandbox
        expected = recipe.expected
        self.prompt, self.response = expected.prompt_tokens, expected.response_tokens
        self.dialogue, self.turn = self.prompt + self.response, expected.turn_tokens
        if sandbox:
            self.model = llama_config(sandbox.pretrain.preset, sandbox.pretrain.vocab_size)
        else:
            assert isinstance(recipe, TeamRecipe)
            self.model = llama_config(recipe.base.preset)
        self.weights = FLOAT32 * num_parameters(self.model)
        # weights and two moments; for a moment one state more lies on the disk than is kept
        self.state = (KEPT + 1) * 3 * self.weights
        self.made: dict[str, tuple[Texts, ...]] = {}

    def of(self, step: Step) -> Work:
        """What ``step`` computes."""
        kinds: Mapping[str, Callable[[Step], Work]] = {
            "corpus": self._corpus, "demonstrations": self._demonstrations, "bring-dialogues": self._demonstrations,
            "bring-checkpoint": self._checkpoint, "pretrain": self._pretrain, "sft": self._tune, "tune": self._tune,
            "annotate": self._annotate, "import": self._import, "train-reward": self._reward, "distill": self._distill,
            "rejection-sample": self._reject, "gatt": self._gatt, "ppo": self._ppo, "evaluate-policy": self._evaluate_policy,
            "evaluate-reward": self._evaluate_reward, "evaluate-consistency": self._evaluate_consistency,
            "rescore": self._rescore,
        }  # fmt: skip
        return kinds[step.stage.name](step) if step.stage.name in kinds else Work()

    # Data

    def _corpus(self, step: Step) -> Work:
        assert self.sandbox
        count = self.sandbox.corpus.num_documents + self.sandbox.corpus.num_primer_documents
        self.made[step.makes] = (Texts(count, self.dialogue, self.dialogue),)
        return Work((Pass("write documents", count),), host_bytes=RECORD * count, artifact_bytes=self._size(step))

    def _demonstrations(self, step: Step) -> Work:
        count = self.sandbox.demonstrations.num_dialogues if self.sandbox else self.recipe.expected.num_demonstrations
        self.made[step.makes] = (self._texts(count),)
        return Work(host_bytes=RECORD * count, artifact_bytes=self._size(step))

    def _checkpoint(self, step: Step) -> Work:
        return Work(footprint=Footprint(weights=self.weights), artifact_bytes=self.weights)

    def _import(self, step: Step) -> Work:
        axis = step.name.partition("-")[0]
        if self.sandbox:
            config = self.sandbox.annotation
            count = config.num_helpful if axis == "helpfulness" else config.num_safety
        else:
            count = self.recipe.expected.num_comparisons.get(axis, 0)  # type: ignore[call-overload]
        self.made[step.makes] = (self._texts(count),)
        return Work(host_bytes=2 * RECORD * count, artifact_bytes=2 * self._size(step))

    # Training

    def _pretrain(self, step: Step) -> Work:
        assert self.sandbox
        config = self.sandbox.pretrain
        (corpus,) = self.made["dialogues/corpus"]
        steps = [
            Pass("pretrain", phase.num_tokens // config.batch_tokens, config.batch_tokens // phase.block_size, phase.block_size)
            for phase in config.phases
        ]
        held = training(self.model, config.batch_tokens, config.batch_tokens)
        return self._trained((*steps, Pass("encode documents", corpus.count)), held, corpus.count)

    def _tune(self, step: Step) -> Work:
        config = step.config
        assert isinstance(config, FinetuneConfig)
        texts = [text for name in self._read_by(step, "dialogues", "samples") for text in self.made[name]]
        if step.stage.name == "tune":
            texts += self._always_mixed_in(step)
        return self._finetuned(config, texts)

    def _always_mixed_in(self, step: Step) -> list[Texts]:
        """What every version is tuned on beside samples."""
        (demonstrations,) = self.made["dialogues/demonstrations"]
        kept = min(demonstrations.count, self.recipe.tuning.num_demonstrations)
        others = [self.made[name][0] for name in self._read_by(step, "distilled", "gatt")]
        return [Texts(kept, demonstrations.length, demonstrations.longest), *others]

    def _finetuned(self, config: FinetuneConfig, texts: Sequence[Texts]) -> Work:
        size = config.batch_size
        passes = [
            Pass("finetune", config.epochs * text.count / size, size, min(text.length, config.max_length), padding=_SORTED)
            for text in texts
            if text.count
        ]
        longest = min(config.max_length, max(text.longest for text in texts))
        share = self.response / self.dialogue
        size = min(size, config.microbatch_size or size)
        held = training(self.model, size * longest, math.ceil(size * longest * share), config.lora)
        return self._trained(passes, held, sum(text.count for text in texts))

    def _reward(self, step: Step) -> Work:
        config = step.config
        assert isinstance(config, RewardTrainingConfig)
        own = self._count(self._read_by(step, "preferences"))
        other = self._count(self._read_by(step, "other_preferences"))
        pairs = own
        if config.mixture == "paper":
            pairs += min(other, own) if config.axis == "helpfulness" else min(other, math.ceil(own / 9))
        rows = 2 * max(1, min(config.batch_size, pairs))
        longest = min(config.max_length, _LONGEST * self.dialogue)
        held = training(self.model, min(2 * config.microbatch_size, rows) * longest, 0, config.lora)
        return self._trained(
            (Pass("reward", config.epochs * 2 * pairs / rows, rows, self.dialogue, padding=_SORTED),), held, 2 * pairs
        )

    def _ppo(self, step: Step) -> Work:
        config = self.recipe.ppo
        micro = config.iterations * config.steps_per_iteration * config.minibatch_size // config.microbatch_size
        every = config.validation.every
        validated = (1 + math.ceil(config.iterations / every)) * config.validation.num_prompts if every else 0
        responses = config.iterations * config.batch_size
        passes = (
            *self._sampling(responses + validated, config.max_new_tokens, at_once=config.batch_size, padding=_UNSORTED),
            self._reading(4 * responses + 3 * validated, padding=_UNSORTED),  # two scores, reference, and the critic
            Pass("update", micro, config.microbatch_size, self.dialogue, padding=_UNSORTED),
        )
        longest = _LONGEST * self.prompt + config.max_new_tokens
        micro_tokens, micro_logits = config.microbatch_size * longest, config.microbatch_size * config.max_new_tokens
        trained = training(self.model, micro_tokens, micro_logits, config.lora)
        models = 5  # policy, critic, reference, two reward models
        if config.lora:
            models = 1 + sum(not axis.lora for axis in (self.recipe.helpfulness, self.recipe.safety))
        held = Footprint(
            weights=models * self.weights,
            gradients=2 * trained.gradients,
            optimizer=2 * trained.optimizer,
            activations=trained.activations,
            cache=self._cache(config.batch_size, config.max_new_tokens),
        )
        return Work(passes, held, RECORD * config.batch_size, 2 * self.weights, 2 * self.state)

    # Sampling

    def _annotate(self, step: Step) -> Work:
        assert self.sandbox
        config = self.sandbox.annotation
        count = 2 * (config.num_helpful + config.num_safety + 4 * config.num_heldout)
        self.made[step.makes] = (self._texts(count),)
        held = Footprint(weights=self.weights, cache=self._cache(BATCH_SIZE, config.max_new_tokens))
        return Work(self._sampling(count, config.max_new_tokens), held, RECORD * count, self._size(step))

    def _distill(self, step: Step) -> Work:
        config = self.recipe.distillation
        count = config.num_prompts
        self.made[step.makes] = (self._texts(count),)
        held = Footprint(weights=2 * self.weights, cache=self._cache(BATCH_SIZE, config.max_new_tokens))
        return Work(
            (*self._sampling(2 * count, config.max_new_tokens), self._reading(2 * count)),
            held,
            RECORD * count,
            self._size(step),
        )

    def _reject(self, step: Step) -> Work:
        """The search for a temperature, then the prompts themselves."""
        config = self.recipe.rejection_sampling
        count = config.num_helpful + config.num_adversarial
        grid = len(config.temperatures)
        searched = config.search_prompts if config.searches else 0
        self.made[step.makes] = (self._texts(count),)
        at_once = config.prompts_per_batch * config.k
        sampling = self._sampling(count * config.k, config.max_new_tokens, config.k, at_once)
        search = self._sampling(searched * config.k, config.max_new_tokens, config.k, at_once) if searched else ()
        passes = (
            *(replace(each, count=grid * each.count) for each in search),
            *sampling,
            self._reading(2 * (count + grid * searched) * config.k),
        )
        held = Footprint(weights=3 * self.weights, cache=self._cache(at_once, config.max_new_tokens, config.k))
        return Work(passes, held, RECORD * count * config.k, config.k * self._size(step))

    def _rescore(self, step: Step) -> Work:
        (before,) = self._read_by(step, "samples")
        self.made[step.makes] = self.made[before]
        count = self.recipe.rejection_sampling.k * self._count([before])
        return Work((self._reading(2 * count),), Footprint(weights=2 * self.weights), RECORD * count, self._size(step))

    def _gatt(self, step: Step) -> Work:
        config = step.config
        assert isinstance(config, GattStageConfig)
        turns = mean_num_turns(config) if config.multi_turn == "chained" else (config.min_turns + config.max_turns) / 2
        length = round(turns * self.turn)
        self.made[step.makes] = (
            Texts(config.num_dialogues, length, config.max_turns * self.turn),
            self._texts(config.num_replayed),
        )
        count, at_once = config.num_dialogues * config.k, config.dialogues_per_batch * config.k
        passes = (*self._sampling(count, config.max_new_tokens, config.k, at_once, length), self._reading(count, length))
        if config.intermediate == "resampled":
            anew = round(config.num_dialogues * (turns - 1))
            passes += self._sampling(anew, config.max_new_tokens, 1, config.dialogues_per_batch, length // 2)
        held = Footprint(weights=2 * self.weights, cache=cache_bytes(self.model, BATCH_TOKENS))
        return Work(passes, held, RECORD * config.num_dialogues, self._size(step))

    # Measuring

    def _evaluate_policy(self, step: Step) -> Work:
        assert self.sandbox
        prompts = self.sandbox.evaluation_prompts
        count = prompts.num_helpful + prompts.num_adversarial + prompts.num_borderline
        new = self.sandbox.evaluation.max_new_tokens
        held = Footprint(weights=3 * self.weights, cache=self._cache(BATCH_SIZE, new))
        return Work((*self._sampling(count, new), self._reading(2 * count)), held, RECORD * count)

    def _evaluate_reward(self, step: Step) -> Work:
        assert self.sandbox
        count = len(AXES) * self._num_heldout
        return Work((self._reading(4 * count),), Footprint(weights=2 * self.weights), RECORD * 2 * count)

    def _evaluate_consistency(self, step: Step) -> Work:
        assert self.sandbox
        config = self.sandbox.consistency
        turns = max(config.turns)
        length = turns * self.turn // 2
        rows = max(1, min(BATCH_SIZE, BATCH_TOKENS // (length + config.max_new_tokens)))
        kept = min(config.kept_tokens, config.num_dialogues * turns * self.turn)
        beyond = max(0, self.model.max_position_embeddings // self.turn - turns)
        answers = (
            turns * config.num_dialogues
            + config.control_turns * (config.num_held_out + config.num_uninstructed)
            + beyond * config.num_to_end
        )
        talk = Pass("turn" if kept else "sample", answers / rows, rows, length, self.response)
        recalled = config.num_recalled * sum(turn > 1 for turn in config.turns)
        held = Footprint(weights=self.weights, cache=cache_bytes(self.model, BATCH_TOKENS + kept))
        states = (KEPT + 1) * cache_bytes(self.model, kept)
        asked = self._sampling(recalled, config.max_new_tokens, 1, BATCH_SIZE, length) if recalled else ()
        copied = self._sampling(config.num_copied, config.max_new_tokens, 1, BATCH_SIZE) if config.num_copied else ()
        return Work((talk, *asked, *copied), held, RECORD * answers, state_bytes=states)

    # Inside

    @property
    def _num_heldout(self) -> int:
        """Held-out comparisons of an axis: four responses to each prompt make six."""
        assert self.sandbox
        return len(self.recipe.rounds) * 6 * self.sandbox.annotation.num_heldout

    def _sampling(
        self,
        count: int,
        max_new_tokens: int,
        k: int = 1,
        at_once: int = BATCH_SIZE,
        length: int | None = None,
        padding: float = _SORTED,
    ) -> tuple[Pass, ...]:
        """``count`` responses, ``at_once`` handed to the sampler together, which cuts them by its own bounds."""
        length = length or self.prompt
        prompts = BATCH_TOKENS // (round(padding * length) + k * max_new_tokens)
        rows = max(k, min(at_once, BATCH_SIZE, prompts * k, count) // k * k)
        return (Pass("sample", count / rows, rows, length + self.response, self.response, k, padding),)

    def _reading(self, count: int, length: int | None = None, padding: float = _SORTED) -> Pass:
        rows = max(1, min(64, count))
        return Pass("read", count / rows, rows, length or self.dialogue, padding=padding)

    def _cache(self, rows: int, new: int, k: int = 1) -> int:
        """The cache of the sampler's largest batch, which holds each prompt once, and the k responses of one at least."""
        group = _LONGEST * self.prompt + k * new
        groups = max(1, min(BATCH_TOKENS // group, min(rows, BATCH_SIZE) // k))
        return cache_bytes(self.model, groups * group)

    def _texts(self, count: int) -> Texts:
        return Texts(count, self.dialogue, _LONGEST * self.dialogue)

    def _trained(self, passes: Sequence[Pass], held: Footprint, records: int) -> Work:
        return Work(tuple(passes), held, ENCODED * records, self.weights, self.state)

    def _read_by(self, step: Step, *roles: str) -> list[str]:
        return [name for role in roles for name in step.inputs.get(role, ())]

    def _count(self, names: Sequence[str]) -> int:
        return sum(text.count for name in names for text in self.made[name])

    def _size(self, step: Step) -> int:
        return sum(ON_DISK * text.count * text.length for text in self.made[step.makes])
