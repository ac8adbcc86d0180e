"""The proof of an erasure: every file under the warehouse is decoded, and what is only left over is removed.

A file that speaks of the users, that no table references and that no other dataset's folder holds was left by a job
that died: it goes. Files of other datasets are never touched; their tables are named.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from lakehouse.lease import lease_name
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.upkeep.files import StoredFile, addressed, bare, referenced, remove, stored
from lakehouse.upkeep.traces import UNREADABLE, Decoded, Trace, find_traces
from lakehouse.upkeep.wanted import Wanted


def prove(
    tables: list[Table], settings: Settings, spec: DatasetSpec, wanted: Wanted, started: datetime
) -> tuple[Decoded, tuple[str, ...], int]:
    """What was decoded and the traces that are left, tables of other datasets with traces, and files removed."""
    io, root = tables[0].io, _root(tables, settings)
    lying = {f.path: f for f in _lying(tables, root)}
    decoded = find_traces(io, (addressed(root, path) for path in sorted(lying)), wanted)
    known = set().union(*(referenced(t.refresh()) for t in tables))
    owners = _Owners(tables[0].catalog, tables, spec)
    kept, touched, lost = [], set(), set()
    for trace in decoded.traces:
        path = bare(trace.path)
        owner = owners.of(path)
        if owner is not None:
            if not trace.what.startswith(UNREADABLE):
                touched.add(owner)
        elif path not in known and lying[path].modified <= started:
            lost.add(path)
        else:
            kept.append(Trace(path, trace.what, trace.count))
    removed = remove(io, root, lost)
    return Decoded(decoded.files, tuple(kept)), tuple(sorted(touched)), removed


def _root(tables: list[Table], settings: Settings) -> str:
    """The warehouse; where a catalog knows it by a name only, the folder that the tables lie in."""
    warehouse = settings.catalog.warehouse
    return warehouse if "://" in warehouse else tables[0].location().rstrip("/").rpartition("/")[0]


def _lying(tables: list[Table], root: str) -> Iterable[StoredFile]:
    """Every file below the warehouse, and below tables that lie elsewhere."""
    inside = f"{bare(root).rstrip('/')}/"
    for where in (root, *(t.location() for t in tables if not bare(t.location()).startswith(inside))):
        yield from stored(tables[0].io, where)


class _Owners:
    """Which table of another dataset a file belongs to: one that references it, or in whose folder it lies."""

    def __init__(self, catalog: Catalog, mine: list[Table], spec: DatasetSpec) -> None:
        own = {t.name() for t in mine} | {tuple(lease_name(spec).split("."))}
        self.files: dict[str, str] = {}
        self.folders: dict[str, str] = {}
        for namespace in catalog.list_namespaces():
            for name in catalog.list_tables(namespace):
                if name not in own:
                    table = catalog.load_table(name)
                    self.files |= dict.fromkeys(referenced(table), ".".join(name))
                    self.folders[f"{bare(table.location()).rstrip('/')}/"] = ".".join(name)
        for table in mine:
            self.folders.pop(f"{bare(table.location()).rstrip('/')}/", None)

    def of(self, path: str) -> str | None:
        """The table's name; None for a file of this dataset or of nobody."""
        if path in self.files:
            return self.files[path]
        return next((name for folder, name in self.folders.items() if path.startswith(folder)), None)
