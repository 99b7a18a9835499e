"""What training with adapters added to a checkpoint, kept beside its weights.

A checkpoint that was trained with adapters holds its merged weights, as any checkpoint does, and in the folder ``adapter/``
what sets its matrices apart from those of its root:

    W = W_root + B A,     B (out, rank), A (rank, in)

The *root* is the checkpoint in which the chain of trainings began; one without ``adapter/`` is its own. A root is named by the
sum of its weights, so that a folder holds no path. Updates of one root add up without loss, by factors side by side:
B1 A1 + B2 A2 = [B1 B2] [A1; A2]. So two checkpoints of one root differ from each other by a low-rank update too, and one can
be opened on the weights of the other (``policy/shared_base.py``).

The folder is in peft's format: ``PeftModel.from_pretrained(root, "adapter")`` opens it. A reward model's head is in it as a
module that was trained whole.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from policy.checkpoint import CheckpointError, weight_files

FOLDER, ROOT_FILE = "adapter", "root.json"
_CONFIG_FILE, _WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""Module name -> (B (out, rank), A (rank, in)); what is added to its matrix is B A."""


class OtherRoot(ValueError):
    """Updates of checkpoints that do not have one root."""


@dataclass(frozen=True, eq=False, slots=True)
class Update:
    """What a checkpoint adds to its root. ``root``: sha256 of the root's weights; ``factors``: none where it is the root."""

    root: str
    factors: Factors

    def then(self, learnt: Factors) -> "Update":
        """The update after further training added ``learnt``."""
        return Update(self.root, _side_by_side(self.factors, learnt))

    def since(self, other: "Update") -> Factors:
        """What must be added to the weights of a checkpoint with the update ``other``. Raises OtherRoot."""
        if self.root != other.root:
            raise OtherRoot(
                f"an update of the root {self.root[:12]} was asked for on weights of the root {other.root[:12]}; "
                "give two checkpoints whose training with adapters began in the same one, or load each by itself"
            )
        return _side_by_side(self.factors, {name: (-b, a) for name, (b, a) in other.factors.items()})


def load_update(path: Path) -> Update:
    """The update of the checkpoint in the folder ``path``; of one without ``adapter/`` the weights are read and summed.

    Raises CheckpointError for a folder without weights, or with an ``adapter/`` that names no root.
    """
    folder = Path(path) / FOLDER
    if not folder.is_dir():
        return Update(weights_sum(path), {})
    try:
        root = json.loads((folder / ROOT_FILE).read_text(encoding="utf-8"))["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder} does not say which weights it was trained on: {ROOT_FILE} is missing or damaged; train the checkpoint "
            "again, or remove the folder, and the checkpoint counts as its own root"
        ) from error
    tensors = load_file(folder / _WEIGHTS_FILE)
    names = [name.removeprefix(_PREFIX).removesuffix(_A) for name in tensors if name.endswith(_A)]
    return Update(root, {name: (tensors[f"{_PREFIX}{name}{_B}"], tensors[f"{_PREFIX}{name}{_A}"]) for name in names})


def save_update(update: Update, path: Path, whole: Mapping[str, Tensor] | None = None) -> None:
    """Write ``adapter/`` into the checkpoint folder ``path``. ``whole``: weights that were trained whole, such as a head's.

    The scaling is in the factors, so that peft's alpha is the rank.
    """
    folder = Path(path) / FOLDER
    folder.mkdir()
    tensors = {f"{_PREFIX}{name}": tensor for name, tensor in (whole or {}).items()}
    for name, (b, a) in update.factors.items():
        tensors |= {f"{_PREFIX}{name}{_B}": b, f"{_PREFIX}{name}{_A}": a}
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / _WEIGHTS_FILE)
    modules = sorted({name.rpartition(".")[0] for name in whole or {}})
    _write(folder / _CONFIG_FILE, {**_peft_config(update.factors), "modules_to_save": modules or None})
    _write(folder / ROOT_FILE, {"weights_sha256": update.root})


def weights_sum(path: Path) -> str:
    """sha256 of the weights in the folder ``path``: of each tensor, in the order of their names, name, format, shape and
    numbers. It does not depend on how they are spread over files. Raises CheckpointError where there are none."""
    homes: dict[str, Path] = {}
    for file in weight_files(path):
        with safe_open(file, framework="pt") as weights:
            homes |= dict.fromkeys(weights.keys(), file)
    if not homes:
        raise CheckpointError(f"{path} holds no safetensors weights; give the folder of a checkpoint")
    digest = hashlib.sha256()
    for name in sorted(homes):
        with safe_open(homes[name], framework="pt") as weights:
            described = weights.get_slice(name)
            digest.update(f"{name} {described.get_dtype()} {described.get_shape()}\n".encode())
            digest.update(weights.get_tensor(name).contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _side_by_side(one: Factors, other: Factors) -> Factors:
    both = dict(one)
    for name, (b, a) in other.items():
        if name in both:
            before_b, before_a = both[name]
            b, a = torch.cat([before_b, b.to(before_b)], dim=1), torch.cat([before_a, a.to(before_a)])
        both[name] = (b, a)
    return both


def _peft_config(factors: Factors) -> dict[str, object]:
    ranks = {name: a.shape[0] for name, (_, a) in factors.items()}
    most = max(ranks.values(), default=1)
    others = {name: rank for name, rank in sorted(ranks.items()) if rank != most}
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": most,
        "lora_alpha": most,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(factors),
        "rank_pattern": others,
        "alpha_pattern": others,
    }


def _write(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
