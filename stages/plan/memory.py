"""What each step of a recipe holds at its worst moment, and how many tokens it trains, reads and samples. Nothing is loaded.

Counts come from the recipe, lengths from its section ``expected``; what a step reads is as large as the step that makes it
will make it. One function a kind of step, in ``COUNTED`` by the name of its stage. A stage without one is not counted, and
neither is a step that reads what was not counted, or a model of another size than the recipe's own.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatt.dialogues import mean_num_turns
from policy.architecture import llama_config
from policy.footprint import FLOAT32, Footprint, cache_bytes, num_parameters, training
from policy.generation import BATCH_SIZE, BATCH_TOKENS
from policy.training_state import KEPT
from preference_data.comparison import AXES
from stages.recipe import Recipe, SandboxRecipe, TeamRecipe
from stages.stage import Step

_LONGEST = 3  # the longest of many texts, in means
_ENCODED = 12_000  # bytes of a record that is trained on, with its lists of token ids and masks (measured)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that are trained (forward, backward), read (forward) and sampled, once for each model that does so."""

    trained: int = 0
    read: int = 0
    sampled: int = 0

    @property
    def total(self) -> int:
        return self.trained + self.read + self.sampled


@dataclass(frozen=True, slots=True)
class Work:
    """What a step computes and holds, in tokens and bytes. ``data_bytes``: the records it trains on, in the memory of the host;
    ``artifact_bytes``: weights that it leaves on the disk; ``state_bytes``: what a stopped run resumes from, while it runs."""

    tokens: Tokens = field(default_factory=Tokens)
    footprint: Footprint = field(default_factory=Footprint)
    data_bytes: int = 0
    artifact_bytes: int = 0
    state_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Texts:
    """So many texts of a mean length in tokens, the longest of them ``longest``."""

    count: int
    length: int
    longest: int


class Sizes:
    """The sizes of a recipe on a device, and of what its steps have made so far (``texts``, by reference)."""

    def __init__(self, recipe: Any, device_type: str):  # which sections a recipe has depends on its kind, and so do its steps
        expected = recipe.expected
        self.recipe, self.device_type, self.model = recipe, device_type, recipe_model(recipe)
        self.weights = FLOAT32 * num_parameters(self.model)
        self.prompt, self.response, self.turn = expected.prompt_tokens, expected.response_tokens, expected.turn_tokens
        self.dialogue = self.prompt + self.response
        self.texts: dict[str, tuple[Texts, ...]] = {}

    def one_turn(self, count: int) -> Texts:
        """So many dialogues of one turn."""
        return Texts(count, self.dialogue, _LONGEST * self.dialogue)

    def read_by(self, step: Step, *roles: str) -> list[Texts]:
        return [texts for role in roles for reference in step.inputs.get(role, ()) for texts in self.texts[reference]]

    def answering(self, responses: int, k: int = 1, readings: int = 0, prompt: int | None = None) -> Tokens:
        """Tokens of ``responses``, of which ``k`` share a prompt, and ``readings`` models that read each with its prompt."""
        prompt = prompt or self.prompt
        read = responses // k * prompt + readings * responses * (prompt + self.response)
        return Tokens(read=read, sampled=responses * self.response)

    def cache(self, max_new_tokens: int, k: int = 1, rows: int = BATCH_SIZE) -> int:
        """The cache of the sampler's largest batch, which holds each prompt once, and the k responses of one at least."""
        group = _LONGEST * self.prompt + k * max_new_tokens
        return cache_bytes(self.model, group * max(1, min(BATCH_TOKENS // group, min(rows, BATCH_SIZE) // k)))

    def trained(self, tokens: int, held: Footprint, records: int) -> Work:
        """Training of one model. A saved state is what is trained and its moments; for a moment one more is on the disk."""
        states = (KEPT + 1) * (held.gradients + held.optimizer)
        return Work(Tokens(trained=tokens), held, _ENCODED * records, self.weights, states)


def works(recipe: Recipe, steps: Sequence[Step], device_type: str = "cpu") -> Iterator[Work | None]:
    """The work of each of ``steps``, all those of the recipe in their order; None: not counted."""
    sizes, uncounted = Sizes(recipe, device_type), set[str]()
    for step in steps:
        count = COUNTED.get(step.stage.name)
        known = uncounted.isdisjoint(reference for references in step.inputs.values() for reference in references)
        work = count(sizes, step, step.config) if count and known else None
        if work is None:
            uncounted.add(step.makes)
        yield work


def recipe_model(recipe: Recipe) -> Any:
    """The architecture of the recipe's own model."""
    if isinstance(recipe, SandboxRecipe):
        return llama_config(recipe.pretrain.preset, recipe.pretrain.vocab_size)
    assert isinstance(recipe, TeamRecipe)
    return llama_config(recipe.base.preset)


def _no_model(sizes: Sizes, step: Step, config: Any) -> Work:
    """It writes or copies texts, and loads no model."""
    return Work()


def _demonstrations(sizes: Sizes, step: Step, config: Any) -> Work:
    expected = sizes.recipe.expected.num_demonstrations
    count = config.num_dialogues if step.stage.name == "demonstrations" else expected
    sizes.texts[step.makes] = (sizes.one_turn(count),)
    return Work()


def _checkpoint(sizes: Sizes, step: Step, config: Any) -> Work:
    return Work(footprint=Footprint(weights=sizes.weights), artifact_bytes=sizes.weights)


def _import(sizes: Sizes, step: Step, config: Any) -> Work:
    if isinstance(sizes.recipe, SandboxRecipe):
        annotation = sizes.recipe.annotation
        comparisons = annotation.num_helpful if config.axis == "helpfulness" else annotation.num_safety
    else:
        comparisons = sizes.recipe.expected.num_comparisons.get(config.axis, 0)
    sizes.texts[step.makes] = (sizes.one_turn(comparisons),)
    return Work()


def _pretrain(sizes: Sizes, step: Step, config: Any) -> Work | None:
    if config.preset != sizes.recipe.pretrain.preset:
        return None
    tokens = sum(phase.num_tokens // config.batch_tokens * config.batch_tokens for phase in config.phases)
    held = training(sizes.model, config.batch_tokens, config.batch_tokens)
    return sizes.trained(tokens, held, sizes.recipe.corpus.num_documents + sizes.recipe.corpus.num_primer_documents)


def _sft(sizes: Sizes, step: Step, config: Any) -> Work:
    return _finetuned(sizes, config, sizes.read_by(step, "dialogues"))


def _tune(sizes: Sizes, step: Step, config: Any) -> Work:
    """On the first demonstrations, and of Ghost Attention on the dialogues without those that were replayed."""
    (demonstrations,) = sizes.read_by(step, "demonstrations")
    kept = Texts(min(demonstrations.count, config.num_demonstrations), demonstrations.length, demonstrations.longest)
    gatt = sizes.read_by(step, "gatt")[:1]
    return _finetuned(sizes, config, [kept, *gatt, *sizes.read_by(step, "distilled", "samples")])


def _finetuned(sizes: Sizes, config: Any, read: Sequence[Texts]) -> Work:
    tokens = sum(config.epochs * texts.count * min(texts.length, config.max_length) for texts in read)
    width = min(config.max_length, max(texts.longest for texts in read))
    positions = min(config.batch_size, config.microbatch_size or config.batch_size) * width
    answers = math.ceil(positions * sizes.response / sizes.dialogue)  # the head is applied to answers alone
    checkpointed = sizes.device_type == "cuda"  # as policy/finetuning.py does
    held = training(sizes.model, positions, answers, config.lora, checkpointed)
    return sizes.trained(tokens, held, sum(texts.count for texts in read))


def _train_reward(sizes: Sizes, step: Step, config: Any) -> Work:
    own, other = (sum(texts.count for texts in sizes.read_by(step, role)) for role in ("preferences", "other_preferences"))
    pairs = own
    if config.mixture == "paper":
        pairs += min(other, own if config.axis == "helpfulness" else math.ceil(own / 9))
    rows = 2 * max(1, min(config.microbatch_size, config.batch_size, pairs))
    width = min(config.max_length, _LONGEST * sizes.dialogue)
    held = training(sizes.model, rows * width, 0, config.lora, config.gradient_checkpointing)
    return sizes.trained(config.epochs * 2 * pairs * sizes.dialogue, held, 2 * pairs)


def _ppo(sizes: Sizes, step: Step, config: Any) -> Work:
    """Policy and critic are trained; both score, and the reference and the critic read each response."""
    every, responses = config.validation.every, config.iterations * config.batch_size
    validated = (1 + math.ceil(config.iterations / every)) * config.validation.num_prompts if every else 0
    rollouts, validations = sizes.answering(responses, readings=4), sizes.answering(validated, readings=3)
    tokens = Tokens(
        trained=2 * config.ppo_epochs * responses * sizes.dialogue,
        read=rollouts.read + validations.read,
        sampled=rollouts.sampled + validations.sampled,
    )
    width = _LONGEST * sizes.prompt + config.max_new_tokens
    one = training(sizes.model, config.microbatch_size * width, config.microbatch_size * config.max_new_tokens, config.lora)
    models = 5  # policy, critic, reference and two reward models; with adapters those that stand on one set of weights
    if config.lora:
        models = 1 + sum(not axis.lora for axis in (sizes.recipe.helpfulness, sizes.recipe.safety))
    cache = sizes.cache(config.max_new_tokens, rows=config.batch_size)
    held = Footprint(models * sizes.weights, 2 * one.gradients, 2 * one.optimizer, one.activations, cache)
    states = (KEPT + 1) * (held.gradients + held.optimizer)
    return Work(tokens, held, artifact_bytes=2 * sizes.weights, state_bytes=states)


def _annotate(sizes: Sizes, step: Step, config: Any) -> Work:
    responses = 2 * (config.num_helpful + config.num_safety + 4 * config.num_heldout)
    return Work(sizes.answering(responses), Footprint(sizes.weights, cache=sizes.cache(config.max_new_tokens)))


def _distill(sizes: Sizes, step: Step, config: Any) -> Work:
    """Each prompt is answered with a preprompt and without; the safety model reads both."""
    sizes.texts[step.makes] = (sizes.one_turn(config.num_prompts),)
    held = Footprint(2 * sizes.weights, cache=sizes.cache(config.max_new_tokens))
    return Work(sizes.answering(2 * config.num_prompts, readings=1), held)


def _rejection_sample(sizes: Sizes, step: Step, config: Any) -> Work:
    """The search for a temperature, then the prompts themselves; both reward models read every response."""
    prompts = config.num_helpful + config.num_adversarial
    sizes.texts[step.makes] = (sizes.one_turn(prompts),)
    searched = len(config.temperatures) * config.search_prompts if config.searches else 0
    cache = sizes.cache(config.max_new_tokens, config.k, config.prompts_per_batch * config.k)
    return Work(
        sizes.answering((prompts + searched) * config.k, config.k, readings=2), Footprint(3 * sizes.weights, cache=cache)
    )


def _gatt(sizes: Sizes, step: Step, config: Any) -> Work:
    turns = mean_num_turns(config) if config.multi_turn == "chained" else (config.min_turns + config.max_turns) / 2
    length = round(turns * sizes.turn)
    dialogues = Texts(config.num_dialogues, length, config.max_turns * sizes.turn)
    sizes.texts[step.makes] = (dialogues, sizes.one_turn(config.num_replayed))
    tokens = sizes.answering(config.num_dialogues * config.k, config.k, readings=1, prompt=length)
    if config.intermediate == "resampled":
        anew = sizes.answering(round(config.num_dialogues * (turns - 1)), prompt=length // 2)
        tokens = Tokens(read=tokens.read + anew.read, sampled=tokens.sampled + anew.sampled)
    return Work(tokens, Footprint(2 * sizes.weights, cache=cache_bytes(sizes.model, BATCH_TOKENS)))


def _evaluate_policy(sizes: Sizes, step: Step, config: Any) -> Work:
    prompts = sizes.recipe.evaluation_prompts
    responses = prompts.num_helpful + prompts.num_adversarial + prompts.num_borderline
    held = Footprint(3 * sizes.weights, cache=sizes.cache(config.max_new_tokens))
    return Work(sizes.answering(responses, readings=2), held)


def _evaluate_reward(sizes: Sizes, step: Step, config: Any) -> Work:
    """Both models read both responses of all held-out comparisons: four responses to a prompt make six."""
    comparisons = len(AXES) * len(sizes.recipe.rounds) * 6 * sizes.recipe.annotation.num_heldout
    return Work(Tokens(read=4 * comparisons * sizes.dialogue), Footprint(2 * sizes.weights))


def _evaluate_consistency(sizes: Sizes, step: Step, config: Any) -> Work:
    """Dialogues turn by turn: a turn reads all before it, or what is new where earlier turns stay in the cache."""
    turns = max(config.turns)
    middle = turns * sizes.turn // 2
    kept = min(config.kept_tokens, config.num_dialogues * turns * sizes.turn)
    beyond = max(0, sizes.model.max_position_embeddings // sizes.turn - turns)
    answers = turns * config.num_dialogues + beyond * config.num_to_end
    answers += config.control_turns * (config.num_heldout + config.num_uninstructed)
    recalled = config.num_recalled * sum(turn > 1 for turn in config.turns)
    read = answers * (sizes.prompt if kept else middle) + recalled * middle + config.num_copied * sizes.prompt
    sampled = (answers + recalled + config.num_copied) * sizes.response
    held = Footprint(sizes.weights, cache=cache_bytes(sizes.model, BATCH_TOKENS + kept))
    return Work(Tokens(read=read, sampled=sampled), held, state_bytes=(KEPT + 1) * cache_bytes(sizes.model, kept))


COUNTED: dict[str, Callable[[Sizes, Step, Any], Work | None]] = {
    "corpus": _no_model, "demonstrations": _demonstrations, "prompts": _no_model, "add-prompts": _no_model,
    "add-dialogues": _demonstrations, "add-checkpoint": _checkpoint, "import": _import,
    "pretrain": _pretrain, "sft": _sft, "tune": _tune, "train-reward": _train_reward, "ppo": _ppo,
    "annotate": _annotate, "distill": _distill, "rejection-sample": _rejection_sample, "gatt": _gatt,
    "evaluate-policy": _evaluate_policy, "evaluate-reward": _evaluate_reward, "evaluate-consistency": _evaluate_consistency,
}  # fmt: skip
