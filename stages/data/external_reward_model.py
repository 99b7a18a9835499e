"""An external reward model, copied into the registry with its tokenizer and its chat template.

``reward_model/external.py`` says how it scores, ``reward_model/external_checkpoint.py`` what is refused.
"""

from pathlib import Path
from typing import Any

from registry.saved_states import SavedStates
from reward_model.external import save_external
from reward_model.external_checkpoint import context_of, load_external
from stages.external_files import check_unchanged
from stages.sections import FileConfig, RewardCheckpointConfig
from stages.stage import Inputs
from stages.terminal.progress import Progress


def run(
    config: RewardCheckpointConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    """Copy it in the number format it has. Raises RewardModelError for a model that cannot be used, see ``load_external``."""
    model, tokenizer = load_external(config.checkpoint, "auto", config.hub_revision, _text(config.chat_template))
    commit = getattr(model.config, "_commit_hash", None)
    if commit:
        progress.say(f"{config.checkpoint} is at commit {commit}")
    if config.axis == "safety":
        progress.say(
            "its score is a raw logit on its own scale; the combined reward treats a response as unsafe if the sigmoid of its "
            "safety score is below safety_threshold, so that sigmoid must be the probability of a safe response"
        )
    save_external(model, tokenizer, out)
    return {
        "architecture": type(model).__name__,
        "parameters": model.num_parameters(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "hub_commit": commit,
        "vocabulary": len(tokenizer),
        "context": context_of(model, tokenizer),
    }


def _text(template: FileConfig | None) -> str | None:
    if template is None:
        return None
    check_unchanged(template.file, template.sha256)
    return Path(template.file).read_text(encoding="utf-8")
