"""Which partitions are due, and why; counted from manifests alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.settings import MaintenanceSettings, Settings
from lakehouse.upkeep.advice import advise
from lakehouse.upkeep.health import overlap_depth, partition_health
from lakehouse.upkeep.state import TableState
from tests.lakehouse.merge_on_read import delete_positions
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

NEVER = MaintenanceSettings(small_files=10_000, overlap_depth=10_000, deleted_share=1.0)
RANGES = st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 6)).map(lambda r: (r[0], r[0] + r[1])), max_size=12)


@given(RANGES)
def test_depth_is_the_most_ranges_over_one_point(ranges: list[tuple[int, int]]) -> None:
    assert overlap_depth(ranges) == max((sum(a <= x <= b for a, b in ranges) for x in range(-9, 16)), default=0)
    assert overlap_depth([*ranges, None]) == overlap_depth(ranges) + 1


@pytest.mark.parametrize("name", SPECS)
def test_partitions_add_up_to_the_table(settings: Settings, name: str) -> None:
    spec = SPECS[name]
    table = write_request_table(settings, spec, reference_requests(raw_log(spec), spec), files=3, row_group=4)
    found, state = partition_health(table, NEVER), TableState.of(table)
    assert not any(p.due for p in found)
    assert sum(p.files for p in found) == state.files
    assert sum(p.rows for p in found) == state.rows == len(table.scan().to_arrow())
    assert sum(p.file_bytes for p in found) == state.file_bytes
    assert len({p.name for p in found}) == len(found) > 1
    assert sum(p.row_groups for p in found) > state.files


def test_each_threshold_makes_due_and_says_why(settings: Settings) -> None:
    spec = SPECS["shop"]  # three buckets, no grain: each commit adds a file to each
    rows = reference_requests(raw_log(spec), spec)
    write_request_table(settings, spec, rows, files=1)
    table = write_request_table(settings, spec, rows, files=1)
    small = partition_health(table, NEVER.model_copy(update={"small_files": 2}))
    assert {p.reasons for p in small} == {("2 small files",)}
    assert {p.files_after for p in small} == {1}
    deep = partition_health(table, NEVER.model_copy(update={"overlap_depth": 2}))
    assert {p.reasons for p in deep} == {("2 files may hold one user",)}
    assert not any(p.due for p in partition_health(table, NEVER.model_copy(update={"small_files": 3})))


def test_deleted_rows_make_due(settings: Settings) -> None:
    spec = SPECS["shop"]
    table = write_request_table(settings, spec, reference_requests(raw_log(spec), spec), files=1)
    file = next(iter(table.scan().plan_files())).file
    delete_positions(table, {file.file_path: [0, 1]})
    found = partition_health(table.refresh(), NEVER.model_copy(update={"deleted_share": 0.01}))
    assert [p.deleted_rows for p in found if p.due] == [2]
    assert found[0].saved_bytes == pytest.approx(found[0].file_bytes * 2 / found[0].rows, abs=1)


def test_advice_names_the_command_that_mends(settings: Settings) -> None:
    spec = SPECS["shop"]
    rows = reference_requests(raw_log(spec), spec)
    table = write_request_table(settings, spec, rows, files=1)
    limits = NEVER.model_copy(update={"small_files": 2, "keep_days": 0})
    (foreign,) = advise(table, "shop", limits)  # the tests write by PyIceberg alone, in order
    assert "1 commit by other writers" in foreign.finding
    assert "in order" in foreign.finding
    order = list(range(len(rows)))[::-1]
    table.append(rows.take(order).cast(table.schema().as_arrow()))
    due, lost, stale = advise(table.refresh(), "shop", limits)
    assert (due.command, lost.command) == ("reqlake compact shop", "reqlake compact shop --every")
    assert due.finding == "3 partitions due: 6 small files, up to 2 files to open for one user"
    assert "3 of 6 of their files" in lost.finding
    assert stale.command == "reqlake expire shop"
