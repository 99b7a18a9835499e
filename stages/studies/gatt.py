"""Does an instruction that was given once hold, and what does Ghost Attention cost (paper 3.3, A.3.5)? F15, F16 and F17.

Nothing is sampled here: the dialogues that the policies held lie in their evaluations. To tell what they look at, the policies
read those dialogues once more. That nothing else is lost is seen in the answers to ordinary prompts right before and right
after, and in how often words are still copied out of the prompt.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.consistency_turns import TRAINED, Turn, last_turns, select
from eval.findings.attention import RIGHT_AFTER, WITH, WITHOUT, TurnAttention
from eval.findings.ghost_attention import LATE, consistency_tables, copying_tables, generalises, instruction_holds
from eval.findings.study import Study
from preference_data.messages import Message, Messages, assistant, user
from preference_data.parquet import write_records
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from stages.engine.artifacts import answers_of, parent_digests
from stages.measure.attention import AttentionPart, Transcript, attention_arms
from stages.measure.consistency import read_turns
from stages.measure.copying import read_copies
from stages.measure.study_files import write_study
from stages.stage import Inputs, one
from stages.studies.arms.tuned_arms import family_table, worth_table
from stages.study_sections import GattStudyConfig
from stages.terminal.progress import Progress

ARMS = (WITHOUT, RIGHT_AFTER, WITH)
ATTENTION_FILE = "attention.parquet"
BEFORE, AFTER = "before Ghost Attention", "right after it"
WHAT_HOLDS = "An answer holds when it obeys the whole instruction, by a checker; a silent policy does not."
CONTROL = "Without an instruction, obeying any constraint there is counts; it should stay near zero."


def run(
    config: GattStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    for role in ("consistency", "policies"):
        if len(inputs[role]) != len(ARMS):
            raise ValueError(f"{len(inputs[role])} were given as {role}; give three: {', '.join(ARMS)}")
    evaluations = dict(zip(ARMS, inputs["consistency"], strict=True))
    policies = dict(zip(ARMS, inputs["policies"], strict=True))
    before, after = one(inputs, "before"), one(inputs, "after")
    turn_numbers = _check(evaluations, policies, {WITHOUT: before, RIGHT_AFTER: after})
    held = {arm: read_turns(evaluation) for arm, evaluation in evaluations.items()}
    answers = {BEFORE: answers_of(before), AFTER: answers_of(after)}
    in_system = evaluations[WITHOUT].manifest.config["instruction_in"] == "system"
    looked = _attention(config, policies, held[WITHOUT], turn_numbers, in_system, progress)
    study = Study(
        title="Does an instruction that was given once hold?",
        tables=(
            *consistency_tables(held, turn_numbers),
            *copying_tables({arm: [copy.copied for copy in read_copies(made)] for arm, made in evaluations.items()}),
            worth_table(answers, [(AFTER, BEFORE)]),
            family_table(answers, [(AFTER, BEFORE)]),
            *looked.tables,
        ),
        findings=(instruction_holds(held), generalises(held), looked.finding),
        notes=(_who(policies), WHAT_HOLDS, *_ends(held), CONTROL, *looked.notes),
        facts={"last_turns": {arm: [turn.turn for turn in last_turns(turns)] for arm, turns in held.items()}},
    )
    if looked.rows:
        write_records(out / ATTENTION_FILE, looked.rows, TurnAttention)
    return write_study(study, out, figures=looked.figures)


def transcripts(turns: Sequence[Turn], in_system: bool, last_turn: int) -> list[Transcript]:
    """The dialogues under trained constraints, with the turns up to ``last_turn`` in which something was answered."""
    by_dialogue: dict[int, list[Turn]] = {}
    for turn in select(turns, TRAINED, range(1, last_turn + 1)):
        if turn.response and turn.response.strip():
            by_dialogue.setdefault(turn.dialogue, []).append(turn)
    return [
        Transcript(str(spoken[0].dialogue), spoken[0].instruction, _messages(spoken, in_system))
        for spoken in by_dialogue.values()
    ]


def _messages(spoken: Sequence[Turn], in_system: bool) -> Messages:
    system: list[Message] = [{"role": "system", "content": spoken[0].instruction}] if in_system else []
    messages = [message for turn in spoken for message in (user(turn.user), assistant(turn.response or ""))]
    return [*system, *messages]


def _attention(
    config: GattStudyConfig,
    policies: Mapping[str, Artifact],
    held: Sequence[Turn],
    asked: Sequence[int],
    in_system: bool,
    progress: Progress,
) -> AttentionPart:
    """What the policies look at in the dialogues that the one without Ghost Attention ``held``."""
    last = min(LATE, max(asked))
    whole_dialogues = transcripts(held, in_system, last)
    turns = [turn for turn in asked if turn <= last]
    paths = {arm: policy.path for arm, policy in policies.items()}
    return attention_arms(paths, whole_dialogues, turns, progress, config.attention_dialogues)


def _check(evaluations: Mapping[str, Artifact], policies: Mapping[str, Artifact], answers: Mapping[str, Artifact]) -> list[int]:
    """The turns asked about. Raises ValueError unless the evaluations of a kind differ in the policy alone, and it is the one
    given."""
    for command, kind in (("consistency", evaluations), ("policy", answers)):
        first = kind[WITHOUT]
        for arm, evaluation in kind.items():
            given, measured = policies[arm], evaluation.manifest.parents["policy"][0]
            commands_to_run = [
                f"`rlhf evaluate {command} --policy {policies[policy].reference} --name {kind[policy].reference.name}`"
                for policy in dict.fromkeys((WITHOUT, arm))
            ]
            if given.digest != measured.digest:
                raise ValueError(
                    f"{evaluation.reference} measured {measured.reference}, and the policy {arm} is {given.reference}; measure "
                    f"that one: {commands_to_run[-1]}"
                )
            if _asked(evaluation) != _asked(first):
                raise ValueError(
                    f"{first.reference} and {evaluation.reference} have different settings, seeds, prompts or models; measure "
                    f"both alike: {' and '.join(commands_to_run)}"
                )
    return list(evaluations[WITHOUT].manifest.config["turns"])


def _asked(evaluation: Artifact) -> tuple[Any, ...]:
    """All that an evaluation was made with but the policy."""
    others = {role: digests for role, digests in parent_digests(evaluation).items() if role != "policy"}
    return evaluation.manifest.config, evaluation.manifest.seed, others


def _who(policies: Mapping[str, Artifact]) -> str:
    names = ", ".join(f"{arm} {policy.reference}" for arm, policy in policies.items())
    return f"The same dialogues, held by each policy with its own answers; with and without Ghost Attention: {names}."


def _ends(held: Mapping[str, Sequence[Turn]]) -> list[str]:
    """Where the dialogues ended that went on until the context was full."""
    lines = []
    for arm, turns in held.items():
        if numbers := [turn.turn for turn in last_turns(turns)]:
            lines.append(f"{arm} {min(numbers)} to {max(numbers)}")
    return [f"Dialogues to the end of their context had their last turn at: {'; '.join(lines)}."] if lines else []
