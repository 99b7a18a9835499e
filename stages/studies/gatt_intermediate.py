"""What are the answers before the last in Ghost Attention's data (paper 3.3)? An ablation, and no claim of the paper.

The paper leaves open whether they are those that were there (``original``) or are sampled under the instruction too
(``resampled``). Both are made from one policy with the same dialogues, instructions, reward model and seed; both policies then
hold the same dialogues and answer the same prompts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.consistency_turns import HELD_OUT, TRAINED, UNINSTRUCTED, Turn, difference, select, share
from eval.findings.study import Row, Study, Table
from eval.intervals import Estimate, bootstrap_ratio
from preference_data.messages import Messages
from preference_data.prompt import Dialogue
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from stages.engine.artifacts import answers_of, parent_digests
from stages.measure.consistency import read_turns
from stages.measure.study_files import write_study
from stages.references import READINGS
from stages.stage import Inputs
from stages.studies.arms.tuned_arms import family_table, worth_table
from stages.study_sections import GattIntermediateStudyConfig
from stages.terminal.progress import Progress
from stages.train.tune import dialogues_of

ORIGINAL, RESAMPLED = READINGS
_BETWEEN = f"{RESAMPLED} - {ORIGINAL}"
AGREEMENT = (
    "Intermediate answers agree where they are word for word the same; only dialogues that both readings kept are compared."
)


def run(
    config: GattIntermediateStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    _check(inputs)
    dialogues = _by_reading(inputs, "dialogues", gatt_dialogues_of)
    turns = _by_reading(inputs, "consistency", read_turns)
    answers = _by_reading(inputs, "evaluations", answers_of)
    agreement = intermediate_agreement(dialogues[ORIGINAL], dialogues[RESAMPLED])
    kept = ", ".join(f"{reading} {len(kept_dialogues)}" for reading, kept_dialogues in dialogues.items())
    study = Study(
        title="Ghost Attention: are the intermediate answers kept, or sampled anew?",
        tables=(
            *consistency_tables(turns, inputs["consistency"][0].manifest.config["turns"]),
            Table("Intermediate answers of the training dialogues", ("word for word alike",), (
                Row("both readings", {"word for word alike": agreement}),
            )),
            worth_table(answers, [(RESAMPLED, ORIGINAL)]),
            family_table(answers, [(RESAMPLED, ORIGINAL)]),
        ),
        findings=(),
        notes=("An ablation; the paper makes no claim of it.", f"Training dialogues kept: {kept}.", AGREEMENT),
    )  # fmt: skip
    return write_study(study, out) | {"alike": agreement.value if agreement.known else None}


def consistency_tables(turns: Mapping[str, Sequence[Turn]], turn_numbers: Sequence[int]) -> list[Table]:
    """Obeying of each group that was held, at the turns ``asked``, and how much more of the resampled reading."""
    titles = {
        TRAINED: "Obeying, constraints that were trained",
        HELD_OUT: "Obeying, held-out constraints",
        UNINSTRUCTED: "Obeying without an instruction (false obeying)",
    }
    tables = []
    for group, title in titles.items():
        of = {reading: select(rows, group) for reading, rows in turns.items()}
        if of[ORIGINAL]:
            at = {f"turn {number}": number for number in turn_numbers if _at(of[ORIGINAL], number)}
            rows = [
                Row(reading, {column: share(_at(mine, number)) for column, number in at.items()})
                for reading, mine in of.items()
            ]
            apart = {column: difference(_at(of[RESAMPLED], number), _at(of[ORIGINAL], number)) for column, number in at.items()}
            tables.append(Table(title, tuple(at), (*rows, Row(_BETWEEN, apart))))
    return tables


def intermediate_agreement(original: Sequence[Dialogue], resampled: Sequence[Dialogue]) -> Estimate:
    """Share of intermediate answers that are the same in both, over dialogues in which the user says the same."""
    others = {_said(dialogue.messages): dialogue.messages for dialogue in resampled}
    same, dialogues = [], []
    for number, dialogue in enumerate(original):
        if other := others.get(_said(dialogue.messages)):
            pairs = [pair for pair in zip(dialogue.messages, other, strict=True) if pair[0]["role"] == "assistant"][:-1]
            same += [float(mine["content"] == theirs["content"]) for mine, theirs in pairs]
            dialogues += [number] * len(pairs)
    return bootstrap_ratio(same, [1.0] * len(same), dialogues)


def gatt_dialogues_of(artifact: Artifact) -> list[Dialogue]:
    """The dialogues of Ghost Attention in an artifact, without those that are replayed beside them."""
    return [dialogue for dialogue in dialogues_of(artifact) if dialogue.source == "gatt"]


def _at(turns: Sequence[Turn], number: int) -> list[Turn]:
    return [turn for turn in turns if turn.turn == number]


def _said(messages: Messages) -> tuple[str, ...]:
    """What the user, and the system, say."""
    return tuple(message["content"] for message in messages if message["role"] != "assistant")


def _by_reading(inputs: Inputs, role: str, read: Any) -> dict[str, Any]:
    return {reading: read(artifact) for reading, artifact in zip(READINGS, inputs[role], strict=True)}


def _check(inputs: Inputs) -> None:
    """Raise ValueError unless the two sets of dialogues are made alike but for the reading, in the order of READINGS."""
    given = inputs["dialogues"]
    configs = [dict(artifact.manifest.config) for artifact in given]
    readings = [config.pop("intermediate", None) for config in configs]
    parents = [parent_digests(artifact) for artifact in given]
    names = " and ".join(str(artifact.reference) for artifact in given)
    if readings != list(READINGS):
        raise ValueError(f"{names} were made with intermediate {readings}; give that of {ORIGINAL} first, then of {RESAMPLED}")
    if configs[0] != configs[1] or parents[0] != parents[1] or given[0].manifest.seed != given[1].manifest.seed:
        raise ValueError(
            f"{names} differ in more than gatt.intermediate (their settings, what they were made of, or their seed), so they "
            "cannot be compared; make both with `rlhf study gatt-intermediate`"
        )
