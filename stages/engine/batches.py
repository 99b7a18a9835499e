"""Batches of a sampling loop that outlive the process: each is saved when it is done, and read back by the next run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter

from policy.generation import Response, TransformersSampler
from preference_data.messages import Messages
from registry.saved_states import SavedStates

Stats = TypeVar("Stats")


class SavedBatches(Generic[Stats]):
    """The stats records of a loop, one a batch, each with all that the batch made.

    ``done`` is what earlier runs saved, for the loop to yield again and go on after; ``save`` stands between the loop and its
    reader and saves what is new.
    """

    def __init__(self, states: SavedStates, stats_type: type[Stats]):
        self._states = states
        self._json = TypeAdapter(list[stats_type], config=ConfigDict(ser_json_inf_nan="constants"))  # type: ignore[valid-type]
        self.done = list(self._read())

    def _read(self) -> Iterator[Stats]:
        whole = set(self._states.numbers())
        number = 0
        while number in whole:  # up to the first that is torn: what came after it is made again
            yield from self._json.validate_json((self._states.path(number) / "batch.json").read_bytes())
            number += 1

    def save(self, batches: Iterator[Stats]) -> Iterator[Stats]:
        for number, stats in enumerate(batches):
            if number >= len(self.done):
                self._states.save(number, partial(self._write, stats))
            yield stats

    def _write(self, stats: Stats, folder: Path) -> None:
        (folder / "batch.json").write_bytes(self._json.dump_json([stats]))


@dataclass(frozen=True, slots=True)
class AnsweredBatch:
    """One batch of a sampling (``sampling`` counts those of a stage): a response to the prompt at each of ``indices``."""

    sampling: int
    indices: list[int]
    responses: list[Response]


def answer(
    sampler: TransformersSampler,
    prompts: Sequence[Messages],
    temperature: float,
    max_new_tokens: int,
    seed: int,
    done: Sequence[AnsweredBatch],
    sampling: int = 0,
    k: int = 1,
) -> Iterator[AnsweredBatch]:
    """``k`` responses a prompt at top-p 1, batch by batch; those of this sampling that are ``done`` come first, as they are.

    What whole batches leave falls into the batches that it would have been in without an interruption, because they go by the
    length of the prompts: so the responses are equal bit for bit.
    """
    before = [batch for batch in done if batch.sampling == sampling]
    yield from before
    answered = {index for batch in before for index in batch.indices}
    if left := [index for index in range(len(prompts)) if index not in answered]:
        asked = [prompts[index] for index in left]
        for places, groups in sampler.sample_batches(asked, k, temperature, 1.0, max_new_tokens, seed):
            indices = [left[place] for place in places for _ in range(k)]
            yield AnsweredBatch(sampling, indices, [response for group in groups for response in group])
