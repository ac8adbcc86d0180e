"""Which snapshots of a table a batch takes: PyIceberg's own tables, without Spark."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pyiceberg.expressions import EqualTo
from pyiceberg.table import Table

from lakehouse.catalog import ensure_namespace, open_catalog
from lakehouse.settings import Settings
from spark_jobs.errors import BatchRefusedError
from spark_jobs.snapshots import Span, changed, newest, spans

ROWS = pa.table({"id": [1, 2, 3]})


@pytest.fixture
def table(settings: Settings) -> Table:
    catalog = open_catalog(settings)
    ensure_namespace(catalog, "raw", settings)
    return catalog.create_table("raw.impressions", ROWS.schema)


def appended(table: Table) -> int:
    table.append(ROWS)
    return head(table)


def head(table: Table) -> int:
    snapshot = table.refresh().current_snapshot()
    assert snapshot is not None
    return snapshot.snapshot_id


def test_a_table_is_taken_whole_and_then_from_the_last_range_on(table: Table) -> None:
    uuid = str(table.metadata.table_uuid)
    assert spans(table, None, None, set(), None) == []
    first, second = appended(table), appended(table)
    (whole,) = spans(table, None, None, {"17:abcdef"}, None)
    assert (whole, whole.member) == (Span(uuid, None, second), f"{uuid}:0:{second}")
    assert spans(table, None, None, {whole.member}, None) == [whole], "nothing is new: the last again, which is known"
    third, fourth = appended(table), appended(table)
    (some,) = spans(table, None, third, {whole.member}, None)
    (rest,) = spans(table, None, None, {whole.member, some.member}, None)
    assert (some, rest) == (Span(uuid, second, third), Span(uuid, third, fourth))
    members = {whole.member, some.member}
    assert spans(table, None, None, members, {some.member}) == [some], "a batch's name stands for its range"
    assert spans(table, None, fourth, members, {some.member}) == [rest], "but not for another"
    assert spans(table, second, third, members, None) == [some]
    assert spans(table, first, third, members, None) == [whole, some], "each of its snapshots is in one of these"
    assert spans(table, 0, fourth, members, None) == [Span(uuid, None, fourth)], "the whole table, whatever was taken"
    with pytest.raises(BatchRefusedError, match=rf"1 of the 2 snapshots .*: give --from-snapshot {third}"):
        spans(table, second, fourth, members, None)


def test_what_is_no_append_is_refused_by_name(table: Table) -> None:
    first = Span(str(table.metadata.table_uuid), None, appended(table))
    table.delete(EqualTo("id", 2))
    deleted, last = head(table), appended(table)
    for after in (None, first.to):
        with pytest.raises(
            BatchRefusedError,
            match=rf"snapshot {deleted} of raw.impressions is an? (delete|overwrite).*--from-snapshot {deleted}",
        ):
            spans(table, after, None, {first.member}, None)
    assert spans(table, deleted, None, {first.member}, None) == [Span(first.uuid, deleted, last)]
    whole = Span(first.uuid, first.to, last)
    assert spans(table, None, None, {first.member}, None, changes=True) == [whole], "unless it is asked for"
    assert (changed(table, whole), changed(table, first)) == (True, False)
    assert newest(table, [whole, first]) == whole


def test_ranges_that_cannot_be_told_are_refused(table: Table) -> None:
    start, middle, last = (appended(table) for _ in range(3))
    for after, to, says in [
        (7, None, f"snapshot 7 of raw.impressions is none of those before {last}"),
        (None, 7, "has no snapshot 7"),
        (last, start, f"snapshot {last} .* is none of those before {start}"),
    ]:
        with pytest.raises(BatchRefusedError, match=says):
            spans(table, after, to, set(), None)
    known = Span(str(table.metadata.table_uuid), None, middle).member
    table.maintenance.expire_snapshots().by_ids([start, middle]).commit()
    with pytest.raises(BatchRefusedError, match=r"they expired, or the table was rolled back.*or 0 to read the whole"):
        spans(table, None, None, {known}, None)
