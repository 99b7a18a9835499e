"""The sandbox's three data stages: the corpus, the demonstrations, and sets of prompts with the facts behind them.

A set of prompts lies in two files: ``prompts.parquet``, which every stage may read, and ``cases.jsonl``, the facts by which
answers are judged, which only annotators and evaluations open.
"""

import itertools
import random
from pathlib import Path
from typing import Any

from preference_data.parquet import write_records
from preference_data.prompt import Dialogue, Document, Prompt
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from sandbox import corpus as library
from sandbox.constraints import all_constraints
from sandbox.dialogues import PROMPT_WEIGHTS, Case, Questioner, errand_case, helpful_case, read_cases, unique_cases, write_cases
from sandbox.world import World
from stages.sections import CorpusConfig, DemonstrationsConfig, PromptsConfig
from stages.stage import Inputs
from stages.terminal.progress import Progress


def make_corpus(
    config: CorpusConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    documents = library.corpus(World(seed), config.num_documents, seed)
    primer = library.primer(World(seed), config.num_primer_documents, seed)
    write_records(out / "documents.parquet", documents, Document)
    write_records(out / "primer.parquet", primer, Document)
    return {"documents": len(documents), "dialogues": sum(document.messages is not None for document in documents)}


def make_demonstrations(
    config: DemonstrationsConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    dialogues = library.demonstrations(World(seed), config.num_dialogues, config.adversarial_share, seed)
    write_records(out / "dialogues.parquet", dialogues, Dialogue)
    return {"dialogues": len(dialogues)}


def make_prompts(
    config: PromptsConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    world = World(seed)
    rng = random.Random(f"prompts:{config.split}:{seed}")
    questioner = Questioner(world, config.split, PROMPT_WEIGHTS)
    pool = all_constraints()
    source = f"sandbox-{config.split}"

    def helpful() -> Case:
        return helpful_case(questioner, rng, source, pool if rng.random() < config.constrained_share else ())

    taken: set[str] = set()
    cases = []
    for count, what, draw in (
        (config.num_helpful, "helpful", helpful),
        (config.num_adversarial, "adversarial", lambda: errand_case(questioner, rng, source, harmful=True)),
        (config.num_borderline, "borderline", lambda: errand_case(questioner, rng, source, harmful=False)),
    ):
        if count:
            cases += unique_cases((draw() for _ in itertools.count()), count, taken, what)
    write_records(out / "prompts.parquet", [case.prompt for case in cases], Prompt)
    write_cases(out / "cases.jsonl", cases)
    return {"helpful": config.num_helpful, "adversarial": config.num_adversarial, "borderline": config.num_borderline}


def world_of(prompts: Artifact) -> World:
    """The world that a set of prompts speaks of."""
    return World(prompts.manifest.seed)


def cases_of(prompts: Artifact) -> dict[str, Case]:
    """The facts behind a set of prompts, by prompt id."""
    return read_cases(prompts.file("cases.jsonl"))
