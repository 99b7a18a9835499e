"""Whether a policy has room for what it will be asked: found out before anything is sampled or trained."""

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoConfig

from policy.chat import encode_prompts
from policy.checkpoint import load_tokenizer
from policy.generation import check_context
from preference_data.prompt import Prompt


def check_answerable(policy: Path, prompts: Sequence[Prompt], max_new_tokens: int) -> None:
    """Raise ContextOverflow unless each prompt leaves room for ``max_new_tokens`` in the context of the policy in a folder.

    Raises MessagesError, CheckpointError.
    """
    messages = [prompt.messages for prompt in prompts]
    encoded = [prompt.ids for prompt in encode_prompts(load_tokenizer(policy), messages)]
    check_context(messages, encoded, max_new_tokens, AutoConfig.from_pretrained(policy).max_position_embeddings)
