"""What the lake has to be when the jobs of a round are done: the model's table, each thing once, no file too many."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pyiceberg.catalog import Catalog

from benchmarks.soak.data import SPEC, Model, Row, in_order
from lakehouse.catalog import open_catalog, table_names
from lakehouse.settings import Settings
from lakehouse.tags import tag_of
from lakehouse.upkeep.files import bare, owner, referenced, stored
from tests.spark_jobs.test_merge import RANKS


def mismatches(settings: Settings, model: Model, batches: set[str]) -> list[str]:
    """Every way in which the lake is not what the model says; `batches` are those that were brought in."""
    catalog = open_catalog(settings)
    expected = model.expected()
    found = _tables(catalog, settings, model, expected)
    found += _books(catalog, model, batches)
    return found + _leftovers(catalog, settings)


def _tables(catalog: Catalog, settings: Settings, model: Model, expected: list[Row]) -> list[str]:
    table = catalog.load_table(SPEC.table())
    found = _differences("main", _rows(table.scan().to_arrow().to_pylist()), expected)
    for tag, wanted in model.tags.items():
        snapshot = tag_of(catalog, SPEC, settings, tag).snapshot_of(SPEC.table())
        found += _differences(tag, _rows(table.scan(snapshot_id=snapshot).to_arrow().to_pylist()), wanted)
    return found


def _rows(rows: list[Row]) -> list[Row]:
    return in_order({k: v for k, v in row.items() if k not in RANKS} for row in rows)


def _differences(what: str, got: list[Row], wanted: list[Row]) -> list[str]:
    if got == wanted:
        return []
    mine, theirs = Counter(map(repr, got)), Counter(map(repr, wanted))
    more, less = list((mine - theirs).elements()), list((theirs - mine).elements())
    return [f"{what}: {len(more)} rows too many, {len(less)} too few: has {more[:2]}, lacks {less[:2]}"]


def _books(catalog: Catalog, model: Model, batches: set[str]) -> list[str]:
    """The ledger has each batch once, the quarantine each row once, and no label of an erased user waits.

    Labels that were applied may wait on, where the job died before it took them out: that they are applied once is seen
    in the table.
    """
    found = []
    entered = _content(catalog, "ledger")
    times = Counter((row["batch_id"], row["member"]) for row in entered)
    found += [f"ledger: {entry} {count} times" for entry, count in times.items() if count > 1]
    known = {row["batch_id"] for row in entered}
    if known != batches:
        found.append(f"ledger: has {sorted(known - batches)} too many, lacks {sorted(batches - known)}")
    rows = _content(catalog, "quarantine")
    held = Counter((r["batch_id"], r["file"], r["row"], r["reason"], r["detail"], r["raw"]) for r in rows)
    found += [f"quarantine: {row} {count} times" for row, count in held.items() if count > 1]
    users = {row["user_id"] for row in (*rows, *_content(catalog, "pending_labels"))} & model.erased
    return found + [f"rows or labels of the erased user {user} are held" for user in users]


def _content(catalog: Catalog, kind: str) -> list[dict[str, Any]]:
    if not catalog.table_exists(SPEC.table(kind)):
        return []
    rows: list[dict[str, Any]] = catalog.load_table(SPEC.table(kind)).scan().to_arrow().to_pylist()
    return rows


def _leftovers(catalog: Catalog, settings: Settings) -> list[str]:
    """No branch, no lease, and no file in the whole warehouse that no table references."""
    names = table_names(catalog, SPEC.namespace)
    found = [f"the lease {name} was left" for name in names if name.startswith(f"{SPEC.namespace}.{SPEC.name}_lease")]
    needed: set[str] = set()
    for name in names:
        table = catalog.load_table(name)
        needed |= referenced(table)
        refs = {ref for ref in table.metadata.refs if ref.startswith(("audit_", "erase_", "reader/"))}
        found += [f"{name} has {ref} left" for ref in sorted(refs)]
    io = catalog.load_table(SPEC.table()).io
    lost = sorted({bare(f.path) for f in stored(io, settings.catalog.warehouse) if owner(f.path) not in needed})
    return found + ([f"{len(lost)} files that nothing references: {lost[:3]}"] if lost else [])
