"""Checks of what a reader is opened with, each with an error that names the option and its value."""

from __future__ import annotations

from pyiceberg.schema import Schema
from pyiceberg.table import Table

from feature_reader.errors import ReaderError
from lakehouse.errors import nearest


def check_positive(**given: int) -> None:
    """Each is at least 1."""
    for name, value in given.items():
        if value < 1:
            raise ReaderError(f"{name}={value}: give at least 1")


def check_share(rank: int, world_size: int) -> None:
    """The rank is one of so many."""
    if not 0 <= rank < world_size:
        raise ReaderError(f"rank {rank} of world_size {world_size}: ranks go from 0 to {world_size - 1}")


def check_tail(tail: str, batch_by: str) -> None:
    """The tail is one that batches cut by this can have."""
    if tail not in ("pad", "drop", "wrap"):
        raise ReaderError(f"tail {tail!r}: write 'pad', 'drop' or 'wrap'")
    if tail == "wrap" and batch_by != "requests":
        raise ReaderError(f"tail 'wrap' with batch_{batch_by}: only batches of requests wrap, write 'pad' or 'drop'")


def check_users(least: int, batch_by: str, batch_size: int, *, shuffle: bool) -> None:
    """Batches can hold so many users."""
    if least < 0:
        raise ReaderError(f"min_users_per_batch={least}: give the least number of users, 0 for any")
    if least > 1 and not shuffle:
        raise ReaderError(f"min_users_per_batch={least} with shuffle=False: the files' own order is kept as it is")
    if least > batch_size and batch_by == "requests":
        raise ReaderError(
            f"min_users_per_batch={least} with batch_requests={batch_size}: a batch has no more users than requests"
        )


def batch_unit(**given: int | None) -> tuple[str, int]:
    """What batches are cut by, and how much of it: 64 requests unless exactly one of the three is given."""
    chosen = {name: size for name, size in given.items() if size is not None}
    if len(chosen) > 1:
        raise ReaderError(f"{' and '.join(f'batch_{n}={s}' for n, s in chosen.items())}: give one of them")
    name, size = next(iter(chosen.items()), ("requests", 64))
    check_positive(**{f"batch_{name}": size})
    return name, size


def pinned_schema(table: Table, schema_id: int | None) -> Schema:
    """The schema of this id, the current one for None."""
    if schema_id is None:
        return table.schema()
    schema = table.metadata.schema_by_id(schema_id)
    if schema is None:
        known = ", ".join(str(s.schema_id) for s in table.metadata.schemas)
        raise ReaderError(f"schema_id={schema_id}: {'.'.join(table.name())} has schemas {known}")
    return schema


def pinned_snapshot(table: Table, snapshot_id: int | None, tag: str | None) -> int | None:
    """The snapshot to read: the one named, the current one, or None for a table without any."""
    name, refs = ".".join(table.name()), table.metadata.refs
    if snapshot_id is not None and tag is not None:
        raise ReaderError(f"snapshot_id={snapshot_id} and tag={tag!r}: give one of them")
    if tag is not None:
        if tag not in refs:
            raise ReaderError(f"{name} has no tag {tag!r}.{nearest(tag, refs)} It has {', '.join(refs) or 'none'}")
        return refs[tag].snapshot_id
    if snapshot_id is not None:
        if table.metadata.snapshot_by_id(snapshot_id) is None:
            raise ReaderError(f"{name} has no snapshot {snapshot_id}: it was expired, or it is another table's")
        return snapshot_id
    current = table.metadata.current_snapshot()
    return current.snapshot_id if current is not None else None
