"""``rlhf doctor`` on dialogues: what the loss masks leave to train on."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from policy.chat import ChatFormatError, encode_dialogue
from preference_data.messages import MessagesError
from preference_data.prompt import Dialogue
from stages.doctor.check import Check


@dataclass(frozen=True, slots=True)
class Masks:
    """Counts over dialogues: ``untrained`` have no trainable token, ``too_long`` exceed ``max_length``, ``refused`` cannot be
    encoded; tokens are of the others."""

    num_dialogues: int
    untrained: int
    too_long: int
    refused: int
    num_tokens: int
    num_trained: int


def count_masks(tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Dialogue], max_length: int) -> Masks:
    """What fine-tuning would find in ``dialogues``."""
    untrained = too_long = refused = num_tokens = num_trained = 0
    for dialogue in dialogues:
        try:
            encoded = encode_dialogue(tokenizer, dialogue.messages, dialogue.train_on)
        except (MessagesError, ChatFormatError):
            refused += 1
            continue
        untrained += not any(encoded.loss_mask)
        too_long += len(encoded.ids) > max_length
        num_tokens += len(encoded.ids)
        num_trained += sum(encoded.loss_mask)
    return Masks(len(dialogues), untrained, too_long, refused, num_tokens, num_trained)


def masks_check(masks: Masks, max_length: int, whose: str) -> Check:
    """The counts, checked."""
    problems = []
    if masks.untrained:
        problems.append(f"{masks.untrained} dialogues have no token to train on")
    if masks.refused:
        problems.append(f"{masks.refused} dialogues cannot be encoded")
    if masks.too_long == masks.num_dialogues - masks.refused:
        problems.append(f"every dialogue is longer than {max_length} tokens")
    share = masks.num_trained / max(1, masks.num_tokens)
    if not 0 < share < 1:
        problems.append(f"{share:.0%} of the tokens are trained on")
    fine = f"{whose}: {masks.num_dialogues} dialogues, {share:.1%} of {masks.num_tokens} tokens trained on, "
    fine += f"{masks.too_long} longer than {max_length} tokens"
    if masks.too_long and not problems:
        return Check("masks", "note", fine, "longer ones are counted and left out; raise max_length to keep them")
    if problems:
        return Check("masks", "wrong", f"{whose}: {', '.join(problems)}", "fix the dialogues and add them again")
    return Check("masks", "ok", fine)
