"""A sample of a request table: whole users, chosen by a hash of their id.

The choice depends on the user alone: the same share always gives the same users, a smaller share gives fewer of them,
and the same users are chosen in every table and snapshot of a dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.update.snapshot import ManageSnapshots

from lakehouse.catalog import catalog_errors, table_names
from lakehouse.chosen_users import chosen_users
from lakehouse.errors import TagError
from lakehouse.schema import ensure_request_table, open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, spec_from_json
from lakehouse.tags.rows import read_tasks
from lakehouse.tags.sets import create_tag, snapshot_or_current

SAMPLE = "reqlake.sample"
ORDER = [("user_id", "ascending"), ("request_id", "ascending"), ("request_hash", "ascending")]


@dataclass(frozen=True)
class Sampled:
    """What a sample holds, and where. `skipped`: it was there already."""

    table: str
    tag: str | None
    snapshot_id: int
    share: float
    requests: int
    of_requests: int
    users: int
    skipped: bool = False


def sample_as_tag(
    catalog: Catalog, spec: DatasetSpec, settings: Settings, name: str, share: float, *, snapshot_id: int | None = None
) -> Sampled:
    """Write the sample beside the table's history, on no branch, and pin it as a training set.

    The same again changes nothing. Raises TagError for a name that pins something else, TableMissingError.
    """
    table = open_request_table(catalog, spec, settings)
    source = snapshot_or_current(table, snapshot_id)
    what = f"{share}/{source.snapshot_id}"
    known = table.metadata.refs.get(name)
    if known is not None:
        pinned = table.snapshot_by_id(known.snapshot_id)
        summary = pinned.summary.additional_properties if pinned and pinned.summary else {}
        if summary.get(SAMPLE) != what:
            raise TagError(f"{spec.table()} has a tag {name!r} that is not this sample: choose another name")
        counts = _counts(table, known.snapshot_id)
        return Sampled(
            spec.table(), name, known.snapshot_id, share, counts[0], _total(table, source.snapshot_id), counts[1], True
        )
    branch = f"sample_{name}"
    _drop_branch(table, branch, settings)  # of a run that died
    with catalog_errors(settings), table.transaction() as change, ManageSnapshots(change) as refs:
        refs.create_branch(source.snapshot_id, branch)
    table.refresh()
    try:
        with catalog_errors(settings), table.transaction() as change:
            change.delete(AlwaysTrue(), branch=branch)
            for rows in _chosen(table, source.snapshot_id, share):
                change.append(rows, branch=branch, snapshot_properties={SAMPLE: what})
        head = table.refresh().snapshot_by_name(branch)
        assert head is not None
        create_tag(catalog, spec, settings, name, snapshot_id=head.snapshot_id)
    finally:
        _drop_branch(table.refresh(), branch, settings)
    counts = _counts(table, head.snapshot_id)
    return Sampled(spec.table(), name, head.snapshot_id, share, counts[0], _total(table, source.snapshot_id), counts[1])


def sample_as_table(
    catalog: Catalog,
    spec: DatasetSpec,
    settings: Settings,
    dataset: str,
    share: float,
    *,
    snapshot_id: int | None = None,
) -> Sampled:
    """Write the sample as a dataset of its own, in one commit; the same again changes nothing.

    Raises TagError for a dataset that holds something else, TableMissingError.
    """
    table = open_request_table(catalog, spec, settings)
    source = snapshot_or_current(table, snapshot_id)
    what = f"{table.metadata.table_uuid}/{share}/{source.snapshot_id}"
    own = spec_from_json(table_spec(table).model_copy(update={"name": dataset}).to_json(), f"the sample {dataset}")
    if own.table() in table_names(catalog, own.namespace):
        known = open_request_table(catalog, own, settings)
        current = known.current_snapshot()
        if current is not None:
            summary = current.summary.additional_properties if current.summary else {}
            if summary.get(SAMPLE) != what:
                raise TagError(f"{own.table()} is there already and is not this sample: choose another name")
            counts = _counts(known, current.snapshot_id)
            of = _total(table, source.snapshot_id)
            return Sampled(own.table(), None, current.snapshot_id, share, counts[0], of, counts[1], True)
    target = ensure_request_table(catalog, own, settings)
    with catalog_errors(settings), target.transaction() as change:
        for rows in _chosen(table, source.snapshot_id, share):
            change.append(rows, snapshot_properties={SAMPLE: what})
    head = target.refresh().current_snapshot()
    if head is None:
        raise TagError(f"no user of {spec.table()} falls into a sample of {share}: take a larger share")
    counts = _counts(target, head.snapshot_id)
    return Sampled(own.table(), None, head.snapshot_id, share, counts[0], _total(table, source.snapshot_id), counts[1])


def _chosen(table: Table, snapshot_id: int, share: float) -> Iterator[pa.Table]:
    """The chosen users' rows, partition by partition, in the table's order."""
    scan = table.scan(snapshot_id=snapshot_id)
    names = [f.name for f in scan.projection().fields]
    partitions: dict[str, list[FileScanTask]] = {}
    for task in scan.plan_files():
        partitions.setdefault(repr(task.file.partition), []).append(task)
    schema = scan.projection().as_arrow()
    any_rows = False
    for _, tasks in sorted(partitions.items()):
        parts = [
            rows.filter(pa.array(chosen_users(rows["user_id"].to_numpy(), share)))
            for rows in read_tasks(table, snapshot_id, tasks, names)
        ]
        rows = pa.concat_tables([p.cast(schema) for p in parts]) if parts else schema.empty_table()
        if len(rows):
            any_rows = True
            yield rows.take(pc.sort_indices(rows, sort_keys=ORDER))
    if not any_rows:
        raise TagError(f"no user of {'.'.join(table.name())} falls into a sample of {share}: take a larger share")


def _counts(table: Table, snapshot_id: int) -> tuple[int, int]:
    """Requests and users of a snapshot."""
    users = table.scan(snapshot_id=snapshot_id, selected_fields=("user_id",)).to_arrow()["user_id"]
    return len(users), pc.count_distinct(users).as_py()


def _total(table: Table, snapshot_id: int) -> int:
    return sum(t.file.record_count for t in table.scan(snapshot_id=snapshot_id).plan_files())


def _drop_branch(table: Table, branch: str, settings: Settings) -> None:
    if branch in table.metadata.refs:
        with catalog_errors(settings), table.transaction() as change, ManageSnapshots(change) as refs:
            refs.remove_branch(branch)
        table.refresh()
