"""``rlhf attention``: what policies look at in one dialogue of a file (paper Figure 10)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from eval.findings.attention import TurnAttention
from eval.findings.attention_figures import AttentionMap
from eval.report.attention_page import AttentionPage
from policy.checkpoint import load_policy, load_tokenizer
from preference_data.files.opening import check_file, file_type
from preference_data.files.reading import read_rows
from preference_data.rows_to_score import ALONE, DIALOGUES, Scorable, scorables
from registry.store import Registry
from stages.measure.attention import Transcript, attention_map, bin_size_for, shared_spans, turn_attention


@dataclass(frozen=True, slots=True)
class Reader:
    """A policy that reads: what it is called, and its folder."""

    name: str
    path: Path


def reader_of(registry: Registry, text: str) -> Reader:
    """A policy of the registry, or a Hugging Face folder, which is called by its name and that of the one it lies in.

    Raises RegistryError.
    """
    folder = Path(text).expanduser()
    if (folder / "config.json").is_file():
        return Reader("/".join(folder.resolve().parts[-2:]), folder)
    artifact = registry.open(text, kind="policy")
    return Reader(str(artifact.reference), artifact.path)


def transcript_in(file: Path, number: int, instruction: str | None) -> Transcript:
    """The dialogue in row ``number`` (from 1) of a file that ``rlhf score`` reads.

    Its instruction is ``instruction``, or else the row's own field of that name, or its system message. Raises
    AnnotationFileError, and ValueError for a row that there is not or that is no dialogue, and where nothing says what the
    instruction is.
    """
    check_file(file)
    row = next(islice(read_rows(file), number - 1, number), None)
    if row is None:
        raise ValueError(
            f"row {number} of {file} was asked for, and it has {sum(1 for _ in read_rows(file))} rows; give one of them"
        )
    scorable = next(scorables(row, DIALOGUES, file_type(file) == "csv", ["helpfulness"]))
    if not isinstance(scorable, Scorable):
        raise ValueError(f"row {number} of {file} is not a dialogue: {scorable}")
    messages = scorable.dialogues[ALONE]
    system = messages[0]["content"] if messages[0]["role"] == "system" else None
    held = instruction or scorable.fields.get("instruction") or system
    if not isinstance(held, str):
        raise ValueError(
            f"row {number} of {file} has neither a system message nor a field `instruction`; say which words of its first "
            "message are the instruction: --instruction TEXT"
        )
    return Transcript(f"{file.name}, row {number}", held, messages)


def attention_page(readers: Sequence[Reader], transcript: Transcript, bin_size: int | None) -> AttentionPage:
    """What each policy looks at. Raises ValueError for two policies of one name or of different tokenizers, for one that is no
    Llama, and for a dialogue that does not fit its context or does not hold its instruction."""
    if len({reader.name for reader in readers}) < len(readers):
        raise ValueError(f"both policies are called {readers[0].name}; give two different ones")
    spans = shared_spans({reader.name: load_tokenizer(reader.path) for reader in readers}, transcript)
    size = bin_size or bin_size_for(spans)
    maps: dict[str, AttentionMap] = {}
    rows: list[TurnAttention] = []
    for reader in readers:
        model, _ = load_policy(reader.path, "auto")
        maps[reader.name] = attention_map(model, spans, size)
        rows += turn_attention(model, reader.name, transcript.dialogue, spans)
    return AttentionPage(
        transcript.dialogue, transcript.instruction, transcript.messages, len(spans.ids), size, maps, tuple(rows)
    )
