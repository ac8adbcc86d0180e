"""`min_users_per_batch`: any so many neighbours are of different users where the window allows it at all."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feature_reader.users import spread

counted = st.lists(st.integers(1, 9), min_size=1, max_size=30)


def users_of(counts: list[int]) -> np.ndarray:
    """Users 0, 1, …, as often as `counts` says, in the order of a table sorted by user."""
    return np.repeat(np.arange(len(counts)), counts)


def distinct(users: np.ndarray, size: int) -> list[int]:
    """Users of each run of `size` neighbours."""
    return [len(set(users[i : i + size].tolist())) for i in range(len(users) - size + 1)]


def allows(counts: list[int], least: int) -> bool:
    """Whether an order exists that has equal users `least` apart."""
    most = max(counts)
    return sum(counts) >= (most - 1) * least + counts.count(most)


@settings(deadline=None, max_examples=150)
@given(counts=counted, least=st.integers(1, 12), seed=st.integers(0, 9))
@example(counts=[3, 3, 3], least=3, seed=0)
@example(counts=[4, 1, 1, 1, 1, 1, 1], least=3, seed=1)
def test_neighbours_are_of_different_users_wherever_that_can_be(counts: list[int], least: int, seed: int) -> None:
    users = users_of(counts)
    order = np.random.default_rng(seed).permutation(len(users))
    found = spread(users, order, least)
    assert sorted(found) == sorted(order)
    if allows(counts, least):
        assert all(k == least for k in distinct(users[found], least))
    assert spread(users, order, least).tolist() == found.tolist()


def test_the_condition_is_exact_on_everything_small() -> None:
    for counts in ([2, 1], [2, 2], [2, 2, 1], [3, 1, 1], [3, 2, 1], [2, 2, 2], [3, 2, 2], [4, 1, 1, 1]):
        for least in (2, 3):
            users = users_of(counts).tolist()
            exists = any(min(distinct(np.array(p), least), default=least) == least for p in permutations(users))
            assert exists == allows(counts, least), (counts, least)


@settings(deadline=None, max_examples=60)
@given(counts=st.lists(st.integers(1, 40), min_size=2, max_size=40), seed=st.integers(0, 9))
def test_where_it_cannot_be_each_part_has_its_share_of_every_user(counts: list[int], seed: int) -> None:
    users = users_of(counts)
    order = np.random.default_rng(seed).permutation(len(users))
    least = max(counts) * len(users) + 2  # cannot be
    found = users[spread(users, order, least)]
    for user, count in enumerate(counts):
        places = np.flatnonzero(found == user)
        share = len(users) / count
        assert len(places) < 2 or np.diff(places).max() <= share + len(counts) + 1


def test_an_order_that_is_good_already_stays_and_a_small_repair_is_small() -> None:
    users = np.array([5, 6, 7, 8])
    assert spread(users, np.array([3, 1, 0, 2]), 4).tolist() == [3, 1, 0, 2]
    users = np.array([0, 0, 1, 2, 3, 4])
    assert users[spread(users, np.array([0, 1, 2, 3, 4, 5]), 3)].tolist() == [0, 1, 2, 0, 3, 4]


@pytest.mark.parametrize("least", [0, 1])
def test_nothing_is_asked(least: int) -> None:
    assert spread(np.zeros(4, np.int64), np.array([2, 0, 1, 3]), least).tolist() == [2, 0, 1, 3]
