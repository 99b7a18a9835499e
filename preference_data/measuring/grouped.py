"""Sums of rows by group, and exact counts of the ids that are distinct in each group, a batch of rows at a time."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from preference_data.measuring.columns import Flags, Ids, Integers, Numbers


class Groups:
    """Sums and ids by the place of their group. Sums are exact below 2^53; ids take 12 bytes a row."""

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._distinct: dict[str, Distinct] = defaultdict(Distinct)

    def add(
        self,
        places: Integers,
        num_groups: int,
        measures: Mapping[str, Numbers],
        distinct: Mapping[str, tuple[Ids, Flags]],
    ) -> None:
        """Add rows. ``places``: of their groups, below ``num_groups``; ``distinct``: ids, and which of them count."""
        for name, values in measures.items():
            sums: NDArray[np.float64] = np.bincount(places, values, num_groups).astype(np.float64)
            before = self._sums.get(name, sums[:0])
            sums[: len(before)] += before
            self._sums[name] = sums
        for name, (ids, counts) in distinct.items():
            self._distinct[name].add(places[counts], ids[counts])

    def sums(self, place: int) -> dict[str, float]:
        """The sum of each measure over a group; 0 where nothing was added."""
        return defaultdict(float, {name: sums[place].item() for name, sums in self._sums.items()})

    def distinct(self, place: int) -> dict[str, int]:
        """How many distinct ids of each name a group has; 0 where nothing was added."""
        return defaultdict(int, {name: distinct.count(place) for name, distinct in self._distinct.items()})


class Distinct:
    """Which ids each group has."""

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[np.int32], Ids]] = []
        self._counts: Integers | None = None

    def add(self, places: Integers, ids: Ids) -> None:
        self._parts.append(_once(places.astype(np.int32), ids))
        self._counts = None

    def count(self, place: int) -> int:
        """How many ids are distinct in a group."""
        if self._counts is None:
            self._parts = [_once(*(np.concatenate(arrays) for arrays in zip(*self._parts, strict=True)))]
            self._counts = np.bincount(self._parts[0][0])
        return int(self._counts[place]) if place < len(self._counts) else 0


def _once(places: NDArray[np.int32], ids: Ids) -> tuple[NDArray[np.int32], Ids]:
    """The distinct pairs of a group and an id, sorted."""
    order = np.lexsort((ids, places))
    places, ids = places[order], ids[order]
    is_new = np.ones(len(places), dtype=np.bool_)
    is_new[1:] = (places[1:] != places[:-1]) | (ids[1:] != ids[:-1])
    return places[is_new], ids[is_new]
