"""Every error that reqlake raises on purpose.

    ReqlakeError
    ├── SpecError             a dataset spec that cannot be read or does not hold together
    ├── SettingsError         a setting with a value that cannot work
    ├── NotInstalledError     an extra is missing; names it
    ├── CatalogError          the catalog cannot be reached, is locked, or is unwritable
    │   └── TableMissingError no such table (or snapshot, or tag) in the catalog
    ├── FormatError           written by a newer reqlake, or not by reqlake at all
    ├── RawDataError          raw input that cannot be ingested as it is
    ├── AuditError            data that failed its expectations; nothing was published
    ├── TagError              a training set that cannot be made, found or dropped as asked
    ├── EvolutionError        a change of a spec that its table cannot follow, or not now
    ├── LeaseError            another maintenance job holds the dataset
    ├── ExpiryError           a snapshot that something still needs
    ├── ServerError           a Trino server that is down, busy or failing
    └── SqlError              a query with an unknown name, or with what embedded SQL does not carry over

Other packages derive their own from `ReqlakeError` in their `errors.py`. A message names the thing, the value and
the remedy; the CLI prints it as one paragraph and exits with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ReqlakeError(Exception):
    """Root of all deliberate errors of the project."""


class SpecError(ReqlakeError):
    """A dataset spec that cannot be read or does not hold together."""


class SettingsError(ReqlakeError):
    """A setting with a value that cannot work."""


class NotInstalledError(ReqlakeError):
    """A package of an extra is missing."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'reqlake[{extra}]'")


class CatalogError(ReqlakeError):
    """The catalog cannot be reached, is locked, or is unwritable."""


class TableMissingError(CatalogError):
    """No such table, snapshot or tag."""


class FormatError(ReqlakeError):
    """Written by a newer reqlake, or not by reqlake at all."""


class RawDataError(ReqlakeError):
    """Raw input that cannot be ingested as it is."""


class AuditError(ReqlakeError):
    """Data that failed its expectations; nothing was published."""


class TagError(ReqlakeError):
    """A training set that cannot be made, found or dropped as asked."""


class EvolutionError(ReqlakeError):
    """A change of a spec that its table cannot follow, or not now; the table is as it was."""


class LeaseError(ReqlakeError):
    """Another maintenance job holds the dataset."""


class ExpiryError(ReqlakeError):
    """A snapshot that a tag, a branch or the ledger still needs."""


class ServerError(ReqlakeError):
    """A Trino server that is down, busy or failing."""


class SqlError(ReqlakeError):
    """A query with an unknown name, or with a construct that embedded SQL does not carry over."""


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean X?' for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
