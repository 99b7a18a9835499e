"""What do policies look at, late in a dialogue (paper Figure 10)? The part of the study of Ghost Attention that tells F17.

``attention_arms`` has every policy read the same dialogues and gives the finding, a table, the heat maps of one dialogue, and
what was measured of each turn, to be written beside the study.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from eval.findings.attention import WITH, WITHOUT, TurnAttention, attention_tables, late_turns_attend
from eval.findings.attention_figures import AttentionMap, attention_by_turn, attention_heat
from eval.findings.study import Table
from eval.findings.verdict import Finding
from gatt.attention import bin_edges, binned, instruction_attention, maximum_attention
from gatt.token_spans import TokenSpans, token_spans
from policy.checkpoint import load_policy, load_tokenizer
from preference_data.messages import Messages, num_turns
from stages.terminal.progress import Progress

SATURATES = (
    "The maximum is over all layers and heads, as in the paper's Figure 10. It saturates at 1 as soon as one head anywhere "
    "looks at one token of the instruction alone, which two other measures do not."
)
NUM_BINS = 48
"""About how many bins a picture has; it has some more, as no bin reaches over the end of a message."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A dialogue as it was held, under an ``instruction`` that its system message or first user message holds."""

    dialogue: str
    instruction: str
    messages: Messages


@dataclass(frozen=True, slots=True)
class AttentionPart:
    """What a study takes over. ``figures``: SVG by name, those of heat maps side by side in the order of their names.

    ``rows`` are for the study's folder; empty where no dialogue was long enough, and then the finding was not measured.
    """

    finding: Finding
    tables: tuple[Table, ...]
    figures: dict[str, str]
    notes: tuple[str, ...]
    rows: tuple[TurnAttention, ...]


def attention_arms(
    policies: Mapping[str, Path],
    transcripts: Sequence[Transcript],
    turns: Sequence[int],
    progress: Progress,
    limit: int | None = None,
) -> AttentionPart:
    """F17, from every policy's reading of the first ``limit`` of ``transcripts``, up to the last of ``turns``, the table's.

    ``policies``: checkpoints by arm, of which ``without`` and ``with`` are needed and ``right after`` may stand between them.
    ``transcripts``: what the policy ``without`` said; those that end before the last turn are left out, and the notes count
    them and those beyond ``limit``. The heat maps are of the first of the others.

    Raises ValueError for arms that are missing, policies of different tokenizers or that are no Llama, and for an instruction
    that its dialogue does not hold.
    """
    if missing := [arm for arm in (WITHOUT, WITH) if arm not in policies]:
        given = ", ".join(policies) or "none"
        raise ValueError(
            f"attention was asked of the arms {given}, and {' and '.join(missing)} must be among them; give a policy"
        )
    last = max(turns)
    whole = [transcript for transcript in transcripts if num_turns(transcript.messages) >= last > 1]
    held = whole[:limit]
    notes = (_told(len(held), len(whole), len(transcripts), last), SATURATES)
    if not held:
        return AttentionPart(late_turns_attend([]), (), {}, notes, ())
    tokenizers = {arm: load_tokenizer(checkpoint) for arm, checkpoint in policies.items()}
    spans = {transcript.dialogue: shared_spans(tokenizers, _cut(transcript, last)) for transcript in held}
    rows: list[TurnAttention] = []
    figures: dict[str, str] = {}
    for arm, checkpoint in policies.items():
        model, _ = load_policy(checkpoint)
        read = (turn_attention(model, arm, dialogue, arm_spans) for dialogue, arm_spans in spans.items())
        for of_turns in progress.track(read, len(spans), f"attention, {arm}", "dialogue"):
            rows += of_turns
        if arm in (WITHOUT, WITH):
            first = spans[held[0].dialogue]
            shown = attention_map(model, first, bin_size_for(first))
            figures[f"attention-{1 if arm == WITHOUT else 2}-{arm}"] = attention_heat(f"{arm} GAtt", shown)
    figures["attention-by-turn"] = attention_by_turn(rows)
    tables = attention_tables(rows, [turn for turn in turns if turn > 1])
    return AttentionPart(late_turns_attend(rows), tables, figures, notes, tuple(rows))


def bin_size_for(spans: TokenSpans) -> int:
    """How many tokens a bin of some ``NUM_BINS`` has."""
    return -(-len(spans.ids) // NUM_BINS)


def attention_map(model: PreTrainedModel, spans: TokenSpans, bin_size: int) -> AttentionMap:
    """What ``model`` looks at in a dialogue, in bins of ``bin_size`` tokens at most, none of which reaches over the end of a
    message or of the instruction. Raises ValueError as ``maximum_attention`` and ``bin_edges``."""
    edges = bin_edges(spans.parts, bin_size)
    strongest = binned(maximum_attention(model, spans.ids), edges).double().numpy()
    instruction = (edges.index(spans.instruction.start), edges.index(spans.instruction.stop))
    return AttentionMap(strongest, tuple(edges.index(turn.start) for turn in spans.turns), instruction)


def turn_attention(model: PreTrainedModel, arm: str, dialogue: str, spans: TokenSpans) -> list[TurnAttention]:
    """From each turn of a dialogue to its instruction, but for the first, which holds it."""
    measured = instruction_attention(model, spans.ids, spans.turns[1:], spans.instruction)
    return [
        TurnAttention(arm, dialogue, turn, attention.maximum, attention.mean_of_heads, attention.share)
        for turn, attention in enumerate(measured, start=2)
    ]


def shared_spans(tokenizers: Mapping[str, PreTrainedTokenizerBase], transcript: Transcript) -> TokenSpans:
    """The tokens of a transcript, which are those of every policy's tokenizer. Raises ValueError where they are not, and as
    ``token_spans``."""
    found = {
        name: token_spans(tokenizer, transcript.messages, transcript.instruction) for name, tokenizer in tokenizers.items()
    }
    (first, spans), *others = found.items()
    for name, other in others:
        if other.ids != spans.ids:
            raise ValueError(
                f"{first} and {name} read dialogue {transcript.dialogue} as other tokens ({len(spans.ids)} and "
                f"{len(other.ids)}), so what they look at cannot be compared; give policies of one tokenizer"
            )
    return spans


def _cut(transcript: Transcript, last: int) -> Transcript:
    """The first ``last`` turns."""
    system = int(transcript.messages[0]["role"] == "system")
    return replace(transcript, messages=transcript.messages[: system + 2 * last])


def _told(num_read: int, num_whole: int, num_given: int, last: int) -> str:
    if not num_whole:
        return f"Attention was not looked at: of {num_given} dialogues none goes to turn {last} and beyond the first."
    ended = f"; {num_given - num_whole} ended before" if num_given > num_whole else ""
    there_were = f"{num_whole} of {num_given} dialogues that the policy {WITHOUT} GAtt held go to turn {last}{ended}."
    if not num_read:
        return f"Attention was not looked at, as none was asked for: {there_were}"
    return (
        f"Attention is that of each policy reading the same {num_read} dialogues to turn {last}, of which the first is drawn; "
        f"{there_were}"
    )
