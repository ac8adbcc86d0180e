"""What an erasure cannot reach, to be listed: raw logs, checkpoints, pages and logs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pyiceberg.catalog import Catalog

from lakehouse.ledger import Ledger
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from spark_jobs.erase_users import Users


def raw_logs(catalog: Catalog, spec: DatasetSpec, settings: Settings) -> tuple[str, ...]:
    """Names of the raw files that the table was made of."""
    ledger = Ledger(catalog, spec, settings).table
    return tuple(sorted(set(ledger.scan(selected_fields=("name",)).to_arrow()["name"].to_pylist())))


def checkpoints(settings: Settings, spec: DatasetSpec) -> tuple[str, ...]:
    """Runs on this table below the lake's home: each was trained before the erasure."""
    return tuple(str(p.parent) for p in _below(settings, "run.json") if spec.table() in p.read_text(errors="replace"))


def logs(settings: Settings, users: Users) -> tuple[str, ...]:
    """Logs and pages below the lake's home that name a user as our messages do, or by its text."""
    ids = "|".join(str(i) for i in sorted(users.ids))
    texts = "|".join(re.escape(t) for t in sorted(users.texts) if not t.lstrip("-").isdigit())
    said = re.compile(rf"\buser (?:{ids})\b" + (rf"|{texts}" if texts else ""))
    found = [p for ending in ("*.log", "*.html", "*.json") for p in _below(settings, ending)]
    return tuple(sorted(str(p) for p in found if said.search(p.read_text(errors="replace"))))


def _below(settings: Settings, pattern: str) -> Iterable[Path]:
    warehouse = settings.home / "warehouse"
    return (p for p in settings.home.rglob(pattern) if p.is_file() and warehouse not in p.parents)
