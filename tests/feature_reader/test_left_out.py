"""What is left out on purpose (predicates, requests to skip) or because it is damaged: exact, counted, in the state."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table

from feature_reader import DataFileError, FilterError, Predicate, Reader, ReaderError, SkipRequests, StateError
from feature_reader.testing import assert_batches_equal
from lakehouse.catalog import local_path
from lakehouse.settings import Settings
from tests.feature_reader.harm import break_pages
from tests.feature_reader.plain import expected_rows, rows_of, same
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SPEC = SPECS["video"]
REQUESTS = reference_requests(raw_log(SPEC), SPEC)
CALLS = count()
LONG = Predicate("7 events and more", ("watched_clip",), lambda c: c["watched_clip"].lengths >= 7)


@pytest.fixture
def video(settings: Settings) -> Table:
    return write_request_table(settings, SPEC, REQUESTS, files=2, row_group=7)


def ids(batches: Any) -> list[int]:
    return [int(i) for b in batches for i in b["request_id"][: b.R - b.padding]]


# ---- min_users_per_batch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("batch", [{"batch_requests": 8}, {"batch_candidates": 40}])
def test_batches_hold_many_users_or_are_counted(video: Table, world: int, batch: dict[str, int]) -> None:
    options: dict[str, Any] = {"window": 4, "min_users_per_batch": 4, "world_size": world, **batch}
    readers = [Reader(video, rank=r, **options) for r in range(world)]
    given = [list(reader) for reader in readers]
    for reader, batches in zip(readers, given, strict=True):
        users = [len(set(b["user_id"].tolist())) for b in batches]
        assert reader.stats.few_users == sum(n < 4 for n in users)
        assert all(n >= 4 for n in users[:-1])
    assert sorted(ids(b for batches in given for b in batches)) == sorted(REQUESTS["request_id"].to_pylist())
    one = Reader(video, rank=0, **options)
    next(iter(one))
    other = Reader(video, rank=0, **options)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert ids(other) == ids(given[0][1:])
    with pytest.raises(StateError, match="min_users_per_batch: the state has 4, the reader 0"):
        Reader(video, window=4).load_state_dict(one.state_dict())


def test_a_window_of_one_user_gives_what_it_has(settings: Settings) -> None:
    one = reference_requests(raw_log(SPEC, users=1, requests_per_user=20), SPEC)
    reader = Reader(write_request_table(settings, SPEC, one), batch_requests=5, min_users_per_batch=2)
    assert len(ids(reader)) == 20
    assert reader.stats.few_users == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_users_per_batch": 9, "batch_requests": 8}, "no more users than requests"),
        ({"min_users_per_batch": 2, "shuffle": False}, "min_users_per_batch=2 with shuffle=False"),
        ({"skip_bad_requests": -1}, "skip_bad_requests=-1"),
    ],
)
def test_what_cannot_be_is_refused(video: Table, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        Reader(video, **options)


# ---- predicates -----------------------------------------------------------------------------------------------------


def test_a_predicate_is_exact_on_any_number_of_ranks(video: Table) -> None:
    expected = {i: row for i, row in expected_rows(REQUESTS, SPEC).items() if len(row["watched_clip"]) >= 7}
    readers = [Reader(video, predicate=LONG, batch_requests=4, rank=r, world_size=2, window=3) for r in range(2)]
    given = [list(reader) for reader in readers]
    assert [len(batches) for batches in given] == [len(readers[0])] * 2
    rows = [row for batches in given for batch in batches for row in rows_of(batch)]
    assert sorted(row["request_id"] for row in rows) == sorted(expected)
    assert all(same(row, expected[row["request_id"]]) for row in rows)
    assert 0 < len(expected) < len(REQUESTS)
    assert readers[0].plan.left_out == (len(REQUESTS) - len(expected),)


def test_a_predicate_joins_a_row_filter_and_needs_no_column_of_the_batch(video: Table) -> None:
    middle = int(np.median(REQUESTS["user_id"].to_numpy()))
    rows = expected_rows(REQUESTS, SPEC).items()
    wanted = [i for i, row in rows if row["user_id"] > middle and len(row["watched_clip"]) >= 7]
    reader = Reader(video, columns=["request_id"], row_filter=f"user_id > {middle}", predicate=LONG)
    assert sorted(ids(reader)) == sorted(wanted)
    assert 0 < reader.plan.filtered < len(REQUESTS) - len(wanted)


def test_a_state_knows_its_predicate(video: Table) -> None:
    state = Reader(video, predicate=LONG).state_dict()
    Reader(video, predicate=LONG).load_state_dict(state)
    with pytest.raises(StateError, match=r"predicate: the state has '7 events and more', the reader ''"):
        Reader(video).load_state_dict(state)
    changed = Predicate(LONG.name, LONG.columns, lambda c: c["watched_clip"].lengths >= 6)
    with pytest.raises(StateError, match="plan_hash"):
        Reader(video, predicate=changed).load_state_dict(state)


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        (Predicate("p", ("item_id",), lambda c: c["item_id"] > 0), "item_id, of which there is one for each candidate"),
        (Predicate("p", ("user_id",), lambda c: c["user_id"]), r"predicate 'p' gave int64\[7\] for the 7 requests"),
        (Predicate("p", ("user_id",), lambda _: np.full(7, next(CALLS) % 2 == 0)), "gave two answers"),
        (Predicate("p", ("usr_id",), lambda c: c["usr_id"] > 0), "no column 'usr_id'"),
    ],
)
def test_a_predicate_that_cannot_work_is_refused(video: Table, predicate: Predicate, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        len(Reader(video, predicate=predicate))


# ---- requests to skip -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_requests_named_in_a_file_are_left_out(video: Table, tmp_path: Path, kind: str) -> None:
    gone = REQUESTS.select(["request_id", "user_id"]).slice(10, 5)
    strangers = pa.table({"request_id": [1], "user_id": [2]}, gone.schema)
    keys = pa.concat_tables([gone, strangers])
    path = tmp_path / f"skip.{kind}"
    if kind == "csv":
        rows = zip(keys["request_id"].to_pylist(), keys["user_id"].to_pylist(), strict=True)
        path.write_text("request_id,user_id\n" + "".join(f"{request},{user}\n" for request, user in rows))
    else:
        pq.write_table(keys, path)
    reader = Reader(video, skip_requests=path)
    assert sorted(ids(reader)) == sorted(set(REQUESTS["request_id"].to_pylist()) - set(gone["request_id"].to_pylist()))
    assert reader.plan.left_out == (5,)
    state = reader.state_dict()
    other = Reader(video, skip_requests=keys.take(pa.array([5, 3, 4, 1, 2, 0, 0])))
    other.load_state_dict(state)
    with pytest.raises(StateError, match=r"skip_requests: the state has '6 by user_id, request_id, .*other requests"):
        Reader(video, skip_requests=gone).load_state_dict(state)


def test_a_raw_logs_own_strings_name_requests_too(settings: Settings) -> None:
    spec = SPECS["shop"]
    requests = reference_requests(raw_log(spec), spec)
    table = write_request_table(settings, spec, requests)
    skip = requests.select(["request_id_raw"]).slice(0, 4)
    assert len(set(ids(Reader(table, skip_requests=skip)))) == len(requests) - 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id\n1\n", "named by request_id"),
        ("request_id,when\n1,2\n", "named by request_id"),
        ("request_id\nabc\n", "holds string as request_id.*name the column request_id_raw"),
        ("request_id,user_id\n1,\n", "1 rows without user_id"),
        ("", "cannot read the requests to skip"),
    ],
)
def test_a_file_that_names_no_requests_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "skip.csv").write_text(text)
    with pytest.raises(FilterError, match=message):
        SkipRequests.read(tmp_path / "skip.csv")


# ---- damage ---------------------------------------------------------------------------------------------------------


def harm_after_planning(table: Table, readers: list[Reader]) -> None:
    assert all(reader.plan.requests == len(REQUESTS) for reader in readers)
    break_pages(table)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch", [1, 6])
def test_damaged_row_groups_leave_every_rank_its_steps(video: Table, shuffle: bool, batch: int) -> None:
    options: dict[str, Any] = {"batch_requests": batch, "shuffle": shuffle, "window": 2 if shuffle else None}
    whole = [list(Reader(video, **options, rank=r, world_size=2)) for r in range(2)]
    readers = [Reader(video, **options, rank=r, world_size=2, skip_bad_requests=60) for r in range(2)]
    harm_after_planning(video, readers)
    given = [list(reader) for reader in readers]
    assert [len(batches) for batches in given] == [len(batches) for batches in whole]
    left = set(ids(b for batches in given for b in batches))
    expected = expected_rows(REQUESTS, SPEC)
    lost = len(REQUESTS) - len(left)
    assert 0 < lost == sum(reader.stats.bad_requests for reader in readers)
    for batches, undamaged in zip(given, whole, strict=True):
        for got, want in zip(batches, undamaged, strict=True):
            assert got.R > 0
            assert ids([got]) == [i for i in ids([want]) if i in left]
            assert all(same(row, expected[row["request_id"]]) for row in rows_of(got))
            assert got.origin is None or len(got.origin) == got.R
    assert sum(n for _, _, n in readers[0].state_dict()["damage"]) == readers[0].damage.requests
    again = readers[0].stats.bad_requests
    before = readers[0].damage.requests
    list(readers[0])
    assert readers[0].damage.requests == before  # counted once, whatever the epochs
    assert readers[0].stats.bad_requests > again


def test_more_damage_than_allowed_is_an_error_that_says_so(video: Table) -> None:
    readers = [Reader(video, skip_bad_requests=allowed) for allowed in (0, 3)]
    harm_after_planning(video, readers)
    with pytest.raises(DataFileError, match=r"\.parquet"):
        list(readers[0])
    with pytest.raises(DataFileError, match=r"(?s)\.parquet.*With it \d+ requests are bad, skip_bad_requests allows 3"):
        list(readers[1])


def test_a_resumed_run_goes_on_counting(video: Table) -> None:
    reader = Reader(video, skip_bad_requests=60, shuffle=False)
    harm_after_planning(video, [reader])
    list(reader)
    state = json.loads(json.dumps(reader.state_dict()))
    lost = reader.damage.requests
    other = Reader(video, skip_bad_requests=lost, shuffle=False)
    other.load_state_dict(state)
    assert len(ids(other)) == len(REQUESTS) - lost
    assert other.damage.requests == lost
    strict = Reader(video, shuffle=False)
    strict.load_state_dict(state)
    with pytest.raises(DataFileError, match="parquet"):
        list(strict)


def test_what_can_be_read_again_is_given_again(video: Table) -> None:
    reader = Reader(video, skip_bad_requests=60)
    path = sorted(local_path(t.file.file_path) for t in video.scan().plan_files())[1]
    whole = path.read_bytes()
    harm_after_planning(video, [reader])
    assert len(ids(reader)) < len(REQUESTS)
    counted = reader.damage.requests
    path.write_bytes(whole)
    assert sorted(ids(reader)) == sorted(REQUESTS["request_id"].to_pylist())
    assert reader.damage.requests == counted


def test_a_file_that_is_gone_when_planning_counts_as_its_requests(video: Table) -> None:
    path = min(local_path(t.file.file_path) for t in video.scan().plan_files())
    rows = pq.ParquetFile(path).metadata.num_rows
    path.unlink()
    reader = Reader(video, skip_bad_requests=rows)
    assert reader.plan.requests == len(REQUESTS) - rows
    assert reader.damage.units == [[str(path), -1, rows]]
    assert len(ids(reader)) == len(REQUESTS) - rows
    with pytest.raises(DataFileError, match="is not there"):
        len(Reader(video, skip_bad_requests=rows - 1))


def test_only_the_rows_that_break_a_promise_are_lost(settings: Settings) -> None:
    requests = REQUESTS
    i = requests.schema.get_field_index("taste")
    values = requests["taste"].to_pylist()
    bad = [3, 4, 29]
    for row in bad:
        values[row] = [1.0]
    requests = requests.set_column(i, requests.schema.field(i), pa.array(values, requests.schema.field(i).type))
    table = write_request_table(settings, SPEC, requests, files=2, row_group=9)
    reader = Reader(table, skip_bad_requests=3, batch_requests=7)
    gone = {requests["request_id"][row].as_py() for row in bad}
    expected = expected_rows(REQUESTS, SPEC)
    rows = [row for batch in reader for row in rows_of(batch)]
    assert {row["request_id"] for row in rows} == set(expected) - gone
    assert all(same(row, expected[row["request_id"]]) for row in rows)
    assert reader.stats.bad_requests == reader.damage.requests == 3
    assert len(reader) == 9
    with pytest.raises(DataFileError, match=r"'taste', value .* has 1 elements.*skip_bad_requests allows 2"):
        list(Reader(table, skip_bad_requests=2))


def test_nothing_readable_is_an_error(video: Table) -> None:
    reader = Reader(video, skip_bad_requests=10_000, batch_requests=9)
    assert reader.plan.units
    for task in video.scan().plan_files():
        local_path(task.file.file_path).unlink()
    with pytest.raises(DataFileError, match="none of the plan's row groups can be read"):
        list(reader)


def test_options_that_leave_nothing_out_change_nothing(video: Table) -> None:
    everyone = Predicate("all", (), lambda _: np.ones(7, bool))
    plain, asked = Reader(video), Reader(video, skip_bad_requests=5, skip_requests=REQUESTS.select(["request_id"])[:0])
    for a, b in zip(plain, asked, strict=True):
        assert_batches_equal(a, b)
    assert everyone.mask({}, 7, "here").all()
