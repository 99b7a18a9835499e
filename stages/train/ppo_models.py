"""The five models of PPO: the policy, its reference, the critic and both reward models.

Without adapters each is loaded by itself. With ``ppo.lora`` the policy and the critic get adapters, and what stays as it is
need not be there twice: the reference is the policy's own frozen weights, and a reward model that was trained with adapters
stands on them too, where the adapters of both began in one checkpoint (``policy/adapters.py``). All five are then in memory
as one model and a few percent. What cannot share the weights is loaded by itself, and a line says which and why.
"""

from dataclasses import dataclass
from pathlib import Path

from torch import nn
from transformers import LlamaForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from policy.adapters import FOLDER, Update, load_update, save_update
from policy.checkpoint import CheckpointError, load_policy, save_checkpoint
from policy.config import LoraConfig
from policy.lora import Adapters
from policy.shared_base import bare_tensors, on_base
from registry.artifact import Artifact
from reward_model.model import (
    HEAD,
    SETTINGS,
    draw_head,
    is_external,
    load_reward_model,
    reward_model_on,
    reward_model_with,
)
from reward_model.opening import open_scorer
from reward_model.reward_rules import Reward, reward_named
from reward_model.scoring import BatchScorer, RewardScorer, Scorer
from rlhf.config import PPOConfig
from rlhf.value_model import TokenizerMismatch, ValueModel, load_value_model, new_value_model
from stages.stage import Inputs, one
from stages.terminal.progress import Progress

VALUE_MODEL_FOLDER = "value_model"


@dataclass(frozen=True, eq=False, slots=True)
class PPOAdapters:
    """What is trained, and what the checkpoints that it started from had added to their roots."""

    policy: Adapters
    policy_start: Update
    critic: Adapters
    critic_start: Update


@dataclass(frozen=True, eq=False, slots=True)
class PPOModels:
    """``adapters`` None: all weights of ``policy`` and ``value_model`` are trained."""

    policy: PreTrainedModel
    ref_policy: PreTrainedModel
    value_model: ValueModel
    tokenizer: PreTrainedTokenizerBase
    reward: Reward
    adapters: PPOAdapters | None

    def save_policy(self, path: Path) -> None:
        """Write the policy as it is now: its weights, adapters merged, and with adapters ``adapter/`` as well."""
        if self.adapters is None:
            return save_checkpoint(self.policy, self.tokenizer, path)
        save_checkpoint(self.adapters.policy.merged(), self.tokenizer, path)
        save_update(self.adapters.policy_start.then(self.adapters.policy.factors()), path)

    def save_value_model(self, path: Path) -> None:
        """Write the critic as it is now, as a sequence classifier with one label; with adapters ``adapter/`` as well."""
        backbone, head = self.value_model.backbone, self.value_model.head
        assert isinstance(backbone, PreTrainedModel) and isinstance(head, nn.Linear)
        if self.adapters is None:
            own = {HEAD: head.weight} | {f"model.{name}": tensor for name, tensor in bare_tensors(backbone).items()}
            model = on_base(backbone, LlamaForSequenceClassification, own, **SETTINGS)
            return save_checkpoint(model, self.tokenizer, path)
        save_checkpoint(self.adapters.critic.merged(), self.tokenizer, path)
        update = self.adapters.critic_start.then(self.adapters.critic.factors())
        save_update(update, path, {HEAD: head.weight})


def ppo_models(inputs: Inputs, config: PPOConfig, seed: int, progress: Progress) -> PPOModels:
    """The models of the roles ``policy``, ``helpfulness``, ``safety`` and, where it is given, ``critic``.

    ``seed`` draws the critic's head where it is new, and the adapters. Raises CheckpointError, RewardModelError,
    TokenizerMismatch, LoraError and RewardError.
    """
    if config.lora:
        return _on_one_base(inputs, config, config.lora, seed, progress)
    start = one(inputs, "policy").path
    policy, tokenizer = load_policy(start)
    ref_policy, _ = load_policy(start)
    critic = _critic_folder(inputs, config, progress)
    value_model = load_value_model(critic, tokenizer) if critic else new_value_model(start, seed)
    scorers = (open_scorer(one(inputs, axis).path) for axis in ("helpfulness", "safety"))
    return PPOModels(policy, ref_policy, value_model, tokenizer, _reward(config, *scorers), None)


def _on_one_base(inputs: Inputs, config: PPOConfig, lora: LoraConfig, seed: int, progress: Progress) -> PPOModels:
    start = one(inputs, "policy")
    loaded, tokenizer = load_policy(start.path)
    base = _Base(loaded.requires_grad_(False), start, load_update(start.path), progress)
    policy = on_base(base.model, type(base.model), {})
    helpfulness, safety = (base.scorer(one(inputs, axis)) for axis in ("helpfulness", "safety"))
    folder, critic_start = _critic_folder(inputs, config, progress), base.update
    if folder is None:
        critic = reward_model_with(base.model, draw_head(base.model, seed))
    else:
        critic, its_tokenizer = base.critic(folder, one(inputs, "helpfulness"), helpfulness)
        _check_tokenizer(folder, its_tokenizer, tokenizer)
        critic_start = load_update(folder)
    adapters = PPOAdapters(
        Adapters(policy, lora, seed), base.update, Adapters(critic, lora, seed, trained=["score"]), critic_start
    )
    assert isinstance(critic.score, nn.Module)
    value_model = ValueModel(critic.base_model, critic.score)
    return PPOModels(policy, base.model, value_model, tokenizer, _reward(config, helpfulness, safety), adapters)


@dataclass(frozen=True, eq=False, slots=True)
class _Base:
    """The frozen policy that PPO starts from, for others to stand on."""

    model: PreTrainedModel
    artifact: Artifact
    update: Update
    progress: Progress

    def scorer(self, artifact: Artifact) -> BatchScorer:
        """A reward model on these weights, or by itself."""
        if self._says_why_not(artifact.path, str(artifact.reference)):
            return open_scorer(artifact.path)
        return RewardScorer(*reward_model_on(self.model, self.update, artifact.path))

    def critic(
        self, folder: Path, helpfulness: Artifact, scorer: BatchScorer
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The critic that starts as the reward model in ``folder``, on these weights or by itself; where it is the helpfulness
        model, whose ``scorer`` is given, on that one's."""
        if folder == helpfulness.path and self._why_not(folder):
            return reward_model_with(scorer.model, scorer.model.get_parameter(HEAD)), scorer.tokenizer
        if self._says_why_not(folder, "the critic"):
            return load_reward_model(folder)
        return reward_model_on(self.model, self.update, folder)

    def _says_why_not(self, folder: Path, what: str) -> bool:
        """Must the reward model in ``folder`` be loaded by itself? Then a line says so."""
        why = self._why_not(folder)
        if why:
            self.progress.say(f"{what} is loaded by itself and takes memory of its own: {why}")
        return why is not None

    def _why_not(self, folder: Path) -> str | None:
        if is_external(folder):
            return "it is an external reward model"
        if not (folder / FOLDER).is_dir():
            return "all its weights were trained, or it was made before adapters were kept"
        root = load_update(folder).root
        if root == self.update.root:
            return None
        return f"its adapters stand on the weights {root[:12]}, and {self.artifact.reference} stands on {self.update.root[:12]}"


def _critic_folder(inputs: Inputs, config: PPOConfig, progress: Progress) -> Path | None:
    """The folder of the reward model that the critic starts from; None: it starts as the policy, with a new head.

    A policy in the role ``critic`` gives the critic that PPO left in it. Raises CheckpointError where it left none.
    """
    helpfulness, start = one(inputs, "helpfulness"), one(inputs, "policy")
    if inputs.get("critic"):
        given = one(inputs, "critic")
        if given.reference.kind != "policy":
            return given.path
        if (given.path / VALUE_MODEL_FOLDER).is_dir():
            return given.path / VALUE_MODEL_FOLDER
        raise CheckpointError(
            f"the critic of {given.reference} was asked for, and it holds no {VALUE_MODEL_FOLDER}/; "
            "give a policy that PPO made, a reward model, or no critic"
        )
    if config.critic == "policy":
        return None
    if not is_external(helpfulness.path):
        return helpfulness.path
    progress.say(
        f"{helpfulness.reference} is an external reward model, so the critic starts as {start.reference} with a new head"
    )
    return None


def _reward(config: PPOConfig, helpfulness: Scorer, safety: Scorer) -> Reward:
    return reward_named(config.reward, helpfulness, safety, config.safety_threshold, config.lagrangian.multiplier)


def _check_tokenizer(critic: Path, its_tokenizer: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase) -> None:
    if its_tokenizer.get_vocab() != tokenizer.get_vocab():
        raise TokenizerMismatch(
            f"the critic at {critic} has a tokenizer of {len(its_tokenizer)} tokens and the policy another, of "
            f"{len(tokenizer)}; start the critic from a reward model that was trained from this policy's family"
        )
