"""Ghost Attention dialogues, made with the newest policy (paper 3.3), and ordinary dialogues replayed beside them.

The dialogues that get an instruction are selected samples of the rounds so far, given dialogues, or both. What is replayed is
drawn from these, and with it goes every demonstration of a family that is not among them. The constraints are those of a file,
or the sandbox's; what the policy cannot obey in a single turn is left out, and nothing is replayed that states a held-out one.
Dialogues with the safety tag get no instruction, nor do those that state a constraint already.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gatt.constraint_file import read_constraints
from gatt.constraints import Constraint
from gatt.dataset import gatt_dialogues
from gatt.dialogues import chain_dialogues, draw_num_turns, given_dialogues
from gatt.obedience import GattError, Obeys, by_checkers_and_models, by_rule, states_one_of, with_instruction
from gatt.probe import Probed, obeyed, probe
from gatt.synthesis import Fits, GattStats, Synthesised, check_constraints, synthesise
from policy.chat import encode_dialogue, encode_prompt
from policy.generation import TransformersSampler
from policy.tokenizer import longest_text
from preference_data.messages import Messages, assistant, num_turns
from preference_data.parquet import write_records
from preference_data.prompt import Dialogue
from registry.saved_states import SavedStates
from reward_model.scoring import BatchScorer, Scorer
from rlhf.rejection_sampling import selected_dialogues
from sandbox import constraints as rules
from stages.data.make_world import world_of
from stages.engine.batches import SavedBatches
from stages.engine.models import judge_of, sampler_of, scorer_of
from stages.external_files import check_unchanged
from stages.sections import GattStageConfig
from stages.stage import Inputs, one
from stages.terminal.progress import Progress
from stages.train.tune import dialogues_of, samples_of, unsampled


def run(
    config: GattStageConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    ordinary = [dialogue for artifact in inputs.get("samples", []) for dialogue in selected_dialogues(samples_of(artifact))]
    ordinary += [dialogue for artifact in inputs.get("dialogues", []) for dialogue in dialogues_of(artifact)]
    everything = _constraints(config, inputs)
    pool = [constraint for constraint in everything if not constraint.held_out]
    dialogues, changed = _to_instruct(config, ordinary, everything, seed)
    scorer = scorer_of(inputs, "helpfulness") if inputs.get("helpfulness") else None
    sampler = sampler_of(inputs, progress)
    fits = fits_context(sampler, config.max_new_tokens, scorer)
    check_constraints(pool, fits)
    texts = [message["content"] for dialogue in dialogues for message in (dialogue[0], dialogue[-2]) if fits([message])]
    obeys = _obeys(config, inputs, pool, texts, scorer)
    longest = longest_text(
        sampler.tokenizer, [words for constraint in pool for words in (constraint.instruction, constraint.terse)]
    )
    turns = [dialogue[:2] for dialogue in dialogues if fits(with_instruction(dialogue[:2], longest))]
    kept, left_out = _probed(states, lambda: probe(pool, turns, sampler, obeys, config, seed), config, progress)
    made: list[Synthesised] = []
    dropped: Counter[str] = Counter()
    saved = SavedBatches(states, GattStats)
    batches = saved.save(synthesise(dialogues, kept, sampler, obeys, fits, config, seed, scorer, saved.done))
    with progress.meter(len(dialogues), "ghost attention", "dialogue") as advance:
        for stats in batches:
            dropped.update(stats.dropped)
            advance(stats, len(stats.synthesised))
            made += stats.synthesised
    instructed = gatt_dialogues(made, config.instruction_in)
    held_out = [constraint for constraint in everything if constraint.held_out]
    free = [dialogue for dialogue in ordinary if not states_one_of(dialogue, held_out)]
    replayed = random.Random(f"replay:{seed}").sample(free, min(config.num_replayed, len(free)))
    demonstrations = [dialogue for artifact in inputs.get("demonstrations", []) for dialogue in dialogues_of(artifact)]
    beside = [dialogue for dialogue in unsampled(demonstrations, ordinary) if not states_one_of(dialogue, held_out)]
    write_records(out / "dialogues.parquet", [*instructed, *replayed, *beside], Dialogue)
    return {
        "dialogues": len(instructed),
        "replayed": len(replayed),
        "demonstrations": len(beside),
        "dropped": dict(dropped),
        "too_long": sum(batch.too_long for batch in made),
        "not_as_given": dict(changed),
        "constraints": len(kept),
        "constraints_left_out": [probed.told() for probed in left_out],
    }


def fits_context(sampler: TransformersSampler, max_new_tokens: int, scorer: BatchScorer | None = None) -> Fits:
    """Does a prompt with so many tokens more, or a whole dialogue, fit the policy's context, and what ``scorer`` takes?

    An answer to come counts as long in the scorer's tokens as in the policy's.
    """
    context = sampler.model.config.max_position_embeddings

    def fits(messages: Messages) -> bool:
        to_come = max_new_tokens if messages[-1]["role"] == "user" else 0
        encode = encode_prompt if to_come else encode_dialogue
        if len(encode(sampler.tokenizer, messages).ids) + to_come > context:
            return False
        whole = [*messages, assistant(".")] if to_come else messages
        return scorer is None or len(scorer.encode([whole])[0]) + to_come <= scorer.max_length

    return fits


def _to_instruct(
    config: GattStageConfig, ordinary: Sequence[Dialogue], constraints: Sequence[Constraint], seed: int
) -> tuple[list[Messages], Counter[str]]:
    """The dialogues that get an instruction, and how many of those there were are not used as they were given.

    Sorted by turns, so that dialogues of one batch are alike in length and little is spent on padding.
    """
    left_out: Counter[str] = Counter()
    free = []
    for dialogue in ordinary:
        if dialogue.is_safety:
            left_out["safety tag"] += 1
        elif states_one_of(dialogue, constraints):
            left_out["states a constraint"] += 1
        else:
            free.append(dialogue)
    if not free:
        raise GattError(f"none of {len(ordinary)} dialogues can get an instruction ({_counted(left_out)}); give others")
    if config.multi_turn == "given":
        given, changed = given_dialogues(free, config, seed)
        return sorted(given, key=num_turns), left_out + changed
    single = [dialogue for dialogue in free if len(dialogue.messages) == 2]
    left_out["no single turn"] += len(free) - len(single)
    return chain_dialogues(single, sorted(draw_num_turns(config, seed)), seed), +left_out


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{what}: {count}" for what, count in counts.items())


def _constraints(config: GattStageConfig, inputs: Inputs) -> list[Constraint]:
    """Those of the file, or of the sandbox, held-out ones too. Raises GattError where there is neither."""
    if config.constraints is None:
        if not inputs.get("prompts"):
            raise GattError(
                "there are no constraints: give a file of them (--constraints FILE), or the sandbox's prompts (--prompts REF), "
                "whose world has constraints of its own"
            )
        seed = world_of(one(inputs, "prompts")).seed
        return [
            Constraint(**asdict(rule), held_out=held_out)
            for held_out in (False, True)
            for rule in rules.constraints(seed, held_out)
        ]
    check_unchanged(config.constraints.file, config.constraints.sha256)
    return read_constraints(Path(config.constraints.file))


def _obeys(
    config: GattStageConfig, inputs: Inputs, pool: Sequence[Constraint], answers: Sequence[str], scorer: Scorer | None
) -> Obeys:
    """The sandbox knows whether its own constraints are obeyed; those of a file have checkers or are judged.

    ``asked``: the users' messages to which answers are judged: a dialogue's first, which the probe asks, and its last.
    """
    if config.constraints is None:
        return by_rule(lambda constraint, response: rules.obeys(constraint.family, constraint.value, response))
    judge = judge_of(inputs, pool, answers, config.max_new_tokens)
    return by_checkers_and_models(pool, judge, scorer)


def _probed(
    states: SavedStates, probed: Callable[[], list[Probed]], config: GattStageConfig, progress: Progress
) -> tuple[list[Constraint], list[Probed]]:
    """(constraints to synthesise with, those left out, which are told); a probe that an earlier run saved is not made again."""
    saved = SavedBatches(SavedStates(states.root / "probe", states.say, states.every), Probes)
    (probes,) = saved.done or [Probes(probed())]
    kept, left_out = obeyed(probes.probed, config.min_obedience)
    list(saved.save(iter([probes])))  # once it is known that there is something to continue with
    if left_out:
        progress.say(
            f"{len(left_out)} of {len(probes.probed)} constraints are left out, as too few single-turn answers obey them: "
            f"{', '.join(probed.told() for probed in left_out[:8])}{', ...' * (len(left_out) > 8)}"
        )
    return kept, left_out


@dataclass(frozen=True, slots=True)
class Probes:
    """What the constraints were worth in a single turn."""

    probed: list[Probed]
