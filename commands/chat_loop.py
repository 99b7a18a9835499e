"""``rlhf chat``: talk to a policy. Defaults are the reference code's (temperature 0.6, top-p 0.9)."""

from collections.abc import Callable

from policy.chat import encode_prompt
from policy.generation import TransformersSampler
from preference_data.messages import Messages, MessagesError, assistant, check_prompt, user


def converse(
    sampler: TransformersSampler,
    read: Callable[[], str | None],
    write: Callable[[str], None],
    system: str | None = None,
    temperature: float = 0.6,
    top_p: float = 0.9,
    max_new_tokens: int = 256,
    seed: int = 0,
) -> None:
    """Read what the user says until ``read`` returns None; answer each. A message that cannot be encoded is asked for again.

    When the context is full the oldest turns are left out, and that is said.
    """
    start: Messages = [{"role": "system", "content": system}] if system else []
    turns: Messages = []
    context = sampler.model.config.max_position_embeddings
    # A tiny model's context is short: the answer gets at most a third of it.
    room = min(max_new_tokens, context // 3)
    while (text := read()) is not None:
        if not text.strip():
            continue
        messages = [*turns, user(text)]
        try:
            check_prompt([*start, *messages])
        except MessagesError as error:
            write(f"({error}; please say it again)")
            continue
        while len(encode_prompt(sampler.tokenizer, [*start, *messages]).ids) + room > context and len(messages) > 2:
            messages = messages[2:]
            write("(the context is full; the oldest turn is left out)")
        if len(encode_prompt(sampler.tokenizer, [*start, *messages]).ids) + room > context:
            write(f"(that is longer than the policy's context of {context} tokens; please say less)")
            continue
        response = sampler.sample([[*start, *messages]], 1, temperature, top_p, room, seed)[0][0]
        write(response.text or "(no answer)")
        turns = [*messages, assistant(response.text)] if response.text else messages[:-1]
