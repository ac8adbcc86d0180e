"""Readers beside the jobs: epochs of a snapshot that is pinned by a lease, and of one that nothing holds.

What a snapshot holds is read from its files when it is chosen; the epoch comes a little later, when jobs have moved on.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from benchmarks.soak.data import SPEC
from feature_reader import Reader
from lakehouse.catalog import open_catalog
from lakehouse.schema import open_request_table
from lakehouse.settings import Settings
from lakehouse.tags.reader_lease import reader_lease
from tests.feature_reader.plain import rows_of

LISTS = ("item_id", "click", "rating", "past_a")


def read_on(orders: Connection, settings: Settings, results: Path, seed: int) -> None:
    """Epoch after epoch until the orders end; a line of JSON for each."""
    os.setsid()
    draw, number = random.Random(seed), 0
    table = open_request_table(open_catalog(settings), SPEC, settings)
    with results.open("a", encoding="utf-8") as lines:
        while not orders.poll(0):
            number += 1
            told = one_epoch(table.refresh(), settings, f"soak-{seed}-{number}", draw, pinned=bool(number % 2))
            print(json.dumps(told), file=lines, flush=True)


def one_epoch(table: Table, settings: Settings, run: str, draw: random.Random, *, pinned: bool) -> dict[str, Any]:
    """`same`, `differs`, `gone` (the snapshot is, with its files) or `broken`, when, and whether main had moved on."""
    began = time.time()
    snapshot = table.metadata.current_snapshot_id
    assert snapshot is not None
    told: dict[str, Any] = {"pinned": pinned, "began": began, "outcome": "gone", "why": ""}
    try:
        if pinned:
            with reader_lease(table, run, settings, snapshot_id=snapshot):
                told |= _compared(table, snapshot, draw)
        else:
            told |= _compared(table, snapshot, draw)
    except CommitFailedException as error:
        told |= {"outcome": "not pinned", "why": str(error)[:500]}  # jobs committed each time that it was about to
    except Exception as error:  # noqa: BLE001 - what a reader meets is what is looked for
        there = table.refresh().snapshot_by_id(snapshot) is not None
        told |= {"outcome": "broken" if there else "gone", "why": f"{type(error).__name__}: {error}"[:500]}
    return told | {"ended": time.time()}


def _compared(table: Table, snapshot: int, draw: random.Random) -> dict[str, Any]:
    wanted = _content(table.scan(snapshot_id=snapshot).to_arrow().to_pylist())
    time.sleep(draw.uniform(0, 6))
    reader = Reader(table, snapshot_id=snapshot, batch_requests=7, window=3, seed=draw.randrange(1 << 30))
    got = _content(row for batch in reader for row in rows_of(batch))
    moved = table.refresh().metadata.current_snapshot_id != snapshot
    return {"outcome": "same" if got == wanted else "differs", "moved": moved, "requests": len(got)}


def _content(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Whose requests, with which candidates, labels and histories: as the table has them and as a batch does."""
    return sorted(
        repr([r["user_id"], r["request_id"], *([_known(v) for v in r[n] or []] for n in LISTS)]) for r in rows
    )


def _known(value: Any) -> float:
    return 0.0 if value is None or math.isnan(value) else float(value)
