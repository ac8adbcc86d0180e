"""What ails a request table, each finding with the command that mends it; reads metadata and a few key columns."""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.ledger import BATCH
from lakehouse.settings import MaintenanceSettings
from lakehouse.upkeep.age import outlived
from lakehouse.upkeep.health import partition_health
from lakehouse.upkeep.in_order import in_order
from lakehouse.upkeep.state import TableState

KEYS = ("user_id", "request_id")
LOOKED_AT = 8
"""Files of foreign writers whose order is looked at, the largest first."""


@dataclass(frozen=True)
class Advice:
    """One finding, and the command that mends it."""

    finding: str
    command: str


def advise(table: Table, dataset: str, limits: MaintenanceSettings) -> tuple[Advice, ...]:
    """Findings in the order of their weight; empty for a table in good health."""
    if table.current_snapshot() is None:
        return ()
    found: list[Advice] = []
    due = [p for p in partition_health(table, limits) if p.due]
    small, deep = sum(p.small_files for p in due), max((p.overlap_depth for p in due), default=0)
    if due:
        told = [f"{small} small files"] if small else []
        told += [f"up to {deep} files to open for one user"] if deep > 1 else []
        told += [f"{sum(p.delete_files for p in due)} delete files"] if any(p.delete_files for p in due) else []
        found.append(Advice(f"{_count(len(due), 'partition')} due: {', '.join(told)}", f"reqlake compact {dataset}"))
    found += _foreign(table, dataset)
    stale = len(outlived(table, limits.keep_days))
    if stale:
        days = f"{limits.keep_days:g} days"
        found.append(
            Advice(f"{_count(stale, 'snapshot')} older than {days} held by nothing", f"reqlake expire {dataset}")
        )
    state = TableState.of(table)
    if state.manifests > limits.manifests:
        found.append(Advice(f"{state.manifests} manifests to read before a plan", f"reqlake maintain {dataset}"))
    return tuple(found)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _foreign(table: Table, dataset: str) -> list[Advice]:
    """Appends by other writers than reqlake's, and the files of theirs that lost the order."""
    foreign = {s.snapshot_id: _engine(s) for s in table.metadata.snapshots if _is_foreign(s)}
    if not foreign:
        return []
    theirs = _added_by(table, set(foreign))
    files = sorted(theirs, key=lambda f: -f.record_count)[:LOOKED_AT]
    lost = sum(not in_order(table.io, f.file_path, KEYS) for f in files)
    who = ", ".join(sorted(set(foreign.values())))
    told = f"{_count(len(foreign), 'commit')} by other writers ({who})"
    if lost:
        looked = f"{lost} of {len(files)} of their files that were looked at"
        return [
            Advice(f"{told}: {looked} are not in the order of user and request", f"reqlake compact {dataset} --every")
        ]
    return (
        [Advice(f"{told}, in order: their batches are in no ledger", f"reqlake validate {dataset}")] if theirs else []
    )


def _is_foreign(snapshot: Snapshot) -> bool:
    summary = snapshot.summary
    if summary is None or summary.operation.value not in ("append", "overwrite"):
        return False
    return not any(name.startswith("reqlake.") for name in summary.additional_properties) and (
        BATCH not in summary.additional_properties
    )


def _engine(snapshot: Snapshot) -> str:
    properties = snapshot.summary.additional_properties if snapshot.summary else {}
    return properties.get("engine-name") or ("spark" if "spark.app.id" in properties else "PyIceberg or another")


def _added_by(table: Table, snapshots: set[int]) -> list[DataFile]:
    current = table.current_snapshot()
    files: list[DataFile] = []
    for manifest in current.manifests(table.io) if current else ():
        entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        files += [e.data_file for e in entries if e.snapshot_id in snapshots]
    return [f for f in files if f.content == DataFileContent.DATA]
