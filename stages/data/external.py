"""A team's own base checkpoint, dialogues and prompts, added to the registry. Annotation files come by ``rlhf import``.

Files are JSONL, one record a line. A file with a faulty row is refused whole (``preference_data/strict_rows.py``).
"""

from pathlib import Path
from typing import Any

from policy.architecture import llama_config
from policy.chat import chat_template_for
from policy.checkpoint import CheckpointError, check_special_tokens, load_policy, save_checkpoint
from policy.footprint import num_parameters
from preference_data.messages import Messages, MessagesError, user
from preference_data.parquet import write_records
from preference_data.prompt import Dialogue, Prompt, make_dialogue, make_prompt
from preference_data.strict_rows import boolean, records_in
from registry.saved_states import SavedStates
from stages.external_files import check_unchanged
from stages.sections import CheckpointConfig, FileConfig, PromptsFileConfig
from stages.stage import Inputs
from stages.terminal.progress import Progress


def add_checkpoint(
    config: CheckpointConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    """Copy a Llama checkpoint in the number format it has.

    Raises CheckpointError for a model that the chat format does not fit, or that is another than the recipe says.
    """
    model, tokenizer = load_policy(config.checkpoint, "auto", config.hub_revision)
    check_special_tokens(config.checkpoint, tokenizer)
    parameters, expected = model.num_parameters(), num_parameters(llama_config(config.preset, model.config.vocab_size))
    if parameters != expected:
        raise CheckpointError(
            f"{config.checkpoint} has {parameters} parameters, and the recipe's base.preset, {config.preset}, has {expected}; "
            "set base.preset to the architecture of the checkpoint"
        )
    commit = getattr(model.config, "_commit_hash", None)
    if commit:
        progress.say(f"{config.checkpoint} is at commit {commit}")
    tokenizer.chat_template = chat_template_for(tokenizer)
    save_checkpoint(model, tokenizer, out)
    return {
        "parameters": parameters,
        "hub_commit": commit,
        "vocabulary": len(tokenizer),
        "context": model.config.max_position_embeddings,
    }


def add_dialogues(
    config: FileConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    check_unchanged(config.file, config.sha256)
    dialogues = records_in(Path(config.file), _dialogue)
    write_records(out / "dialogues.parquet", dialogues, Dialogue)
    return {"dialogues": len(dialogues)}


def add_prompts(
    config: PromptsFileConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    def prompt(row: dict[str, Any]) -> Prompt:
        return make_prompt(
            _messages(row),
            family=row.get("family", "team"),
            split=config.split,
            source=row.get("source", "team"),
            is_safety=boolean(row, "is_safety"),
            risk_category=row.get("risk_category"),
            attack_vector=row.get("attack_vector"),
        )

    check_unchanged(config.file, config.sha256)
    rows = records_in(Path(config.file), prompt)
    kept: dict[str, Prompt] = {}
    for row in rows:
        kept.setdefault(row.id, row)
    prompts = list(kept.values())
    if repeated := len(rows) - len(prompts):
        progress.say(f"{config.file}: {repeated} prompts occur more than once; the first of each is kept")
    write_records(out / "prompts.parquet", prompts, Prompt)
    return {"prompts": len(prompts), "repeated": repeated, "with_safety_tag": sum(prompt.is_safety for prompt in prompts)}


def _dialogue(row: dict[str, Any]) -> Dialogue:
    if not isinstance(row.get("messages"), list):
        raise _missing("messages", row)
    # in the sandbox too demonstrations are a source and a family of their own
    return make_dialogue(
        row["messages"],
        family=row.get("family", "team"),
        source=row.get("source", "demonstrations"),
        is_safety=boolean(row, "is_safety"),
    )


def _messages(row: dict[str, Any]) -> Messages:
    text_or_messages = row.get("messages", row.get("prompt"))
    if isinstance(text_or_messages, str):
        return [user(text_or_messages)]
    if not isinstance(text_or_messages, list):
        raise _missing("prompt or messages", row)
    return text_or_messages


def _missing(what: str, row: dict[str, Any]) -> MessagesError:
    return MessagesError("missing_field", f"a row needs {what}; this one has {', '.join(sorted(row)) or 'nothing'}")
