"""Several tables, or tags of one, in one plan: each request once, one order, one state that names every table."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pyiceberg.table import Table

from feature_reader import Reader, ReaderError, RequestBatch, Source, StateError
from feature_reader.testing import assert_batches_equal
from lakehouse.catalog import open_catalog
from lakehouse.schema import ensure_request_table
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, parse_spec
from tests.feature_reader.plain import expected_rows, rows_of, same
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SPEC = SPECS["video"]


def named(spec: DatasetSpec, name: str, **changed: Any) -> DatasetSpec:
    """The spec under another name, with parts of it changed."""
    return parse_spec(spec.model_dump(exclude_unset=True) | {"name": name} | changed)


REQUESTS = reference_requests(raw_log(SPEC, users=60), SPEC)
"""Three months of 60 requests each."""


def table_of(settings: Settings, name: str, month: int, **options: Any) -> Table:
    return write_request_table(settings, named(SPEC, name), REQUESTS.slice(60 * month, 60), **options)


@pytest.fixture
def two(settings: Settings) -> list[Table]:
    """120 requests of two months, in two tables of other files and row groups."""
    return [
        table_of(settings, "january", 0, files=2, row_group=7),
        table_of(settings, "february", 1, files=1, row_group=13),
    ]


def ids(batches: list[RequestBatch]) -> list[int]:
    return [int(i) for b in batches for i in b["request_id"][: b.R - b.padding]]


def test_each_request_of_both_comes_once_and_as_its_table_holds_it(two: list[Table]) -> None:
    expected = expected_rows(REQUESTS.slice(0, 120), SPEC)
    reader = Reader(two, batch_requests=9, window=5)
    batches = list(reader)
    assert len(batches) == 14
    rows = [row for batch in batches for row in rows_of(batch)]
    assert sorted(r["request_id"] for r in rows) == sorted(expected)
    assert all(same(row, expected[row["request_id"]]) for row in rows)
    months = [{"january" in o.files[f] for f in o.file} for o in (b.origin for b in batches) if o is not None]
    assert any(len(month) == 2 for month in months)  # one window draws from both


def test_the_order_does_not_follow_the_list(two: list[Table]) -> None:
    one, other = Reader(two, seed=3), Reader(two[::-1], seed=3)
    assert one.plan.hash == other.plan.hash
    assert ids(list(one)) == ids(list(other))


@pytest.mark.usefixtures("two")
def test_tables_are_opened_by_their_names(settings: Settings) -> None:
    names = ["reqlake.february_requests", "reqlake.january_requests"]
    reader = Reader.open(settings, names)
    assert [source.label for source in reader.sources] == names
    assert reader.plan.requests == 120


def test_ranks_share_both_tables_and_any_step_resumes(two: list[Table]) -> None:
    whole = list(Reader(two, batch_requests=11, window=4))
    reader = Reader(two, batch_requests=11, window=4)
    for i, _ in enumerate(reader):
        resumed = Reader([Source(t) for t in two], batch_requests=11)
        resumed.load_state_dict(json.loads(json.dumps(reader.state_dict())))
        assert resumed.requests_consumed in ((i + 1) * 11, 0, 120)
        for got, want in zip(resumed, whole[i + 1 :], strict=True):
            assert_batches_equal(got, want)
    ranks = [list(Reader(two, batch_requests=4, window=4, rank=r, world_size=3)) for r in range(3)]
    assert sorted(i for rank in ranks for i in ids(rank)) == sorted(ids(whole))


def test_a_state_holds_the_map_and_pins_every_snapshot(two: list[Table], settings: Settings) -> None:
    reader = Reader(two, batch_requests=11)
    iterator = iter(reader)
    next(iterator)
    state = reader.state_dict()
    rest = ids(list(iterator))
    assert {name: pin["snapshot_id"] for name, pin in state["tables"].items()} == {
        "reqlake.february_requests": two[1].current_snapshot().snapshot_id,  # type: ignore[union-attr]
        "reqlake.january_requests": two[0].current_snapshot().snapshot_id,  # type: ignore[union-attr]
    }
    grown = [table_of(settings, "january", 2), open_catalog(settings).load_table("reqlake.february_requests")]
    other = Reader(grown, batch_requests=11)
    assert other.plan.requests == 180
    other.load_state_dict(state)
    assert ids(list(other)) == rest


def test_each_difference_is_named_with_its_table(two: list[Table]) -> None:
    state = Reader(two).state_dict()
    with pytest.raises(
        StateError, match=r"Only in the state: none; only in the reader: \['?reqlake|only in the reader"
    ):
        Reader(two).load_state_dict(Reader(two[0]).state_dict() | {"tables": {}})
    with pytest.raises(StateError, match=r"different tables\. Only in the state: reqlake\.february_requests"):
        Reader([two[0]]).load_state_dict(state)
    changed = {name: pin | {"schema_id": 4, "table_uuid": "x"} for name, pin in state["tables"].items()}
    with pytest.raises(StateError, match=r"schema_id of reqlake\.february_requests: the state has 4") as caught:
        Reader(two).load_state_dict(state | {"tables": changed})
    assert "table_uuid of reqlake.january_requests: the state has 'x'" in str(caught.value)
    gone = {name: pin | {"snapshot_id": 77} for name, pin in state["tables"].items()}
    with pytest.raises(StateError, match=r"the state's snapshot 77 is no longer in reqlake\.february_requests"):
        Reader(two).load_state_dict(state | {"tables": gone})
    with pytest.raises(StateError, match="tables are 'x': it was edited"):
        Reader(two).load_state_dict(state | {"tables": "x"})


def test_tags_of_one_table_are_read_where_they_share_no_file(settings: Settings) -> None:
    table = table_of(settings, "video", 0, files=1)
    table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "january").commit()  # type: ignore[union-attr]
    with pytest.raises(ReaderError, match=r"requests@\d+ and .*requests@january share 2 data files"):
        len(Reader([Source(table, tag="january"), table]))
    table.delete()
    table = table_of(settings, "video", 1, files=1)
    table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "february").commit()  # type: ignore[union-attr]
    both = Reader([Source(table, tag="january"), Source(table, tag="february")])
    assert len(set(ids(list(both)))) == 120
    assert list(both.state_dict()["tables"]) == ["reqlake.video_requests@february", "reqlake.video_requests@january"]
    assert ids(list(Reader([table], tag="january"))) == ids(list(Reader(table, tag="january")))
    with pytest.raises(ReaderError, match="requests@january is given twice"):
        Reader([table, table], tag="january")


def test_tables_whose_columns_differ_are_refused_by_name(settings: Settings) -> None:
    ours, catalog = table_of(settings, "video", 0), open_catalog(settings)
    less = named(SPEC, "less", request_features={"device": {"type": "string", "embedding": "device"}})
    other = write_request_table(settings, less, REQUESTS.slice(60, 60).drop_columns(["taste"]))
    with pytest.raises(ReaderError, match=r"taste only in reqlake\.video_requests"):
        Reader([ours, other])
    assert sum(b.R for b in Reader([ours, other], columns=["request_id", "item_id"])) == 120
    with pytest.raises(ReaderError, match=r"no column 'taste' in .*less"):
        Reader([ours, other], columns=["taste"])
    features = SPEC.model_dump(exclude_unset=True)["request_features"]
    wide = ensure_request_table(
        catalog, named(SPEC, "wide", request_features=features | {"taste": "vector<float, 5>"}), settings
    )
    message = "'taste' is a request's vector<float, 4> with default nan in .*video_requests, but .*vector<float, 5>"
    with pytest.raises(ReaderError, match=message):
        Reader([ours, wide])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"snapshot_id": 5}, "Source"), ({"schema_id": 0}, "Source"), ({"tag": "gold"}, "no tag 'gold'")],
)
def test_options_of_one_table_are_refused_for_two(two: list[Table], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        Reader(two, **options)
    with pytest.raises(ReaderError, match="no table to read"):
        Reader([])
