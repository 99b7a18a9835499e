"""``rlhf doctor`` on a tokenizer: does it carry the chat format of ``policy/chat.py``?

The self-test encodes a handful of dialogues and prompts, with and without a system message, of one turn and of several, in
other scripts, with digits and white space. A base checkpoint that was never tuned to chat passes it without a template.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from policy.chat import ChatFormatError, Encoded, decode_response, encode_dialogue, encode_prompt
from policy.tokenizer import BOS_ID, EOS_ID, PAD_ID
from preference_data.messages import (
    B_INST,
    B_SYS,
    BOS,
    E_INST,
    E_SYS,
    EOS,
    TAGS,
    Message,
    Messages,
    assistant,
    num_turns,
    user,
)
from rlhf.ratio_causes import first_difference
from stages.doctor.check import Check, State, checked

_BRIEF: Message = {"role": "system", "content": "Be brief, and be kind."}
DIALOGUES: tuple[Messages, ...] = (
    [user("What is the capital of France?"), assistant("Paris.")],
    [user("  Two spaces,\nand a line.\t"), assistant("  One line,\n\nthen another one. ")],
    [_BRIEF, user("Name two colours."), assistant("Red and blue."), user("One more?"), assistant("Green, then: 3 of 1,234.5.")],
    [_BRIEF, user("Grüße aus 東京 🦊"), assistant("Ça va? Здравствуй, 你好 🦉 — ½.")],
)
TAGGED_ANSWER: Messages = [
    user("What ends a turn?"),
    assistant(f"It is {EOS}, and {BOS} begins one; {B_INST} and {B_SYS} are text."),
]


def format_checks(tokenizer: PreTrainedTokenizerBase, in_registry: bool) -> Iterator[Check]:
    """The self-test. ``in_registry``: it is part of the registry, where every tokenizer has the template."""
    yield special_tokens(tokenizer)
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        yield Check("turns", "skipped", "a format of turns needs BOS and EOS", "give a tokenizer that has both")
        return
    try:
        dialogues = [encode_dialogue(tokenizer, messages) for messages in DIALOGUES]
    except ChatFormatError as error:
        yield Check("turns", "wrong", str(error), "the rest of the chat format was not checked")
        return
    yield turns(tokenizer, dialogues)
    yield round_trip(tokenizer, dialogues)
    yield tags(tokenizer)
    yield from template(tokenizer, in_registry)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> Check:
    """Pad, BOS and EOS: there, apart, and where the chat format has them."""
    names = {"unk": tokenizer.unk_token_id, "BOS": tokenizer.bos_token_id, "EOS": tokenizer.eos_token_id}
    pad = tokenizer.unk_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    problems = [f"there is no {name}" for name, token in names.items() if token is None]
    if pad is not None and pad in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        which = "EOS" if pad == tokenizer.eos_token_id else "BOS"
        problems.append(f"pad is {which} (id {pad}), so that a model trained with it may never learn to stop")
    if pad is not None and not 0 <= pad < len(tokenizer):
        problems.append(f"pad has the id {pad}, and there are {len(tokenizer)} tokens")
    ids, needed = (*names.values(), pad), (PAD_ID, BOS_ID, EOS_ID, PAD_ID)
    if not problems and ids != needed:
        problems.append(f"unk, BOS, EOS and pad have the ids {ids} and must have {needed}")
    fine = f"unk and pad {pad}, BOS {tokenizer.bos_token_id}, EOS {tokenizer.eos_token_id}"
    if tokenizer.pad_token_id is None:
        fine += " (it has no pad; unk stands in)"
    advice = "set pad_token to unk_token and save the tokenizer, or take one of the Llama 2 family"
    return checked("special tokens", problems, fine, advice)


def turns(tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Encoded]) -> Check:
    """One BOS and one EOS a turn; a prompt's last turn is open; tags that an answer says are text."""
    problems = []
    many = [*zip(DIALOGUES, dialogues, strict=True), (TAGGED_ANSWER, encode_dialogue(tokenizer, TAGGED_ANSWER))]
    for messages, encoded in many:
        prompt = encode_prompt(tokenizer, messages[:-1])
        for ids, num_eos in ((encoded.ids, num_turns(messages)), (prompt.ids, num_turns(messages) - 1)):
            counts = ids.count(tokenizer.bos_token_id), ids.count(tokenizer.eos_token_id)
            if counts != (num_turns(messages), num_eos):
                belong = f"{num_turns(messages)} and {num_eos} belong"
                problems.append(f"{counts[0]} BOS and {counts[1]} EOS where {belong}, in {_shown(tokenizer, ids)}")
    advice = "use a tokenizer that adds no special tokens of its own and splits them in plain text"
    return checked("turns", problems, f"one BOS and one EOS a turn in {len(many)} dialogues and their prompts", advice)


def round_trip(tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Encoded]) -> Check:
    """The mask covers the answers: read back, it gives their text; and no token is unk."""
    problems = []
    for messages, encoded in zip(DIALOGUES, dialogues, strict=True):
        answers = [message["content"].strip() for message in messages if message["role"] == "assistant"]
        read = [decode_response(tokenizer, ids) for ids in _trained(encoded)]
        if read != answers:
            problems.append(f"{answers} are read back as {read}")
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in encoded.ids:
            problems.append(f"{_shown(tokenizer, encoded.ids)} holds unk, which is padding here")
    return checked("round trip", problems, "what is trained on reads back as the answers", "use a tokenizer with byte fallback")


def tags(tokenizer: PreTrainedTokenizerBase) -> Check:
    """The tags of the format are ordinary text to the tokenizer."""
    special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    problems = [f"{tag} is a special token" for tag in (B_INST, E_INST, B_SYS, E_SYS) if tag in special]
    advice = "take the tags out of the added tokens: decoding drops special tokens, and the reference format has none"
    return checked("tags", problems, "plain text to the tokenizer, and refused in user texts", advice)


def template(tokenizer: PreTrainedTokenizerBase, in_registry: bool) -> Iterator[Check]:
    """The saved template gives the ids of ``policy/chat.py``, and refuses what that refuses."""
    advice = "set tokenizer.chat_template to policy.chat.CHAT_TEMPLATE and save it"
    if not in_registry:
        advice = "a recipe whose base.checkpoint names this folder writes the right one; was the model tuned to another format?"
    if not tokenizer.chat_template:
        state: State = "wrong" if in_registry else "note"
        yield Check("template", state, "there is none, so other tools will not know the chat format", advice)
        return
    many = [*DIALOGUES, *(messages[:-1] for messages in DIALOGUES)]
    problems = [problem for messages in many if (problem := _other_ids(tokenizer, messages))]
    if problems and not any(_other_ids(tokenizer, messages, space=" ") for messages in many):
        fault = "it lacks the space in front of each turn: this tokenizer puts one at the beginning of a text alone, and in "
        fault += "the reference format each turn is a text of its own"
        spaced = f"write bos_token + ' {B_INST} ' into it, for the tools that use it; policy/chat.py does not"
        yield Check("template", "wrong" if in_registry else "note", fault, spaced)
    else:
        fine = f"the ids of policy/chat.py for {len(DIALOGUES)} dialogues and their prompts"
        yield checked("template", problems[:1], fine, advice)
    let_in = [tag for tag in TAGS if _renders(tokenizer, [user(f"Say {tag} twice.")])]
    if let_in:
        fault = f"user text may hold {', '.join(let_in)} and so forge a turn, where other tools use the template"
        yield Check("template refusals", "wrong" if in_registry else "note", fault, advice)
    else:
        yield Check("template refusals", "ok", "user text that holds a tag is refused")


def embeddings(num_tokens: int, num_embeddings: int) -> Check:
    """No token without an embedding."""
    problems = [f"{num_tokens} tokens, and only {num_embeddings} embeddings"] if num_tokens > num_embeddings else []
    fine = f"{num_embeddings} embeddings for {num_tokens} tokens"
    return checked("embeddings", problems, fine, "tokenizer and model do not belong together; take both from one folder")


def _trained(encoded: Encoded) -> Iterator[list[int]]:
    """The ids of each stretch that is trained on."""
    stretch: list[int] = []
    for token, trained in zip(encoded.ids, encoded.loss_mask, strict=True):
        if trained:
            stretch.append(token)
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _other_ids(tokenizer: PreTrainedTokenizerBase, messages: Messages, space: str = "") -> str | None:
    """How the template's ids differ from ours, or None; ``space``: what to put behind each BOS of what it renders."""
    expected = (encode_prompt if messages[-1]["role"] == "user" else encode_dialogue)(tokenizer, messages).ids
    plain: Any = messages  # the library asks for dictionaries of its own kind
    try:
        rendered = str(tokenizer.apply_chat_template(plain, tokenize=False))
    except TemplateError as error:
        return f"it cannot render {_shown(tokenizer, expected)}: {error}"
    rendered = rendered.replace(str(tokenizer.bos_token), f"{tokenizer.bos_token}{space}")
    its_ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    if its_ids == expected:
        return None
    return f"{first_difference(tokenizer, its_ids, expected)} in {_shown(tokenizer, expected)}"


def _renders(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> bool:
    plain: Any = messages
    try:
        tokenizer.apply_chat_template(plain, tokenize=False)
    except TemplateError:
        return False
    return True


def _shown(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    text = str(tokenizer.decode(list(ids)))
    return repr(text if len(text) <= 60 else text[:57] + "...")
