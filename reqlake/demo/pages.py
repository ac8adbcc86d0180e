"""Ratings to requests: which events make a page, and which came before it.

A session is a run of one user's ratings without a gap over 30 minutes; a request is a page of at most 16 consecutive
ratings of a session. Whole sessions do not work here: half of the users have only one, so most held-out histories
would be empty. About one page in ten shares a second with the page before it: "before" means strictly before the
page's first second, so those events are in no history of the later page.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reqlake.demo.ratings import Ratings

GAP_S = 1800
PAGE = 16
FAR = np.int64(1) << 33  # seconds: more than any time stamp, so that one sorted array can hold (group, time)

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pages:
    """`R` requests over `N` events. Request r holds events [start[r], start[r+1]); its user's events strictly before it
    are [user_start[r], seen[r])."""

    request: Ints  # [N], the request of each event
    start: Ints  # [R]
    opened: Ints  # [R], seconds: the time of the page's first rating
    user_start: Ints  # [R]
    seen: Ints  # [R]
    number: Ints  # [R], 0, 1, … within the user


def cut_pages(ratings: Ratings) -> Pages:
    """Cut each user's ratings into requests. Events keep their order."""
    user, ts = ratings.user, ratings.ts
    new_user = np.r_[True, user[1:] != user[:-1]]
    new_session = new_user | np.r_[True, np.diff(ts) > GAP_S]
    new_page = new_session | (_since_last(new_session) % PAGE == 0)
    start = np.flatnonzero(new_page)
    opened = ts[start]
    user_start = np.flatnonzero(new_user)[(np.cumsum(new_user) - 1)[start]]
    seen = np.searchsorted(user * FAR + ts, user[start] * FAR + opened)
    number = _since_last(new_user[start])
    return Pages(np.cumsum(new_page) - 1, start, opened, user_start, seen, number)


def _since_last(mark: NDArray[np.bool_]) -> Ints:
    """How many places each place lies after the last marked one."""
    place = np.arange(len(mark))
    since: Ints = place - np.maximum.accumulate(np.where(mark, place, 0))
    return since
