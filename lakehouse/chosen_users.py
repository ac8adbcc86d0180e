"""Whole users, chosen by a hash of their id: the same share gives the same users, a smaller share fewer of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def chosen_users(user_ids: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Which users [N] are in a sample of `share`: their splitmix64, as a number in [0, 1), lies below it."""
    x = user_ids.astype(np.int64).view(np.uint64).copy()
    x += np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53 < share
