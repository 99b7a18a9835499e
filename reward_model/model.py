"""The reward model: a chat model whose next-token head is replaced by a head with one output (paper 3.2.2).

It starts from a chat checkpoint, so that it knows what the policy knows. On disk it is a plain
``AutoModelForSequenceClassification`` with one label in safetensors, which any Hugging Face tool opens.

The score is read at EOS, the last token of a row (the paper does not say where; ours). ``transformers`` finds it by
looking for the last id that is not the padding id; padding is id 0 here, ``<unk>``, which byte fallback never produces, so
that the library's own forward gives our scores.

Two defects known from other tools, a head drawn from whatever the global seed was and a head lost on the way to disk, cannot
happen here: the head is drawn from the given seed, a checkpoint without it is refused, and a saved model is opened again and
its scores compared.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from policy.adapters import Update, load_update
from policy.checkpoint import check_embeddings, check_special_tokens, load_tokenizer, save_checkpoint, weight_files
from policy.lora import fix
from policy.placement import device
from policy.shared_base import on_base
from policy.shared_prefixes import Layout, last_hidden, lay_out, shared_prefixes
from policy.tokenizer import PAD_ID
from preference_data.messages import Messages, assistant, user
from reward_model.batch import encode_for_scoring

HEAD = "score.weight"
MARKER, OWN_TEMPLATE = "scorer.json", "own chat template"
"""The file that marks an external reward model, beside its weights, and its word for how such a model reads dialogues.

It is payload: the digest covers it, and copies, exports and the hub carry it. The manifest would not do, since models are
opened by path alone; nor a key of ``config.json``, which every library that saves the model writes anew; nor the look of the
weights, since an external Llama reward model looks like one of ours and would be scored, without a warning, in a chat format
that it never saw.
"""
SETTINGS = {"num_labels": 1, "pad_token_id": PAD_ID}
_PROBE: tuple[Messages, ...] = (
    [user("What is the capital of France?"), assistant("Paris.")],
    [
        user("Name two colours."),
        assistant("Red and blue."),
        user("One more?"),
        assistant("Green, if you like a third one too."),
    ],
)


class RewardModelError(ValueError):
    """A folder that holds no usable reward model, or scores that did not survive saving."""


def build_reward_model(policy_path: Path, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A new reward model from the chat model at ``policy_path``, in float32, with a head drawn from ``seed``.

    Raises RewardModelError when the folder lacks weights of the trunk, CheckpointError when its tokenizer is not the model's or
    does not fit the chat format.
    """
    _check_folder(policy_path, "a policy")
    with _without_loading_report():
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            policy_path,
            **SETTINGS,
            dtype=torch.float32,
            use_safetensors=True,  # weights are never unpickled
            output_loading_info=True,
        )
    if missing := sorted(set(loading["missing_keys"]) - {HEAD}):
        raise RewardModelError(
            f"{policy_path} lacks {len(missing)} tensors of its own trunk ({missing[0]}, ...), so a reward model "
            "built on it would be random there; give the folder of a complete policy"
        )
    with torch.no_grad():
        model.get_parameter(HEAD).copy_(draw_head(model, seed))
    return model.to(device()), _tokenizer_of(model, policy_path)


def draw_head(model: PreTrainedModel, seed: int) -> Tensor:
    """A new head (1, D) from ``seed``: normal, with the other matrices' ``initializer_range`` (the paper does not say)."""
    head = torch.empty(1, model.config.hidden_size)
    return head.normal_(0.0, model.config.initializer_range, generator=torch.Generator().manual_seed(seed))


def reward_model_on(base: PreTrainedModel, stands: Update, path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The reward model in the folder ``path`` on the weights of ``base``, none of which is loaded or copied; it is frozen.

    ``stands``: the update of the checkpoint that ``base`` was loaded from. What is added to its weights are the reward model's
    own head and the difference of the two updates. Raises OtherRoot, and what ``load_reward_model`` raises.
    """
    model = reward_model_with(base, _trained_head(path))
    fix(model, load_update(path).since(stands))
    return model, _tokenizer_of(model, path)


def reward_model_with(base: PreTrainedModel, head: Tensor) -> PreTrainedModel:
    """A reward model of the weights of ``base``, which both have then, less its adapters, and of a copy of ``head`` (1, D)."""
    own = torch.empty_like(head, dtype=base.dtype, device=base.device).copy_(head)
    return on_base(base, LlamaForSequenceClassification, {HEAD: own}, **SETTINGS)


def row_scores(model: PreTrainedModel, layout: Layout) -> Tensor:
    """Scores of N rows of ids: the head at the last token of each. To be called inside ``shared_prefixes(model)``.

    Returns: (N,) raw logits, in float32 or wider.
    """
    scores = model.get_submodule("score")(last_hidden(model, layout)).squeeze(-1)
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def save_reward_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Write weights (safetensors), config and tokenizer, then open them again and compare the scores of fixed dialogues.

    Raises RewardModelError when the model's scores are no numbers, and when the reloaded model scores differently.
    """
    before = _probe_scores(model, tokenizer)
    if not before.isfinite().all():
        raise RewardModelError(
            f"the reward model scores fixed dialogues with {before.tolist()}, so its weights are damaged and it is not saved; "
            "lower the learning rate, or check the model you started from"
        )
    save_checkpoint(model, tokenizer, path)
    reloaded, its_tokenizer = load_reward_model(path, dtype=model.dtype)
    after = _probe_scores(reloaded.to(model.device), its_tokenizer)  # type: ignore[arg-type]
    if not torch.allclose(before, after, rtol=1e-5, atol=1e-5):
        raise RewardModelError(
            f"the reward model saved to {path} does not score as it did in memory: {before.tolist()} became {after.tolist()}; "
            "do not use the folder, and check that no wrapper around the model renames or drops its weights"
        )


def load_reward_model(path: Path, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Open a saved reward model.

    Raises RewardModelError when the folder holds no model or an external one, its weights lack the score head, or the head has
    more than one output; CheckpointError when its tokenizer is not the model's or does not fit the chat format.
    """
    _trained_head(path)
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        path, **SETTINGS, dtype=dtype, use_safetensors=True, output_loading_info=True
    )
    if missing := sorted(loading["missing_keys"]):
        raise RewardModelError(f"{path} lacks {len(missing)} tensors ({missing[0]}, ...); save the reward model again")
    return model.to(device()).eval(), _tokenizer_of(model, path)


def is_external(path: Path) -> bool:
    """Whether the reward model in the folder ``path`` is external: not trained here, with a chat template of its own.

    Raises RewardModelError for a marker that this version cannot read.
    """
    marker = Path(path) / MARKER
    if not marker.is_file():
        return False
    try:
        encoding = json.loads(marker.read_text(encoding="utf-8"))["encoding"]
    except (ValueError, TypeError, KeyError) as error:
        raise RewardModelError(f"{marker} does not say how this reward model reads a dialogue; register it again") from error
    if encoding != OWN_TEMPLATE:
        raise RewardModelError(
            f"{marker} asks for the encoding {encoding!r}, and this version of llama-rlhf knows {OWN_TEMPLATE!r}; "
            "upgrade llama-rlhf"
        )
    return True


def _tokenizer_of(model: PreTrainedModel, path: Path) -> PreTrainedTokenizerBase:
    tokenizer = load_tokenizer(path)
    check_embeddings(path, model, tokenizer)
    check_special_tokens(path, tokenizer)
    return tokenizer


@contextmanager
def _without_loading_report() -> Iterator[None]:
    """Silence the library's warning that the head is new: here it is meant to be."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _check_folder(path: Path, what: str) -> None:
    if not (Path(path) / "config.json").is_file():
        raise RewardModelError(f"{path} is not {what}: it holds no config.json; give the folder that a model was saved to")


def _trained_head(path: Path) -> Tensor:
    """The head (1, D) of a reward model that was trained here. Raises RewardModelError (see ``load_reward_model``)."""
    _check_folder(path, "a reward model")
    if is_external(path):
        raise RewardModelError(
            f"{path} is an external reward model with its own chat format; score with it, or give a reward model that was "
            "trained here"
        )
    files = weight_files(path)
    if not files:
        raise RewardModelError(f"{path} holds no safetensors weights; save the reward model again as safetensors")
    for file in files:
        with safe_open(file, framework="pt") as weights:
            if HEAD in weights.keys():  # noqa: SIM118 (safe_open is no mapping)
                num_outputs = weights.get_slice(HEAD).get_shape()[0]
                if num_outputs != 1:
                    raise RewardModelError(
                        f"{path} has a head with {num_outputs} outputs, and a reward model has one; "
                        "it is another kind of classifier"
                    )
                return weights.get_tensor(HEAD)
    architecture = ", ".join(AutoConfig.from_pretrained(path).architectures or ["unknown"])
    raise RewardModelError(
        f"{path} has no {HEAD} among its weights (architecture: {architecture}), so its scores would come from a random head; "
        "train a reward model from it, or give the folder of one"
    )


def _probe_scores(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    training = model.training
    model.eval()
    with torch.inference_mode(), shared_prefixes(model):
        scores = row_scores(model, lay_out(encode_for_scoring(tokenizer, _PROBE)).to(model.device))
    model.train(training)
    return scores
