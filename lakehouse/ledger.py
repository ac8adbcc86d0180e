"""The ledger: which raw files are in a request table, by which batch and snapshot.

A batch's members travel in the summary of the snapshot that publishes it, so a job that died between publishing and
writing here is made good by the next one (`recover`). A snapshot may expire; its row here stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import IntegerType, LongType, NestedField, StringType, TimestamptzType

from lakehouse.catalog import catalog_errors, ensure_namespace, ensure_table
from lakehouse.errors import CatalogError
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec

TRIES = 8
BATCH, FILES = "reqlake.batch-id", "reqlake.files"
REPLAYED = "replay:"  # how a member begins that is held rows, and not a file
SCHEMA = Schema(
    NestedField(1, "batch_id", StringType(), required=True, doc="the batch that brought the file in"),
    NestedField(2, "member", StringType(), required=True, doc="size:sha256 of the file"),
    NestedField(3, "name", StringType(), doc="the file's name at the time"),
    NestedField(4, "rows", LongType(), doc="raw rows of the file"),
    NestedField(5, "snapshot_id", LongType(), doc="the snapshot of the request table that published it"),
    NestedField(6, "published_at", TimestamptzType(), doc="when that snapshot was made"),
    NestedField(7, "format", IntegerType(), doc="1"),
)


@dataclass(frozen=True)
class Member:
    """One file of a batch: identity, name, rows."""

    member: str
    name: str
    rows: int


def members_json(members: Iterable[Member]) -> str:
    """Members as the snapshot's summary holds them."""
    return json.dumps([[m.member, m.name, m.rows] for m in members], separators=(",", ":"))


class Ledger:
    """The ledger table of one dataset, made where there is none. Errors are CatalogError."""

    def __init__(self, catalog: Catalog, spec: DatasetSpec, settings: Settings) -> None:
        self.settings = settings
        ensure_namespace(catalog, spec.namespace, settings)
        properties = {"format-version": "2", "reqlake.ledger": "1"}
        self.table = ensure_table(catalog, spec.table("ledger"), SCHEMA, settings, properties=properties)

    def batches(self) -> dict[str, set[str]]:
        """Members by batch id."""
        with catalog_errors(self.settings):
            rows = self.table.refresh().scan(selected_fields=("batch_id", "member")).to_arrow()
        found: dict[str, set[str]] = {}
        for batch, member in zip(rows["batch_id"].to_pylist(), rows["member"].to_pylist(), strict=True):
            found.setdefault(batch, set()).add(member)
        return found

    def write(self, batch_id: str, members: Iterable[Member], snapshot_id: int, published_ms: int) -> None:
        """Enter one published batch, unless another job has found it in the snapshots and entered it already.

        Raises CatalogError where other jobs write to the ledger each time this one is about to.
        """
        at = datetime.fromtimestamp(published_ms / 1000, UTC)
        rows = [
            {
                "batch_id": batch_id,
                "member": m.member,
                "name": m.name,
                "rows": m.rows,
                "snapshot_id": snapshot_id,
                "published_at": at,
                "format": 1,
            }
            for m in members
        ]
        entries = pa.Table.from_pylist(rows, schema=self.table.schema().as_arrow())
        with catalog_errors(self.settings):
            for _ in range(TRIES):
                if batch_id in self.batches():
                    return
                # PyIceberg would retry a lost commit by itself, and append what the other job has appended.
                if self.table.properties.get("commit.retry.num-retries") != "0":
                    with self.table.transaction() as change:
                        change.set_properties({"commit.retry.num-retries": "0"})
                try:
                    self.table.append(entries)
                except CommitFailedException:
                    continue
                return
        raise CatalogError(
            f"{'.'.join(self.table.name())}: other jobs wrote to it {TRIES} times in a row: run this again"
        )

    def recover(self, requests: Table) -> list[str]:
        """Enter batches that the request table's history holds and the ledger does not; their ids."""
        known = self.batches()
        recovered = []
        for snapshot in _history(requests):
            summary = snapshot.summary.additional_properties if snapshot.summary else {}
            batch = summary.get(BATCH)
            if batch is not None and batch not in known:
                members = [Member(*entry) for entry in json.loads(summary[FILES])]
                self.write(batch, members, snapshot.snapshot_id, snapshot.timestamp_ms)
                known[batch] = {m.member for m in members}
                recovered.append(batch)
        return recovered


def _history(table: Table) -> Iterable[Snapshot]:
    """Snapshots of main, newest first: a branch that was never published does not count."""
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
