"""What an erasure did and what it cannot reach, as JSON and text. It names no user: the list's digest does."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lakehouse.upkeep.histories import EVIDENCE
from lakehouse.upkeep.traces import Trace


@dataclass(frozen=True)
class ErasedTable:
    """Rows of one table that were deleted from its current state, and its files and bytes before and after."""

    table: str
    rows: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True)
class EraseReport:
    """One erasure. `proved` if no decoded file speaks of an erased user; else `traces` says which do."""

    dataset: str
    users: int
    digest: str
    at: str
    tables: tuple[ErasedTable, ...]
    tags_rebuilt: tuple[str, ...]
    tags_dropped: tuple[str, ...]
    branches_dropped: tuple[str, ...]
    snapshots_expired: int
    files_removed: int
    requests: int
    """Request ids of theirs that were looked for; `shared_requests` are others' as well, and say nothing."""
    shared_requests: int
    histories: int
    """Lists of eight events or more that were looked for by hash; `shared_histories` are others' as well."""
    shared_histories: int
    decoded: dict[str, int]
    traces: tuple[Trace, ...]
    other_datasets: tuple[str, ...]
    """Tables of other datasets that hold the same ids: not touched."""
    raw_logs: tuple[str, ...]
    checkpoints: tuple[str, ...]
    logs: tuple[str, ...]
    seconds: float

    @property
    def proved(self) -> bool:
        """Whether the proof holds."""
        return not self.traces

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"proved": self.proved}

    def to_text(self) -> str:
        """The report as a page of plain text."""
        lines = [
            f"Erasure of {self.users} users from dataset {self.dataset}, {self.at} (list {self.digest})",
            "",
            "Proof: " + self._verdict(),
            *(f"  {t.path}: {t.count} times in {t.what}" for t in self.traces),
            *self._sought(),
            "",
            "Deleted:",
            *(
                f"  {t.table}: {t.rows} rows; files {t.files_before} -> {t.files_after}, "
                f"bytes {t.bytes_before} -> {t.bytes_after}"
                for t in self.tables
            ),
            f"  {self.snapshots_expired} snapshots, {self.files_removed} files",
            f"Training sets rebuilt: {_listed(self.tags_rebuilt)}; dropped: {_listed(self.tags_dropped)}",
            f"Branches dropped: {_listed(self.branches_dropped)}",
            "",
            "Not covered, to be handled by hand:",
            f"  raw logs outside the warehouse: {_listed(self.raw_logs)}",
            f"  checkpoints that may have seen the users: {_listed(self.checkpoints)}",
            f"  logs and pages that name a user: {_listed(self.logs)}",
            f"  other datasets with the same ids: {_listed(self.other_datasets)}",
        ]
        return "\n".join(lines) + "\n"

    def _sought(self) -> tuple[str, str]:
        lists = f"lists of {EVIDENCE} events or more in their histories, by hash"
        sought = f"{self.users} users, {self.requests} request ids of theirs, {self.histories} {lists}"
        shared = f"{self.shared_requests} request ids, {self.shared_histories} lists"
        return f"  looked for: {sought}", f"  not looked for, since users who stay have them too: {shared}"

    def _verdict(self) -> str:
        files = ", ".join(f"{count} {kind}" for kind, count in sorted(self.decoded.items()))
        what = "no value, no bound and no history is an erased user's" if self.proved else "erased users were found in"
        return f"every file under the warehouse was decoded ({files}): {what}"


def write_report(report: EraseReport, folder: Path) -> Path:
    """Write `erase-<digest>.json` and `.txt`, each whole or not at all; the text's path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"erase-{report.dataset}-{report.digest}"
    for ending, text in ((".json", json.dumps(report.to_json(), indent=2) + "\n"), (".txt", report.to_text())):
        draft = folder / f".{name}{ending}.{os.getpid()}"
        draft.write_text(text, encoding="utf-8")
        draft.replace(folder / f"{name}{ending}")
    return folder / f"{name}.txt"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
