"""Features as of the request: everything counts only the ratings strictly before the page's first second.

Means are smoothed towards a prior by a few made-up observations, so that a user's or a movie's first ratings do not
shout. An event in a history carries its movie's statistics as of *its own* request, so it never holds its own label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reqlake.demo.pages import FAR, Ints, Pages
from reqlake.demo.ratings import Ratings

PRIOR_MEAN = 3.54
PRIOR_MOVIE, PRIOR_USER, PRIOR_GENRE = 5.0, 5.0, 10.0  # made-up ratings that each smoothed mean starts with
MAX_HISTORY = 256

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class UserState:
    """What is known of each request's user. All [R]."""

    ratings: Ints
    mean: Floats
    bias: Floats  # mean of rating minus the movie's mean
    spread: Floats  # standard deviation


def movie_state(ratings: Ratings, pages: Pages) -> tuple[Ints, Floats]:
    """Count and smoothed mean of each event's movie as of the event's request. Both [N]."""
    order = np.lexsort((ratings.ts, ratings.movie))
    sorted_by = ratings.movie[order] * FAR + ratings.ts[order]
    total = np.r_[0.0, np.cumsum(ratings.rating[order])]
    first = np.searchsorted(sorted_by, ratings.movie * FAR)
    until = np.searchsorted(sorted_by, ratings.movie * FAR + pages.opened[pages.request])
    count = until - first
    mean = (total[until] - total[first] + PRIOR_MOVIE * PRIOR_MEAN) / (count + PRIOR_MOVIE)
    return count, mean


def user_state(ratings: Ratings, pages: Pages, movie_mean: Floats) -> UserState:
    """What the user's earlier ratings say of the user; `movie_mean` [N] is each event's movie as of its own request."""
    seen = pages.seen - pages.user_start
    weight = seen + PRIOR_USER
    mean = (_over_history(ratings.rating, pages) + PRIOR_USER * PRIOR_MEAN) / weight
    bias = _over_history(ratings.rating - movie_mean, pages) / weight
    square = (_over_history(ratings.rating**2, pages) + PRIOR_USER * (PRIOR_MEAN**2 + 1)) / weight
    return UserState(seen, mean, bias, np.sqrt(np.maximum(square - mean**2, 0.01)))


def genre_affinity(ratings: Ratings, pages: Pages, movie_mean: Floats, user_bias: Floats) -> Floats:
    """[N]: how much more than usual the user has liked the genres of each event's movie, as of the request."""
    hot = ratings.genre_matrix[ratings.movie]
    residual = ratings.rating - movie_mean
    count = _over_history(hot, pages)
    liking = _over_history(hot * residual[:, None], pages) - count * user_bias[:, None]
    by_genre = (liking / (count + PRIOR_GENRE))[pages.request]
    affinity: Floats = (by_genre * hot).sum(1) / np.maximum(hot.sum(1), 1)
    return affinity


def _over_history(x: Floats, pages: Pages) -> Floats:
    """Sum of `x` [N, …] over the events before each request, [R, …]."""
    total = np.concatenate([np.zeros((1, *x.shape[1:])), np.cumsum(x, axis=0)])
    summed: Floats = total[pages.seen] - total[pages.user_start]
    return summed


def request_columns(ratings: Ratings, pages: Pages, movies: tuple[Ints, Floats], user: UserState) -> pa.Table:
    """One row per request, [R]: keys, request features and the history, in the raw log's names and types."""
    names = [f"u{u}-p{n}" for u, n in zip(ratings.user[pages.start], pages.number, strict=True)]
    columns = {
        "user": pa.array(ratings.user[pages.start]),
        "page": pa.array(names),
        "page_opened_at": _time(pages.opened),
        "hour": pa.array((pages.opened // 3600 % 24).astype(np.int32)),
        "n_ratings": pa.array(user.ratings),
        "user_mean": pa.array(user.mean.astype(np.float32)),
        "user_bias": pa.array(user.bias.astype(np.float32)),
        "user_spread": pa.array(user.spread.astype(np.float32)),
    }
    return pa.table(columns | _history(ratings, pages, movies))


def _history(ratings: Ratings, pages: Pages, movies: tuple[Ints, Floats]) -> dict[str, pa.Array]:
    """The latest events before each request, oldest first, as aligned lists."""
    count, mean = movies
    begin = np.maximum(pages.user_start, pages.seen - MAX_HISTORY)
    offsets = np.r_[0, np.cumsum(pages.seen - begin)]
    event = np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], pages.seen - begin)
    fields = {
        "item_id": pa.array(ratings.movies["movie"].to_numpy()[ratings.movie[event]]),
        "rating": pa.array(ratings.rating[event].astype(np.float32)),
        "ts": _time(ratings.ts[event]),
        "item_mean": pa.array(mean[event].astype(np.float32)),
        "item_count": pa.array(count[event].astype(np.int32)),
    }
    at = pa.array(offsets.astype(np.int32))
    return {f"history_{name}": pa.ListArray.from_arrays(at, values) for name, values in fields.items()}


def impression_columns(
    ratings: Ratings, movies: tuple[Ints, Floats], affinity: Floats, like_from: float = 4.0
) -> pa.Table:
    """One row per impression, [N]: the candidate, its features, its labels."""
    count, mean = movies
    shown = ratings.movies.take(pa.array(ratings.movie))
    return pa.table(
        {
            "movie": shown["movie"],
            "rated_at": pa.array(ratings.ts),
            "year": shown["year"],
            "genres": shown["genres"],
            "item_mean": pa.array(mean.astype(np.float32)),
            "item_count": pa.array(count.astype(np.int32)),
            "genre_affinity": pa.array(affinity.astype(np.float32)),
            "like": pa.array((ratings.rating >= like_from).astype(np.float32)),
            "rating": pa.array(ratings.rating.astype(np.float32)),
        }
    )


def _time(seconds: Ints) -> pa.Array:
    return pa.array(seconds * 1_000_000, pa.timestamp("us", tz="UTC"))
