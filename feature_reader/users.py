"""An order of requests in which neighbours are of different users: what `min_users_per_batch` asks for.

How many users a batch holds decides how far it is from an independent sample. Of a random order, requests are put off
as little as is needed for equal users to lie `least` positions apart: then any `least` neighbours are of as many users,
whatever a batch's size and however it is dealt. With c requests of the heaviest user, and k users that have as many,
n requests allow that exactly if n ≥ (c - 1) · least + k.
"""

from __future__ import annotations

import heapq

import numpy as np


def spread(users: np.ndarray, order: np.ndarray, least: int) -> np.ndarray:
    """`order` (a permutation of the requests whose users are `users` [n]) with equal users `least` apart.

    Where they cannot lie so far apart, each user's requests are spread evenly over the whole, which gives every part
    as many users as its share of the requests allows.
    """
    names, owner = np.unique(users, return_inverse=True)
    counts = np.bincount(owner, minlength=len(names))
    if len(counts) == len(users) or least < 2:
        return np.asarray(order)
    if not (_slack(_more_than(counts), len(users), least) >= 0).all():
        return _evenly(owner, counts, order)
    return np.asarray(order[_apart(owner[order], counts, least)])


def _more_than(counts: np.ndarray) -> np.ndarray:
    """How many users have more than i requests, for each i below the greatest count."""
    return np.asarray(np.bincount(counts)[::-1].cumsum()[::-1][1:], dtype=np.int64)


def _slack(more_than: np.ndarray, positions: int, least: int) -> np.ndarray:
    """How many positions may go to lighter users before level i, for each i ≥ 1 below the heaviest user's count.

    Of a user's requests, the one with i after it has to lie i · least before the end. So level i is the requests with
    i or more after them, and they have to fit into what is left but for i · least positions (Hall's condition).
    """
    level = more_than[::-1].cumsum()[::-1]
    return np.asarray((positions - np.arange(len(level)) * least - level)[1:])


def _apart(owner: np.ndarray, counts: np.ndarray, least: int) -> np.ndarray:
    """Positions of `owner` (the users of a random order) in an order that has equal ones `least` apart.

    Each place takes the first request whose user may come again; where a level has no slack left, one of the user who
    has most left. Such a user may always come: had all of them come within the last `least` places, the level above
    would have been without slack then, and one of them would have come earlier.
    """
    n = len(owner)
    of = owner.tolist()
    left = counts.tolist()
    by_user = np.argsort(owner, kind="stable")
    following = (np.cumsum(counts) - counts).tolist()  # of each user, where its next request stands in by_user
    requests = by_user.tolist()
    more_than = _more_than(counts)
    first = sorted(requests[i] for i in following)  # a sorted list is a heap
    heaviest: list[tuple[int, int]] = []
    tight = int(_slack(more_than, n, least).min(initial=n))
    taken: list[int] = []
    came = [False] * n
    for place in range(n):
        if place >= least:
            user = of[taken[place - least]]
            if left[user]:
                heapq.heappush(first, requests[following[user]])
                if heaviest:
                    heapq.heappush(heaviest, (-left[user], user))
        request = -1
        if place >= tight:
            slack = _slack(more_than, n - place, least)
            tight = place + int(slack.min(initial=n))
            if tight == place:
                heaviest = heaviest or [(-left[of[r]], of[r]) for r in first if not came[r]]
                heapq.heapify(heaviest)
                while -heaviest[0][0] != left[heaviest[0][1]]:
                    heapq.heappop(heaviest)  # as it stood before the user came
                request = requests[following[heapq.heappop(heaviest)[1]]]
                tight += 1
        while request < 0:
            candidate = heapq.heappop(first)
            request = -1 if came[candidate] else candidate
        user = of[request]
        came[request] = True
        taken.append(request)
        following[user] += 1
        left[user] -= 1
        more_than[left[user]] -= 1
        if not more_than[-1]:
            more_than = more_than[:-1]
    return np.array(taken, dtype=np.int64)


def _evenly(owner: np.ndarray, counts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The requests with those of one user at equal distances, from a start of its own; both follow `order`."""
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    start = np.empty(len(counts))
    start[owner[::-1]] = rank[::-1] / len(order)  # of the user's first request in the plan's order
    by_user = np.lexsort((rank, owner))
    number = np.empty(len(order), np.int64)
    number[by_user] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(np.lexsort((rank, (number + start[owner]) / counts[owner])))
