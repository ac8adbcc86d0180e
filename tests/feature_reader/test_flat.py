"""Flat rows read in place give the batches that a request table would: deduplicated within a window, and counted."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from feature_reader import FlatReader, Predicate, Reader, ReaderError, UnsupportedError
from lakehouse.catalog import open_catalog
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, parse_spec
from tests.feature_reader.plain import expected_rows, rows_of, same
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table


def check(reader: Any, raw: pa.Table, spec: DatasetSpec) -> None:
    """Every request once, with the values of the plain reference; its hash, which only an ingest makes, aside."""
    expected = expected_rows(reference_requests(raw, spec), spec)
    rows = [row for batch in reader for row in rows_of(batch)]
    assert sorted(row["request_id"] for row in rows) == sorted(expected)
    for row in rows:
        want = {name: value for name, value in expected[row["request_id"]].items() if name in row}
        assert set(expected[row["request_id"]]) - set(row) <= {"request_hash", "request_version", "candidate_version"}
        assert same(row, want), {k: (row[k], want[k]) for k in want if not same(row[k], want[k])}


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("name", SPECS)
def test_each_request_comes_once_as_a_request_table_holds_it(name: str, shuffle: bool) -> None:
    raw = raw_log(SPECS[name])
    reader = Reader.from_flat(raw, SPECS[name], batch_requests=9, shuffle=shuffle)
    check(reader, raw, SPECS[name])
    assert reader.report.reached == reader.report.reachable == len(raw) / 60


def test_rows_in_any_order_and_rows_that_come_twice() -> None:
    raw = raw_log(SPECS["feed"])
    again = pa.concat_tables([raw, raw.slice(0, 50)])
    mixed = again.take(np.random.default_rng(0).permutation(len(again)))
    check(Reader.from_flat(mixed, SPECS["feed"]), raw, SPECS["feed"])


@pytest.mark.parametrize("kind", ["hive", "files", "iceberg"])
def test_sources(kind: str, tmp_path: Path, settings: Settings) -> None:
    spec, raw = SPECS["feed"], raw_log(SPECS["feed"])
    source: Any
    if kind == "hive":
        ds.write_dataset(raw, tmp_path / "log", format="parquet", partitioning=["country"], partitioning_flavor="hive")
        source = tmp_path / "log"
    elif kind == "files":
        for i in range(2):
            pq.write_table(raw.slice(i * 150, 150), tmp_path / f"{i}.parquet")
        source = [str(tmp_path / "0.parquet"), str(tmp_path / "1.parquet")]
    else:
        catalog = open_catalog(settings)
        catalog.create_namespace_if_not_exists("raw")
        source = catalog.create_table("raw.log", schema=raw.schema)
        source.append(raw)
    check(Reader.from_flat(source, spec), raw, spec)


def test_a_narrow_window_reaches_less_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    raw = raw_log(SPECS["feed"])
    mixed = raw.take(np.random.default_rng(0).permutation(len(raw)))
    reader = Reader.from_flat(mixed, SPECS["feed"], window_bytes=mixed.nbytes // 10)
    with caplog.at_level("INFO"):
        batches = list(reader)
    report = reader.report
    assert sum(b.C for b in batches) == report.rows == len(raw)
    assert sum(b.R for b in batches) == report.given > report.requests == 60
    assert 1 < report.reached < report.reachable == len(raw) / 60
    assert f"a request table would reach {report.reachable:.2f} (60 requests)" in caplog.text


def test_sorted_rows_lose_nothing_at_a_windows_edge() -> None:
    raw = raw_log(SPECS["feed"]).sort_by([("uid", "ascending"), ("rid", "ascending")])
    reader = Reader.from_flat(raw, SPECS["feed"], window_bytes=raw.nbytes // 10, columns=["request_id", "price"])
    assert sum(b.R for b in reader) == 60
    assert reader.report.windows > 5


def test_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    pq.write_table(raw_log(SPECS["feed"]).drop_columns(["price"]), tmp_path / "log.parquet")
    with pytest.raises(ReaderError, match="the rows lack price, which the spec of feed reads"):
        list(Reader.from_flat(tmp_path, SPECS["feed"]))
    with pytest.raises(ReaderError, match=r"cannot read .*nowhere as Parquet"):
        list(Reader.from_flat(str(tmp_path / "nowhere"), SPECS["feed"]))
    with pytest.raises(ReaderError, match="only an Iceberg table has snapshots"):
        Reader.from_flat(tmp_path, SPECS["feed"], snapshot_id=3)


def test_keys_that_only_an_ingest_can_make_are_refused() -> None:
    given = SPECS["feed"].model_dump(mode="json", exclude_none=True)
    given["keys"]["user_id"] = {"column": "uid", "type": "long", "fallback": ["device"]}
    with pytest.raises(UnsupportedError, match="derives its keys"):
        Reader.from_flat(raw_log(SPECS["feed"]), parse_spec(given))


def test_rows_without_a_key_are_named() -> None:
    raw = raw_log(SPECS["feed"])
    i = raw.schema.get_field_index("rid")
    raw = raw.set_column(i, "rid", pa.array([None, *raw["rid"].to_pylist()[1:]], pa.int64()))
    with pytest.raises(ReaderError, match="1 rows have no 'rid'"):
        list(Reader.from_flat(raw, SPECS["feed"]))


def test_predicates_and_requests_to_skip_are_those_of_a_request_table(settings: Settings) -> None:
    spec, raw = SPECS["video"], raw_log(SPECS["video"])
    requests = reference_requests(raw, spec)
    table = write_request_table(settings, spec, requests)
    some = Predicate("some", ("request_id", "taste"), lambda c: (c["request_id"] % 3 > 0) & (c["taste"][:, 0] < 2))
    skip = requests.select(["user_id", "request_id"]).slice(0, 9)
    wanted = Reader(table, predicate=some, skip_requests=skip)
    for window_bytes in (1 << 28, raw.nbytes // 10):
        flat = Reader.from_flat(
            raw.sort_by([("viewer", "ascending"), ("session", "ascending")]),
            spec,
            columns=["item_id"],
            predicate=some,
            skip_requests=skip,
            window_bytes=window_bytes,
        )
        assert sum(b.R for b in flat) == wanted.plan.requests
        assert flat.report.left_out == sum(wanted.plan.left_out) == len(requests) - wanted.plan.requests


def test_batches_hold_many_users_or_are_counted() -> None:
    raw = raw_log(SPECS["feed"])
    flat = Reader.from_flat(raw, SPECS["feed"], batch_requests=6, shuffle=True, min_users_per_batch=4)
    batches = list(flat)
    assert sum(b.R for b in batches) == 60
    assert flat.report.few_users == sum(len(np.unique(b["user_id"])) < 4 for b in batches)
    plain = Reader.from_flat(raw, SPECS["feed"], batch_requests=6, shuffle=True)
    assert flat.report.few_users <= sum(len(np.unique(b["user_id"])) < 4 for b in plain)


def test_several_sources_are_read_one_after_the_other() -> None:
    raw, spec = raw_log(SPECS["feed"]), SPECS["feed"]
    check(Reader.from_flat([raw.slice(0, 100), ds.dataset(raw.slice(100))], spec), raw, spec)


def test_every_option_of_a_reader_is_there_or_refused_by_name() -> None:
    spec, raw = SPECS["feed"], raw_log(SPECS["feed"])
    options = [name for name in inspect.signature(Reader).parameters if name != "table"]
    own = inspect.signature(FlatReader).parameters
    for name in options:
        if name not in own:
            with pytest.raises(ReaderError, match=f"{name}=1 is for request tables: of flat rows .*"):
                Reader.from_flat(raw, spec, **{name: 1})
    with pytest.raises(ReaderError, match="batch_size=1: a reader of flat rows has no such option"):
        Reader.from_flat(raw, spec, batch_size=1)
    with pytest.raises(ReaderError, match="reads request_hash, which only an ingest makes"):
        Reader.from_flat(raw, spec, skip_requests=pa.table({"request_id": [1], "request_hash": [2]}))
