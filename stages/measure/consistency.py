"""Does an instruction hold through a dialogue (paper Table 30)? The policy talks, and each turn is written down.

In the sandbox its own checkers judge, and recall is asked as well. A team gives dialogues, of which the user messages are
taken, and a file of constraints: each has a checker, or a chat policy judges.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import TypeAdapter
from transformers import PreTrainedTokenizerBase

from eval.consistency import ConsistencyDialogue, ConsistencyStats, Obeys, Recall, consistency
from eval.consistency_turns import GROUPS, TRAINED, UNINSTRUCTED, Turn, families, last_turns, recalled, select, share, turns_of
from eval.intervals import Estimate
from gatt.constraint_file import read_constraints
from gatt.constraints import Constraint
from gatt.obedience import Asked, GattError, by_checkers_and_models, states_one_of
from gatt.synthesis import Fits, check_room
from policy.chat import encode_dialogue, encode_prompt
from policy.generation import TransformersSampler
from preference_data.messages import Messages, Role, assistant, user
from preference_data.parquet import read_records, write_records
from preference_data.prompt import Dialogue
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from sandbox import constraints as rules
from stages.engine.models import judge_of, sampler_of
from stages.external_files import check_unchanged
from stages.measure.consistency_dialogues import sandbox_dialogues, team_dialogues
from stages.measure.copying import COPIES_FILE, Copy, copies
from stages.sections import ConsistencyConfig
from stages.stage import Inputs, one
from stages.terminal.progress import Progress
from stages.train.gatt import fits_context
from stages.train.tune import dialogues_of

TURNS_FILE = "turns.parquet"


def run(
    config: ConsistencyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    sampler = sampler_of(inputs, progress, config.kept_tokens)
    context = sampler.model.config.max_position_embeddings
    if config.constraints is None:
        dialogues = sandbox_dialogues(one(inputs, "prompts").manifest.seed, config, seed, context)
        rows = talked(config, dialogues, sampler, sandbox_obeys, seed, progress, states, sandbox_recalls)
        copied = copies(
            sampler, one(inputs, "prompts").manifest.seed, config.num_copied, config.temperature, config.max_new_tokens, seed
        )
    else:
        check_unchanged(config.constraints.file, config.constraints.sha256)
        constraints = read_constraints(Path(config.constraints.file))
        given = _askable([dialogue for artifact in inputs["dialogues"] for dialogue in dialogues_of(artifact)], constraints)
        fits = fits_context(sampler, config.max_new_tokens)
        check_room(constraints, fits)
        dialogues = team_dialogues(given, constraints, config, seed, context)
        obeys = team_obeys(constraints, dialogues, inputs, fits, config.max_new_tokens)
        rows = talked(config, dialogues, sampler, obeys, seed, progress, states)
        copied = []
    write_records(out / TURNS_FILE, rows, Turn)
    if copied:
        write_records(out / COPIES_FILE, copied, Copy)
    return summary(rows, config.turns) | ({"copying": fmean(copy.copied for copy in copied)} if copied else {})


def _askable(given: Sequence[Dialogue], constraints: Sequence[Constraint]) -> list[Dialogue]:
    """Those whose users' words can be said under an instruction, as in training. Raises GattError where there are none."""
    askable = [dialogue for dialogue in given if not dialogue.is_safety and not states_one_of(dialogue, constraints)]
    if not askable:
        raise GattError(f"none of {len(given)} dialogues is without the safety tag and states no constraint; give others")
    return askable


def sandbox_obeys(answers: Sequence[tuple[Any, Messages, str]]) -> list[bool]:
    """The sandbox's checkers, which read the response alone."""
    return [rules.obeys(constraint.family, constraint.value, response) for constraint, _, response in answers]


def team_obeys(
    constraints: Sequence[Constraint],
    dialogues: Sequence[ConsistencyDialogue],
    inputs: Inputs,
    fits: Fits,
    max_new_tokens: int,
) -> Obeys:
    """The constraints' checkers, and the ``judge`` for those without. Raises GattError where one is needed and not given."""
    judged_alone = [dialogue for dialogue in dialogues if dialogue.constraints[0].check is None]
    user_messages = [
        dialogue.user_message(turn) for dialogue in judged_alone for turn in range(1, len(dialogue.user_turns) + 1)
    ]
    judge = judge_of(inputs, constraints, [words for words in user_messages if fits([user(words)])], max_new_tokens)
    judged = by_checkers_and_models(constraints, judge)

    def obeys(answers: Sequence[tuple[Any, Messages, str]]) -> list[bool]:
        return judged([Asked(constraint, [*prompt, assistant(response)], response) for constraint, prompt, response in answers])

    return obeys


def sandbox_recalls(constraint: Any, response: str) -> bool:
    return rules.recalls(constraint, response)


def talked(
    config: ConsistencyConfig,
    dialogues: Sequence[ConsistencyDialogue],
    sampler: TransformersSampler,
    obeys: Obeys,
    seed: int,
    progress: Progress,
    states: SavedStates,
    recalls: Any = None,
    label: str = "consistency",
) -> list[Turn]:
    """Let the policy talk through ``dialogues``, turn by turn, with states saved in ``states``."""

    room = sampler.model.config.max_position_embeddings - config.max_new_tokens
    length = turn_lengths(sampler.tokenizer)
    done = restored_turns(states, sampler)
    recall = Recall(TransformersSampler(sampler.model, sampler.tokenizer, say=progress.say), recalls) if recalls else None
    talk = consistency(
        sampler,
        dialogues,
        obeys,
        lambda prompt: length(prompt) <= room,
        config.turns,
        config.temperature,
        1.0,
        config.max_new_tokens,
        seed,
        done,
        recall,
    )
    rows: list[Turn] = []
    total = None if any(dialogue.to_end for dialogue in dialogues) else max(len(dialogue.user_turns) for dialogue in dialogues)
    for stats in progress.track(_saved(talk, len(done), sampler, states), total, label, "turn"):
        rows += turns_of(dialogues, stats, max(config.turns))
    return rows


def turn_lengths(tokenizer: PreTrainedTokenizerBase) -> Callable[[Messages], int]:
    """How many tokens a prompt has. Turns are encoded one by one, so each is encoded once, however long the dialogue grows."""

    @cache
    def of_turn(*said: tuple[Role, str]) -> int:
        messages: Messages = [{"role": role, "content": content} for role, content in said]
        encode = encode_dialogue if messages[-1]["role"] == "assistant" else encode_prompt
        return len(encode(tokenizer, messages).ids)

    def length(prompt: Messages) -> int:
        messages = [(message["role"], message["content"]) for message in prompt]
        first = 3 if messages[0][0] == "system" else 2
        return of_turn(*messages[:first]) + sum(
            of_turn(*messages[start : start + 2]) for start in range(first, len(messages), 2)
        )

    return length


def _saved(
    talk: Iterator[ConsistencyStats], num_done: int, sampler: TransformersSampler, states: SavedStates
) -> Iterator[ConsistencyStats]:
    """The turns as they come; now and then all of them are saved."""
    history: list[ConsistencyStats] = []
    for stats in talk:
        history.append(stats)
        if stats.turn > num_done and states.due(stats.turn):
            states.save(stats.turn, partial(save_turns, sampler, history))
            states.keep_newest(2)
        yield stats


_STATS = TypeAdapter(list[ConsistencyStats])


def save_turns(sampler: TransformersSampler, turns: list[ConsistencyStats], folder: Path) -> None:
    """With what the sampler keeps of the dialogues: read anew it would be the same but for rounding."""
    (folder / "turns.json").write_bytes(_STATS.dump_json(turns))
    sampler.prefixes.save(folder)


def restored_turns(states: SavedStates, sampler: TransformersSampler) -> list[ConsistencyStats]:
    """The turns of the newest state; ``sampler`` then keeps what it had kept after them."""
    numbers = states.numbers()
    if not numbers:
        return []
    sampler.prefixes.load(states.path(numbers[-1]), sampler.model.device)
    return _STATS.validate_json((states.path(numbers[-1]) / "turns.json").read_bytes())


def read_turns(evaluation: Artifact) -> list[Turn]:
    """What an evaluation of consistency wrote down. Raises ValueError for one that did not."""
    if evaluation.manifest.stage != "evaluate-consistency":
        raise ValueError(
            f"{evaluation.reference} was made by {evaluation.manifest.stage}, not by evaluate-consistency; give one that "
            "`rlhf evaluate consistency` made"
        )
    return read_records(evaluation.file(TURNS_FILE), Turn)


def summary(rows: Sequence[Turn], turn_numbers: Sequence[int]) -> dict[str, Any]:
    """The shares of an evaluation for its manifest: ``obeying`` by group and turn, false obeying in the group ``none``.

    ``context_full``: dialogues that are in none of the shares of a turn, because their context had been full before it.
    """
    last = last_turns(rows)
    return {
        "obeying": {group: _by_turn(select(rows, group), turn_numbers) for group in GROUPS if select(rows, group)},
        "context_full": {
            group: {str(number): sum(row.obeyed is None for row in select(rows, group, (number,))) for number in turn_numbers}
            for group in GROUPS
            if any(row.obeyed is None for row in select(rows, group, turn_numbers))
        },
        "by_family": {
            group: {family: _by_turn(select(rows, group, family=family), turn_numbers) for family in families(rows, group)}
            for group in GROUPS
            if families(rows, group)
        },
        "recall": _by_turn([row for row in select(rows, TRAINED) if row.recalled is not None], turn_numbers, recalled),
        "false_obeying": _value(share(select(rows, UNINSTRUCTED))),
        "last_turn": {"obeying": _value(share(last)), "dialogues": len(last), "turns": [row.turn for row in last]},
    }


def _by_turn(rows: Sequence[Turn], turn_numbers: Sequence[int], pick: Any = None) -> dict[str, float]:
    rows_by_turn = {number: [row for row in rows if row.turn == number] for number in turn_numbers}
    shares = {number: share(turns, pick) if pick else share(turns) for number, turns in rows_by_turn.items()}
    return {str(number): estimate.value for number, estimate in shares.items() if estimate.known}


def _value(estimate: Estimate) -> float | None:
    return estimate.value if estimate.known else None
