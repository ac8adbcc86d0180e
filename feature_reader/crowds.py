"""How many users each rank's batch of a step holds, and how the step is dealt for it.

Dealt by unit, a rank decodes its share of a window; but a unit of few users may then make a batch of them. Such a step
is dealt in runs of the order instead, whose neighbours are of different users.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from feature_reader.order import Order

if TYPE_CHECKING:
    from feature_reader.schedule import Steps


class Crowds:
    """Of the steps of one order, which knows its users."""

    def __init__(self, order: Order, steps: Steps, world_size: int) -> None:
        self._order, self._steps, self._world_size = order, steps, world_size
        self._latest: tuple[int, bool, np.ndarray] | None = None

    def by_unit(self, step: int) -> bool:
        """Whether every rank's batch has users enough where the step is dealt by unit, or no fewer than otherwise."""
        return self._of(step)[1]

    def is_few(self, step: int, rank: int) -> bool:
        """Whether the rank's batch holds fewer users than were asked for."""
        return bool(self._of(step)[2][rank] < self._order.least_users)

    def _of(self, step: int) -> tuple[int, bool, np.ndarray]:
        if self._latest is None or self._latest[0] != step:
            by_unit, users = True, self._users(step, by_unit=True)
            if self._world_size > 1 and users.min() < self._order.least_users:
                in_runs = self._users(step, by_unit=False)
                if in_runs.min() > users.min():
                    by_unit, users = False, in_runs
            self._latest = (step, by_unit, users)
        return self._latest

    def _users(self, step: int, *, by_unit: bool) -> np.ndarray:
        """Distinct users of each rank's batch, int64 [world_size]."""
        order, steps = self._order, self._steps
        at, high = int(steps.bounds[step]), int(steps.bounds[step + 1])
        seen = []
        while at < high:
            lap, inside = divmod(at, order.requests)
            k = order.window_at(inside)
            first = int(order.starts[k]) + lap * order.requests
            end = min(int(order.starts[k + 1]) + lap * order.requests, high)
            here = np.arange(at - first, end - first)
            if by_unit:
                here = here[np.argsort(order.requests_of(k)[0][here], kind="stable")]
            rank = steps.deal(step, here + first, at, self._world_size)
            seen.append(np.stack([rank, order.users_of(k)[here]]))
            at = end
        pairs = np.unique(np.concatenate(seen, axis=1), axis=1)
        return np.bincount(pairs[0], minlength=self._world_size)
