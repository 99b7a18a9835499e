"""Ghost Attention dialogues, made with the newest policy (paper 3.3), and ordinary dialogues replayed beside them.

The multi-turn dialogues are strung together from the selected single-turn samples of the rounds so far.
"""

import random
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatt.constraints import Constraint
from gatt.dataset import gatt_dialogues
from gatt.synthesis import GattStats, Synthesised, chain_dialogues, draw_num_turns, synthesise
from preference_data.parquet import write_records
from preference_data.prompt import Dialogue
from registry.saved_states import SavedStates
from rlhf.rejection_sampling import selected_dialogues
from sandbox.constraints import constraints, obeys
from stages.batches import SavedBatches
from stages.load_models import sampler_of, scorer_of
from stages.make_world import cases_of, world_of
from stages.progress import Progress
from stages.sections import GattStageConfig
from stages.stage import Inputs, Stage, one
from stages.tune import samples_of


def run(
    config: GattStageConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    prompts = one(inputs, "prompts")
    cases = cases_of(prompts)
    ordinary = [dialogue for artifact in inputs["samples"] for dialogue in selected_dialogues(samples_of(artifact))]
    single = [
        dialogue
        for dialogue in ordinary
        if len(dialogue.messages) == 2 and not dialogue.is_safety and not cases[dialogue.prompt_id].constraints
    ]
    # Sorted, so that dialogues of one batch are alike in length and little is spent on padding.
    chained = chain_dialogues(single, sorted(draw_num_turns(config, seed)), seed)
    pool = [Constraint(**asdict(rule)) for rule in constraints(world_of(prompts).seed, held_out=False)]
    made: list[Synthesised] = []
    dropped: Counter[str] = Counter()
    done = 0
    saved = SavedBatches(states, GattStats)
    batches = saved.save(
        synthesise(
            chained, pool, sampler_of(inputs, progress), _obeys, config, seed, scorer_of(inputs, "helpfulness"), saved.done
        )
    )
    with progress.meter(len(chained), "ghost attention", "dialogue") as advance:
        for stats in batches:
            made += stats.synthesised
            dropped.update(stats.dropped)
            advance(stats, stats.num_done - done)
            done = stats.num_done
    dialogues = gatt_dialogues(made)
    replayed = random.Random(f"replay:{seed}").sample(ordinary, min(config.num_replayed, len(ordinary)))
    write_records(out / "dialogues.parquet", [*dialogues, *replayed], Dialogue)
    return {"dialogues": len(dialogues), "replayed": len(replayed), "dropped": dict(dropped)}


def _obeys(constraint: Constraint, response: str) -> bool:
    return obeys(constraint.family, constraint.value, response)


STAGE = Stage(
    "gatt",
    "dialogues",
    3,
    GattStageConfig,
    run,
    {"policy": "policy", "helpfulness": "reward_model", "samples": "samples", "prompts": "prompts"},
)
