"""``rlhf doctor``: is everything in order, before hours are spent on finding out that it was not?

It looks at the machine, at a tokenizer's chat format, at loss masks, at the scale of reward models and at PPO's step 0. What it
is not given it looks for in the registry, and what is not there either is skipped, aloud. The policy says a few short answers,
and both PPO and the reward models are tried on those.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from policy.chat import CHAT_TEMPLATE
from policy.checkpoint import load_policy
from policy.generation import TransformersSampler
from policy.tokenizer import train_tokenizer
from preference_data.messages import Messages, assistant
from preference_data.prompt import Dialogue, make_dialogue
from registry.artifact import Artifact
from registry.errors import CorruptArtifact, ReferenceNotFound
from registry.store import Registry
from rlhf.config import PPOConfig
from rlhf.step_zero import Sampling, sample_as_ppo
from stages.doctor.check import Check
from stages.doctor.format import DIALOGUES, embeddings, format_checks
from stages.doctor.machine import machine_checks
from stages.doctor.masks import count_masks, masks_check
from stages.doctor.rewards import reward_checks
from stages.doctor.step_zero import step_zero_checks
from stages.engine.prompts import prompts_of
from stages.recipe import Recipe, SandboxRecipe, TeamRecipe
from stages.train.tune import dialogues_of

NUM_RESPONSES = 32
MAX_NEW_TOKENS = 128
MAX_DIALOGUES = 2000

_KINDS = {"helpfulness": "reward_model", "safety": "reward_model", "prompts": "prompts", "dialogues": "dialogues"}
_DEFAULTS = {
    "helpfulness": "reward_model/helpfulness",
    "safety": "reward_model/safety",
    "prompts": "prompts/tuning",
    "dialogues": "dialogues/demonstrations",
}
_MODEL_FILES = ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to look at: what it is called, its folder, and its artifact where it is one of the registry."""

    name: str
    path: Path
    artifact: Artifact | None = None


def examine(registry: Registry, recipe: Recipe, given: dict[str, str], seed: int) -> Iterator[Check]:
    """All checks, one after the other. ``given``: role (policy, helpfulness, safety, prompts, dialogues) -> reference.

    The policy may be a Hugging Face folder. Raises RegistryError for a reference that leads nowhere or to another kind, and
    ValueError for a folder that is none.
    """
    subjects_by_role = {role: _subject(registry, recipe, role, given.get(role)) for role in ("policy", *_KINDS)}
    yield from machine_checks(registry.root)
    subjects: dict[str, Subject] = {}
    for role, subject in subjects_by_role.items():
        whole = _files(role, subject) if subject and subject.artifact else None
        if whole:
            yield whole
        if subject and (whole is None or whole.state == "ok"):
            subjects[role] = subject

    policy = subjects.get("policy")
    tokenizer, opened = _tokenizer(policy, registry)
    yield opened
    if tokenizer is None:
        return
    yield from format_checks(tokenizer, in_registry=policy is None or policy.artifact is not None)
    if policy and (policy.path / "config.json").is_file():
        yield embeddings(len(tokenizer), AutoConfig.from_pretrained(policy.path).vocab_size)
    dialogues, masks = _masks(tokenizer, subjects.get("dialogues"), recipe)
    yield masks
    yield from _spoken(registry, recipe, subjects, [dialogue.messages for dialogue in dialogues], seed)


def _subject(registry: Registry, recipe: Recipe, role: str, text: str | None) -> Subject | None:
    """What a role is filled with; None where nothing was given and the registry holds nothing for it."""
    kind = _KINDS.get(role, role)
    if text is None:
        found = _newest_policy(registry) if role == "policy" else _default(registry, _DEFAULTS[role])
        if found is None and role == "policy" and isinstance(recipe, TeamRecipe) and Path(recipe.base.checkpoint).is_dir():
            return Subject(recipe.base.checkpoint, Path(recipe.base.checkpoint))
        return found
    folder = Path(text).expanduser()
    if role == "policy" and any((folder / name).is_file() for name in _MODEL_FILES):
        return Subject(text, folder)
    if role == "policy" and (folder.is_dir() or text.startswith(("/", ".", "~"))):
        raise ValueError(
            f"{text} is not a model folder: it has none of {', '.join(_MODEL_FILES)}; give a Hugging Face folder, "
            "or a reference such as policy/chat"
        )
    artifact = registry.resolve(text, kind=kind)
    return Subject(str(artifact.reference), artifact.path, artifact)


def _default(registry: Registry, text: str) -> Subject | None:
    try:
        artifact = registry.resolve(text)
    except ReferenceNotFound:
        return None
    name = f"{artifact.reference}" if text == str(artifact.reference.newest) else f"{text}, which is {artifact.reference}"
    return Subject(name, artifact.path, artifact)


def _newest_policy(registry: Registry) -> Subject | None:
    """``policy/chat``, or else the policy that was made last."""
    if chat := _default(registry, "policy/chat"):
        return chat
    made = [registry.resolve(str(reference)) for reference in registry.references("policy")]
    newest = max(made, key=lambda artifact: artifact.manifest.created, default=None)
    return Subject(str(newest.reference), newest.path, newest) if newest else None


def _files(role: str, subject: Subject) -> Check:
    assert subject.artifact
    try:
        subject.artifact.check()
    except CorruptArtifact as error:
        return Check(f"{role} artifact", "wrong", str(error), "it was not checked further")
    num_files = len(subject.artifact.manifest.files)
    return Check(f"{role} artifact", "ok", f"{subject.name}: its {num_files} files are what was committed")


def _tokenizer(policy: Subject | None, registry: Registry) -> tuple[PreTrainedTokenizerBase | None, Check]:
    """The policy's tokenizer as it was saved, or a fresh one."""
    if policy is None:
        texts = [message["content"] for messages in DIALOGUES for message in messages]
        tokenizer = train_tokenizer(texts * 20, 600, CHAT_TEMPLATE)
        note = f"{registry.root} holds no policy: a fresh tokenizer of {len(tokenizer)} tokens was checked instead"
        return tokenizer, Check("tokenizer", "note", note, "give --policy REF or a Hugging Face folder to check yours")
    try:
        its_own: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(policy.path, local_files_only=True)
    except Exception as error:  # the library raises what it likes at a damaged file
        return None, Check("tokenizer", "wrong", f"that of {policy.name} cannot be opened: {error}", "save the tokenizer again")
    return its_own, Check("tokenizer", "ok", f"that of {policy.name}, of {len(its_own)} tokens")


def _masks(tokenizer: PreTrainedTokenizerBase, subject: Subject | None, recipe: Recipe) -> tuple[list[Dialogue], Check]:
    """The dialogues of the registry, or the few that are built in, and what their masks leave to train on."""
    limit = recipe.sft.max_length
    if subject is None or subject.artifact is None:
        built_in = [make_dialogue(messages, family="doctor", source="doctor") for messages in DIALOGUES]
        whose = "no dialogues were given or found (--dialogues REF); the built-in ones"
        return [], masks_check(count_masks(tokenizer, built_in, limit), limit, whose)
    if subject.artifact.manifest.stage == "gatt" and isinstance(recipe, SandboxRecipe | TeamRecipe):
        limit = recipe.gatt_tuning.max_length
    dialogues = dialogues_of(subject.artifact)
    whose = subject.name
    if dialogues[MAX_DIALOGUES:]:
        whose += f", the first {MAX_DIALOGUES} of {len(dialogues)}"
    dialogues = dialogues[:MAX_DIALOGUES]
    return dialogues, masks_check(count_masks(tokenizer, dialogues, limit), limit, whose)


def _spoken(
    registry: Registry, recipe: Recipe, subjects: dict[str, Subject], dialogues: list[Messages], seed: int
) -> Iterator[Check]:
    """What needs answers: PPO's step 0, on the policy's; the reward models, on the same or else on ``dialogues``."""
    answered: list[Messages] = random.Random(f"doctor:{seed}").sample(dialogues, min(len(dialogues), NUM_RESPONSES))
    policy = subjects.get("policy")
    if policy is None or not (policy.path / "config.json").is_file():
        lacking = f"{policy.path} holds no model" if policy else f"{registry.root} holds no policy"
        yield Check("step 0", "skipped", lacking, "give --policy REF, or a folder with config.json and weights")
    else:
        if (prompts := subjects.get("prompts")) is None:
            lacking = f"{registry.root} holds no {_DEFAULTS['prompts']}: the few built-in prompts are answered"
            yield Check("prompts", "skipped", lacking, "give --prompts REF")
        try:
            model, tokenizer = load_policy(policy.path)
            reference, _ = load_policy(policy.path)
            sampling = _sample(TransformersSampler(model, tokenizer), prompts, recipe.ppo, seed)
        except Exception as error:  # libraries raise what they like at damaged weights
            yield Check("step 0", "wrong", f"{policy.name} cannot answer: {error}", "fix the policy and run the doctor again")
        else:
            yield from step_zero_checks(sampling, model, reference, tokenizer)
            spoken = zip(sampling.prompts, sampling.responses, strict=True)
            answered = [[*prompt, assistant(answer.text)] for prompt, answer in spoken if answer.text.strip()]
    for axis in ("helpfulness", "safety"):
        if (subject := subjects.get(axis)) is None:
            lacking = f"{registry.root} holds no {_DEFAULTS[axis]}"
            yield Check(f"{axis} scores", "skipped", lacking, f"give --{axis} REF")
        elif not answered:
            yield Check(f"{axis} scores", "skipped", "there is no answer to score", "give --policy REF or --dialogues REF")
        else:
            yield from reward_checks(axis, subject.path, answered, recipe.ppo.safety_threshold)


def _sample(sampler: TransformersSampler, prompts: Subject | None, config: PPOConfig, seed: int) -> Sampling:
    """A short response to each of some prompts, sampled as PPO does."""
    given: Sequence[Messages] = [messages[:-1] for messages in DIALOGUES]
    if prompts and prompts.artifact:
        given = [prompt.messages for prompt in prompts_of(prompts.artifact)]
    drawn = random.Random(f"doctor:{seed}").sample(given, min(len(given), NUM_RESPONSES))
    short = config.model_copy(update={"max_new_tokens": min(config.max_new_tokens, MAX_NEW_TOKENS)})
    return sample_as_ppo(sampler, drawn, short, seed)
