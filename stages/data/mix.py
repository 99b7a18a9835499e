"""Several preferences mixed into one (paper 3.2.2): the training sides by a mix, the test sides all together.

A dialogue that is held out in one of them is not trained on out of another.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from preference_data.comparison import Comparison
from preference_data.mixture import Mixture, MixtureError, mixture_by_shares, paper_mixture
from preference_data.parquet import read_batches
from preference_data.shuffling import write_in_order
from preference_data.split import dialogue_key
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from stages.data.import_annotations import held_out_dialogues
from stages.sections import MixConfig
from stages.stage import Inputs
from stages.terminal.progress import Progress


def run(config: MixConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates) -> dict[str, Any]:
    """Raises MixtureError for shares that make no mix."""
    sources = [*inputs["own"], *inputs["rest"]] if config.axis else inputs["preferences"]
    held_out = held_out_dialogues(sources)
    ids = [list(_trainable_ids(artifact, held_out)) for artifact in sources]
    mixture = _mixture(config, ids, len(inputs.get("own", ())), seed)
    if not mixture.places:
        raise MixtureError("the mix would be empty; give preferences that hold comparisons to train on")
    write_in_order(out / "train.parquet", [artifact.file("train.parquet") for artifact in sources], mixture.places, Comparison)
    tests = [batch.column("id").to_pylist() for artifact in sources for batch in _batches(artifact, "test", ["id"])]
    places = _first_places(tests)
    write_in_order(out / "test.parquet", [artifact.file("test.parquet") for artifact in sources], places, Comparison)
    return {
        "train": len(mixture.places),
        "test": len(places),
        "drawn": list(mixture.drawn),
        "asked": list(mixture.wanted),
        "shares": list(mixture.shares),
        "repeated": mixture.repeated,
        "held_out_elsewhere": sum(name is None for names in ids for name in names),
    }


def _mixture(config: MixConfig, ids: Sequence[list[str | None]], num_own: int, seed: int) -> Mixture:
    if config.axis is None:
        return mixture_by_shares(ids, config.shares, seed, config.size)
    own, rest = (list(itertools.chain.from_iterable(side)) for side in (ids[:num_own], ids[num_own:]))
    return paper_mixture(config.axis, own, rest, seed)


def _trainable_ids(artifact: Artifact, held_out: set[str]) -> Iterator[str | None]:
    """The ids to train on, in their order; None for those of ``held_out`` dialogues."""
    for batch in _batches(artifact, "train", ["id", "prompt"]):
        for name, prompt in zip(batch.column("id").to_pylist(), batch.column("prompt").to_pylist(), strict=True):
            yield None if dialogue_key(prompt) in held_out else name


def _batches(artifact: Artifact, side: str, columns: Sequence[str]) -> Iterator[Any]:
    return read_batches(artifact.file(f"{side}.parquet"), Comparison, columns)


def _first_places(ids: Sequence[list[str]]) -> list[int]:
    """The places of the ids, one list after the other, each id once."""
    first: dict[str, int] = {}
    for place, name in enumerate(itertools.chain.from_iterable(ids)):
        first.setdefault(name, place)
    return list(first.values())


"""``drawn`` and ``asked`` are of own and rest in the paper's mix, and of each of the preferences in one by shares."""
