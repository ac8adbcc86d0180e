"""In which order an epoch's requests come: a pure function of (seed, epoch, plan).

A permutation of the units; then, in each window of W consecutive units, a permutation of the window's requests, in
which equal users may be kept apart (feature_reader.users). Both permutations sort Philox words (a counter-based
generator whose bits numpy promises to keep, as it does not for `permutation`), so a position can be entered anywhere
without replaying what came before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feature_reader.users import spread

UNITS, REQUESTS = 0, 1  # streams of the generator


class Order:
    """The order of one epoch over units with `counts` requests each.

    Position p lies in window `window_at(p)`; a window covers positions `starts[k]:starts[k + 1]`. With `users` (of each
    unit's requests) any `least_users` neighbours within a window are of as many users, where the window allows it.
    """

    def __init__(
        self,
        counts: np.ndarray,
        *,
        window: int,
        seed: int,
        epoch: int,
        shuffle: bool,
        users: Sequence[np.ndarray] = (),
        least_users: int = 0,
    ) -> None:
        self._counts, self._window, self._shuffle = counts, window, shuffle
        self._users, self.least_users = users, least_users
        self._latest: tuple[int, np.ndarray] | None = None
        self._key = np.array([seed % (1 << 64), epoch], dtype=np.uint64)
        units = len(counts)
        self.units = self._permutation(units, UNITS, 0) if shuffle else np.arange(units)
        """The units in the epoch's order, int64 [units]."""
        edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[self.units])])
        self.starts = edges[np.unique(np.r_[np.arange(0, units + 1, window), units])]
        """First position of each window, and the number of requests: int64 [windows + 1]."""

    @property
    def windows(self) -> int:
        """Number of windows."""
        return len(self.starts) - 1

    @property
    def requests(self) -> int:
        """Number of requests."""
        return int(self.starts[-1])

    def window_at(self, position: int) -> int:
        """The window that holds a position."""
        return int(np.searchsorted(self.starts, position, side="right")) - 1

    def units_of(self, k: int) -> np.ndarray:
        """The units of window k, int64."""
        return np.asarray(self.units[k * self._window : (k + 1) * self._window])

    def requests_of(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The requests of window k in order: slot in `units_of(k)`, and number within the unit; int64 [n] each."""
        counts = self._counts[self.units_of(k)]
        slots = np.repeat(np.arange(len(counts)), counts)
        numbers = np.arange(len(slots)) - np.repeat(np.cumsum(counts) - counts, counts)
        if not self._shuffle:
            return slots, numbers
        order = self._within(k, len(slots))
        return slots[order], numbers[order]

    def users_of(self, k: int) -> np.ndarray:
        """The user of each request of window k in order, int64 [n]; for an order with `users`."""
        users = np.concatenate([self._users[u] for u in self.units_of(k)])
        return np.asarray(users[self._within(k, len(users))])

    def _within(self, k: int, requests: int) -> np.ndarray:
        """The order of a window's requests; the latest is remembered, since users are spread one request at a time."""
        if self._latest is None or self._latest[0] != k:
            order = self._permutation(requests, REQUESTS, k)
            if self.least_users > 1:
                order = spread(np.concatenate([self._users[u] for u in self.units_of(k)]), order, self.least_users)
            self._latest = (k, order)
        return self._latest[1]

    def sizes(self, of_units: Sequence[np.ndarray]) -> np.ndarray:
        """The size of each request in the epoch's order, int64 [requests], from those of each unit's requests."""
        parts = [np.zeros(0, np.int64)]
        for k in range(self.windows):
            slots, numbers = self.requests_of(k)
            edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(self._counts[self.units_of(k)])])
            parts.append(np.concatenate([of_units[u] for u in self.units_of(k)])[edges[slots] + numbers])
        return np.concatenate(parts)

    def _permutation(self, n: int, stream: int, index: int) -> np.ndarray:
        bits = np.random.Philox(key=self._key, counter=np.array([0, 0, index, stream], dtype=np.uint64))
        return np.argsort(bits.random_raw(n), kind="stable")
