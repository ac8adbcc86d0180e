"""Data that cannot be read, and how much of it a reader may leave out: none, unless `skip_bad_requests` says so.

A row group that is lost takes its requests from their batches and nothing else: the order, the steps and their number
stay, so that ranks stay in step whoever meets the damage. What is lost is counted once in the state, logged, and
counted in `stats` each time a batch lacks it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from feature_reader.batch import RequestBatch
from feature_reader.errors import DataFileError
from feature_reader.files import bare_path

WHOLE_FILE = -1
log = logging.getLogger(__name__)


class Damage:
    """Which requests could not be read. Safe to use from several threads."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self._lost: dict[tuple[str, int], np.ndarray] = {}
        self._known: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    @property
    def requests(self) -> int:
        """Requests lost so far, each counted once."""
        return sum(self._known.values())

    @property
    def units(self) -> list[list[Any]]:
        """[file, row group (-1: all), requests lost] of each place, for a state."""
        return [list(place) for place in self.places]

    @property
    def places(self) -> list[tuple[str, int, int]]:
        """The same, as a batch carries it."""
        return [(path, group, count) for (path, group), count in sorted(self._known.items())]

    def load(self, units: Iterable[Iterable[Any]]) -> None:
        """Take up what a state knows to be lost: met again, it is not counted again."""
        for path, group, count in units:
            key = (str(path), int(group))
            self._known[key] = max(int(count), self._known.get(key, 0))

    def take(self, units: Iterable[Iterable[Any]]) -> None:
        """Take up what another process has lost of the same plan; raises DataFileError if that is too much together.

        Of a row group that processes read in slices the greatest loss counts, not the union.
        """
        with self._lock:
            self.load(units)
            if self.requests > self.allowed:
                places = ", ".join(f"{path}, row group {group}" for path, group in sorted(self._known))
                raise DataFileError(
                    f"the worker processes together lost {self.requests} requests, skip_bad_requests allows "
                    f"{self.allowed}: they are of {places}"
                )

    def lose(self, path: str, group: int, rows: np.ndarray, error: DataFileError) -> None:
        """Leave out these rows of a row group (`WHOLE_FILE`: of a file); raises the error if that is too much."""
        key = (bare_path(path), group)
        with self._lock:
            lost = np.union1d(self._lost.get(key, rows[:0]), rows)
            new = max(0, len(lost) - self._known_of(key))
            if self.requests + new > self.allowed:
                raise self._refusal(new, error)
            self._lost[key] = lost
            if not new:
                return
            if group == WHOLE_FILE:
                self._known = {place: n for place, n in self._known.items() if place[0] != key[0]}
            self._known[key] = len(lost)
        log.warning("%d requests left out (%d of %d allowed): %s", new, self.requests, self.allowed, error)

    def read(self, path: str, group: int, rows: np.ndarray) -> None:
        """These rows could be read: if they could not before, batches have them from now on. What was counted stays."""
        key = (bare_path(path), group)
        if key in self._lost:
            with self._lock:
                self._lost[key] = np.setdiff1d(self._lost[key], rows)

    def _known_of(self, key: tuple[str, int]) -> int:
        """Requests of this place that are counted already: of a file those of its row groups too."""
        path, group = key
        return sum(n for place, n in self._known.items() if place == key or (group == WHOLE_FILE and place[0] == path))

    def _refusal(self, new: int, error: DataFileError) -> DataFileError:
        if self.allowed == 0:
            return error
        total = self.requests + new
        return DataFileError(
            f"{str(error).strip()}. With it {total} requests are bad, skip_bad_requests allows {self.allowed}"
        )

    def rows(self, path: str, group: int) -> np.ndarray | None:
        """Rows of a row group that are lost, ascending; None for none."""
        return self._lost.get((bare_path(path), group)) if self._lost else None


def decode_around(
    decode: Callable[[pa.Table], RequestBatch], table: pa.Table
) -> tuple[RequestBatch | None, np.ndarray]:
    """Decode a table that breaks a promise: all rows, the bad ones as repeats of a good one, and which these are.

    Halves what cannot be decoded until the bad rows stand alone. None where no row is good.
    """
    parts: list[tuple[int, RequestBatch]] = []
    bad: list[int] = []

    def halve(start: int, stop: int) -> None:
        try:
            parts.append((start, decode(table.slice(start, stop - start))))
        except DataFileError:
            if stop - start == 1:
                bad.append(start)
                return
            middle = (start + stop) // 2
            halve(start, middle)
            halve(middle, stop)

    try:
        decode(table.slice(0, 0))
        halve(0, table.num_rows)
    except DataFileError:  # whatever the rows
        return None, np.arange(table.num_rows)
    if not parts:
        return None, np.array(bad)
    stand_in = parts[0][1].slice(0, 1)
    whole = sorted([*parts, *((row, stand_in) for row in bad)], key=lambda part: part[0])
    return RequestBatch.concat([batch for _, batch in whole]), np.array(bad)
