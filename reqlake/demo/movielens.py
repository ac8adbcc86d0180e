"""The raw log: MovieLens ratings as a label join leaves an impression log.

Parquet files, one row per impression; rows are spread over the files by a hash of the impression and lie in time order
inside a file; the user's whole history is repeated on every row. `movielens.yaml` beside this file is its spec.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reqlake.demo.dirt import Dirt, copies, disagree, join
from reqlake.demo.features import genre_affinity, impression_columns, movie_state, request_columns, user_state
from reqlake.demo.pages import Pages, cut_pages
from reqlake.demo.ratings import Ratings, load_ratings

SPEC = Path(__file__).with_name("movielens.yaml")


@dataclass(frozen=True)
class RawLog:
    """What was written. `requests` counts pages; a page whose rows disagree becomes two rows of the request table."""

    folder: Path  # holds the Parquet files of the log, and nothing else
    movies: Path  # Parquet: movie, title, year, genres
    rows: int
    requests: int
    users: int
    dirt: Dirt


def write_raw_log(
    folder: Path, *, files: int = 8, users: int | None = None, dirt: Dirt | None = None, seed: int = 0
) -> RawLog:
    """Write the raw log under `folder/raw` and the movies beside it; `users` keeps the first ones only, for tests.

    Every call with the same arguments writes the same rows. `dirt=Dirt(0, …)` leaves the log clean.
    """
    dirt = Dirt() if dirt is None else dirt
    ratings = load_ratings(users)
    pages, requests, rows = build(ratings)
    rng = np.random.default_rng(seed)
    requests, source = disagree(requests, pages, dirt.conflicting_requests, rng)
    extra = copies(requests, source, rows, dirt, rng)

    (folder / "raw").mkdir(parents=True, exist_ok=True)
    homes = _homes(ratings, files)
    time_order = np.argsort(ratings.ts, kind="stable")

    def write(home: int) -> int:
        mine = time_order[homes[time_order] == home]
        clean = join(requests.take(pa.array(source[mine])), rows.take(pa.array(mine)))
        again = [part.filter(pa.array((homes[of] + 1) % files == home)) for part, of in extra]
        table = pa.concat_tables([clean, *again]).sort_by("rated_at")
        pq.write_table(table, folder / "raw" / f"part-{home:05d}.parquet", compression="zstd")
        return len(table)

    with ThreadPoolExecutor(min(files, os.cpu_count() or 1)) as pool:
        written = sum(pool.map(write, range(files)))
    pq.write_table(ratings.movies, folder / "movies.parquet")
    return RawLog(
        folder / "raw", folder / "movies.parquet", written, len(pages.start), len(np.unique(ratings.user)), dirt
    )


def build(ratings: Ratings) -> tuple[Pages, pa.Table, pa.Table]:
    """The clean log in two halves: request columns [R] and candidate columns [N]; row i belongs to pages.request[i]."""
    pages = cut_pages(ratings)
    movies = movie_state(ratings, pages)
    user = user_state(ratings, pages, movies[1])
    affinity = genre_affinity(ratings, pages, movies[1], user.bias)
    return pages, request_columns(ratings, pages, movies, user), impression_columns(ratings, movies, affinity)


def _homes(ratings: Ratings, files: int) -> NDArray[np.int64]:
    """Which file each impression goes to: a multiplicative hash of (user, movie), [N]."""
    key = ratings.user.astype(np.uint64) << np.uint64(32) | ratings.movie.astype(np.uint64)
    mixed = (key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    return (mixed % np.uint64(files)).astype(np.int64)
