"""Which rows are read: exact filters, deletes, pinned snapshots; and columns that changed since a file was written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.expressions import And, EqualTo, GreaterThanOrEqual
from pyiceberg.table import Table
from pyiceberg.types import DoubleType, LongType, StringType

from feature_reader import FilterError, Reader, UnsupportedError
from feature_reader.testing import delete_equal, delete_positions
from lakehouse.catalog import local_path
from lakehouse.schema import iceberg_schema, table_spec
from lakehouse.settings import Settings
from tests.feature_reader.plain import expected_rows, rows_of, same
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SPEC = SPECS["feed"]


@pytest.fixture
def requests() -> pa.Table:
    return reference_requests(raw_log(SPEC), SPEC)


@pytest.fixture
def feed(settings: Settings, requests: pa.Table) -> Table:
    return write_request_table(settings, SPEC, requests, files=2, row_group=7)


def rows(reader: Reader) -> list[dict[str, Any]]:
    return sorted((r for b in reader for r in rows_of(b)), key=lambda r: r["request_id"])


def found_ids(reader: Reader) -> list[int]:
    return [r["request_id"] for r in rows(reader)]


@pytest.mark.parametrize(
    ("row_filter", "keeps"),
    [
        ("request_ts < '2026-03-01T22:00:00+00:00'", lambda r: r["request_ts"] < datetime(2026, 3, 1, 22, tzinfo=UTC)),
        ("hour >= 19 and country = 'de'", lambda r: r["hour"] >= 19 and r["country"] == "de"),
        (
            And(GreaterThanOrEqual("hour", 19), EqualTo("country", "fr")),
            lambda r: r["hour"] >= 19 and r["country"] == "fr",
        ),
        ("country is null", lambda r: r["country"] is None),
        ("user_id in (3, 4)", lambda r: r["user_id"] in (3, 4)),
        ("user_id < 0", lambda _: False),
        ("score > 0.5 or hour < 0", lambda r: r["score"] is not None and r["score"] > 0.5),
    ],
)
def test_row_filters_are_exact(feed: Table, requests: pa.Table, row_filter: Any, keeps: Any) -> None:
    reader = Reader(feed, row_filter=row_filter, batch_requests=4)
    wanted = sorted(r["request_id"] for r in requests.to_pylist() if keeps(r))
    assert reader.plan.requests == len(wanted)
    assert len(reader) == -(-len(wanted) // 4)
    assert found_ids(reader) == wanted


def test_a_split_by_time_covers_the_table(feed: Table) -> None:
    at = "2026-03-01T22:00:00+00:00"
    early, late = (Reader(feed, row_filter=f"request_ts {op} '{at}'") for op in ("<", ">="))
    assert 0 < early.plan.requests < 60
    assert early.plan.requests + late.plan.requests == 60


@pytest.mark.parametrize(
    ("row_filter", "message"),
    [
        ("history_item_id is null", "uses the list column 'history_item_id'"),
        ("history_item_id.element = 3", "cannot be read"),
        ("hours > 3", "hours"),
        ("hour >", "cannot be read"),
    ],
)
def test_filters_that_cannot_be_exact_are_refused(feed: Table, row_filter: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        Reader(feed, row_filter=row_filter)


# ---- deletes ---------------------------------------------------------------------------------------------------


def stored(table: Table) -> dict[str, list[int]]:
    """Request ids of each data file, in its order."""
    paths = sorted(task.file.file_path for task in table.scan().plan_files())
    return {p: pq.read_table(local_path(p), columns=["request_id"])["request_id"].to_pylist() for p in paths}


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("vectors", [False, True], ids=["position-deletes", "deletion-vectors"])
def test_deleted_rows_are_masked(feed: Table, requests: pa.Table, vectors: bool, shuffle: bool) -> None:
    before, held = Reader(feed).plan.hash, stored(feed)
    first, second = list(held)[:2]
    gone = {first: [0, 6, 7, len(held[first]) - 1], second: list(range(len(held[second])))}
    reader = Reader(delete_positions(feed, gone, vectors=vectors), shuffle=shuffle, batch_requests=8)
    lost = {held[p][row] for p, rows in gone.items() for row in rows}
    expected = expected_rows(requests, SPEC)
    got = rows(reader)
    assert [r["request_id"] for r in got] == sorted(set(expected) - lost)
    assert all(same(r, expected[r["request_id"]]) for r in got)
    assert reader.plan.deleted == len(lost)
    assert reader.plan.hash != before


def test_deletes_and_filters_work_together(feed: Table, requests: pa.Table) -> None:
    held = stored(feed)
    deleted = delete_positions(feed, {p: list(range(0, len(ids), 2)) for p, ids in held.items()})
    late = {r["request_id"] for r in requests.to_pylist() if r["hour"] >= 19}
    kept = {i for ids in held.values() for i in ids[1::2]}
    assert found_ids(Reader(deleted, row_filter="hour >= 19")) == sorted(late & kept)


def test_equality_deletes_are_refused_by_name(feed: Table) -> None:
    deleted = delete_equal(feed, next(iter(stored(feed))))
    with pytest.raises(UnsupportedError, match=r"reqlake\.feed_requests has equality deletes.*rewrite the data files"):
        len(Reader(deleted))


# ---- columns that changed --------------------------------------------------------------------------------------


def changed_spec(table: Table, *replacements: tuple[str, str]) -> None:
    """Let the table carry a spec with these edits, as `reqlake spec evolve` would."""
    text = table.properties["reqlake.spec"]
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    with table.transaction() as change:
        change.set_properties({"reqlake.spec": text})
    table.refresh()


def test_renamed_and_widened_columns_are_read_from_old_files(feed: Table, requests: pa.Table) -> None:
    with feed.update_schema() as change:
        change.update_column("hour", LongType())
        change.update_column(("category", "element"), LongType())
        change.update_column(("price", "element"), DoubleType())
    with feed.update_schema() as change:
        change.rename_column("price", "cost")
        change.rename_column("history_action", "history_act")
    changed_spec(
        feed,
        ('"price":{"type":"float"', '"cost":{"type":"double"'),
        ('"action":', '"act":'),
        ('"hour":{"type":"int"', '"hour":{"type":"long"'),
        ('"category":{"type":"int"', '"category":{"type":"long"'),
    )
    found = {r["request_id"]: r for r in rows(Reader(feed))}
    for key, want in expected_rows(requests, SPEC).items():
        want["cost"] = want.pop("price")
        want["history_act"] = want.pop("history_action")
        assert same({name: found[key][name] for name in want}, want)
    batch = next(iter(Reader(feed)))
    assert (batch["hour"].dtype, batch["category"].dtype, batch["cost"].dtype) == (np.int64, np.int64, np.float64)


def test_columns_that_an_old_file_lacks_are_filled(feed: Table) -> None:
    edits = (
        (
            '"candidate_features":{',
            '"candidate_features":{"stock":{"type":"int","default":-1},"facets":"list<string>",',
        ),
        ('"request_features":{', '"request_features":{"mood":"vector<float, 2>","langs":"list<string>",'),
        ('"action":', '"dwell":{"type":"float","default":1.5},"action":'),
        ('"labels":{', '"labels":{"like":"float",'),
    )
    changed_spec(feed, *edits)
    wanted = iceberg_schema(table_spec(feed))
    with feed.update_schema() as change:
        for name in ("stock", "facets", "mood", "langs", "history_dwell", "like"):
            change.add_column(name, wanted.find_type(name))
    for batch in Reader(feed, batch_requests=13):
        assert (batch["stock"] == -1).all()
        assert batch["stock"].shape == batch["item_id"].shape
        assert batch["facets"].tolist() == [[]] * batch.C
        assert np.isnan(batch["mood"]).all()
        assert batch["mood"].shape == (batch.R, 2)
        assert batch["langs"].tolist() == [[]] * batch.R
        assert np.isnan(batch["like"]).all()
        assert batch["history_dwell"].offsets is batch["history_action"].offsets
        assert (batch["history_dwell"].values == 1.5).all()
    alone = next(iter(Reader(feed, columns=["history_dwell", "stock"], shuffle=False)))
    whole = next(iter(Reader(feed, shuffle=False)))
    assert alone["history_dwell"].offsets.tolist() == whole["history_action"].offsets.tolist()
    assert alone.candidate_offsets.tolist() == whole.candidate_offsets.tolist()


def test_a_filter_on_a_column_that_a_file_lacks_sees_null(feed: Table) -> None:
    with feed.update_schema() as change:
        change.add_column("mood", StringType())
    feed.refresh()
    assert Reader(feed, row_filter="mood is null").plan.requests == 60
    assert Reader(feed, row_filter="mood = 'x'").plan.requests == 0
