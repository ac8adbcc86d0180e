"""Two tables trade places in the catalog, and a table goes for good.

In a SQL catalog (SQLite, Postgres) the trade is one transaction, which also proves that nobody has committed to either
table since it was looked at: whoever opens the name gets the one or the other, whole. Other catalogs rename one table
at a time. There the name is missing between two calls; `mend` gives it back where a process died in between.
"""

from __future__ import annotations

from typing import Any, cast

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.table import Table
from sqlalchemy import CursorResult, update
from sqlalchemy.orm import Session

from lakehouse.catalog import ASIDE, catalog_errors, table_names
from lakehouse.settings import Settings
from lakehouse.upkeep.files import bare, remove, stored
from lakehouse.upkeep.relayout import ANEW, BEFORE


def swap(catalog: Catalog, current: Table, other: Table, kept: str, settings: Settings) -> None:
    """`other` takes the name of `current`, which is kept under the name `kept`, that `other` may have had.

    Raises CommitFailedException, with nothing changed, where either table has moved on since it was loaded.
    """
    name, theirs = (".".join(table.name()) for table in (current, other))
    aside = f"{name}{ASIDE}"
    steps = [(name, aside, current), (theirs, name, other), (aside, kept, current)]
    with catalog_errors(settings):
        if isinstance(catalog, SqlCatalog):
            _at_once(catalog, steps)
        else:
            _one_by_one(catalog, steps)


def _at_once(catalog: SqlCatalog, steps: list[tuple[str, str, Table]]) -> None:
    with Session(catalog.engine) as session, session.begin():
        for before, after, table in steps:
            space, _, old = before.rpartition(".")
            statement = (
                update(IcebergTables)
                .where(
                    IcebergTables.catalog_name == catalog.name,
                    IcebergTables.table_namespace == space,
                    IcebergTables.table_name == old,
                    IcebergTables.metadata_location == table.metadata_location,
                )
                .values(table_name=after.rpartition(".")[2])
            )
            moved = cast("CursorResult[Any]", session.execute(statement))
            if moved.rowcount != 1:
                raise CommitFailedException(f"{before} has been changed by another writer")


def _one_by_one(catalog: Catalog, steps: list[tuple[str, str, Table]]) -> None:
    done: list[tuple[str, str]] = []
    for before, after, table in steps:
        catalog.rename_table(before, after)
        done.append((before, after))
        if catalog.load_table(after).metadata_location != table.metadata_location:
            for old, new in reversed(done):
                catalog.rename_table(new, old)
            raise CommitFailedException(f"{before} has been changed by another writer")


def mend(catalog: Catalog, name: str, settings: Settings) -> bool:
    """Give a table its name back that a dead swap has put aside; whether there was anything to do."""
    with catalog_errors(settings):
        there = set(table_names(catalog, name.rpartition(".")[0]))
        if f"{name}{ASIDE}" not in there:
            return False
        if name not in there:
            catalog.rename_table(f"{name}{ASIDE}", name)
        else:  # the other table has the name already: the last step is left
            catalog.rename_table(f"{name}{ASIDE}", f"{name}{BEFORE}")
        return True


def drop_whole(catalog: Catalog, name: str, settings: Settings) -> int:
    """Remove a table with every file in its folder; how many. It can be run again wherever it died."""
    with catalog_errors(settings):
        try:
            table = catalog.load_table(name)
        except NoSuchTableError:
            return 0
        last = bare(table.metadata_location)
        paths = [file.path for file in stored(table.io, table.location()) if file.path != last]
        gone = remove(table.io, table.location(), paths)
        catalog.drop_table(name)
        return gone + remove(table.io, table.location(), [last])


def others_of(catalog: Catalog, name: str) -> tuple[str | None, str | None]:
    """The names of the table that is being built and of the one of before, where they are there."""
    there = set(table_names(catalog, name.rpartition(".")[0]))
    anew, before = f"{name}{ANEW}", f"{name}{BEFORE}"
    return anew if anew in there else None, before if before in there else None
