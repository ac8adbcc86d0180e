"""A batch and where it came from in one file, and the same batch read anew from the table.

The file is Arrow's IPC format: the batch as `to_arrow` gives it, and in the schema's metadata the trace: the reader's
state before the batch, its step, rank and batch size, and file, row group and row of each request. `replay` reads the
snapshot anew under the same options and compares bit by bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.expressions.parser import parse
from pyiceberg.table import Table

from feature_reader.arrow import from_arrow, to_arrow
from feature_reader.batch import Jagged, RequestBatch
from feature_reader.errors import ReaderError
from feature_reader.origins import trace
from feature_reader.reader import Reader
from lakehouse.errors import ReqlakeError

FORMAT = 1
TRACE = b"reqlake.trace"
SHOWN = 20


@dataclass(frozen=True)
class Dump:
    """A batch with its trace: what of which snapshot was read, and under which options."""

    batch: RequestBatch
    trace: dict[str, Any]


@dataclass(frozen=True)
class Replay:
    """What reading a dumped batch anew came to: nothing differs, or what does."""

    batch: RequestBatch | None
    """The batch as it is read now; None where it cannot be."""
    differences: tuple[str, ...] = field(default=())

    @property
    def is_same(self) -> bool:
        """Whether the batch came out bit by bit the same."""
        return not self.differences


def dump(reader: Reader, step: int, path: str | Path, epoch: int | None = None) -> Dump:
    """Read one step of an epoch (the reader's own by default) and save its batch to `path`, whole or not at all.

    The reader stays where it is. Raises ReaderError for a step that the epoch does not have, and for a reader whose
    options a file cannot hold (a predicate, several tables).
    """
    if len(reader.sources) > 1 or reader.predicate is not None:
        raise ReaderError("a dump names one table and no predicate: functions and several tables are not saved")
    epoch = reader.epoch if epoch is None else epoch
    origin = trace(reader, step, epoch)
    batch = reader.step(step, epoch)
    known: dict[str, Any] = {
        "format": FORMAT,
        "table": ".".join(reader.table.name()),
        "step": step,
        "options": {
            f"batch_{reader.batch_by}": reader.batch_size,
            "columns": [f.name for f in reader.layout.fields],
            "seed": reader.seed,
            "shuffle": reader.shuffle,
            "tail": reader.tail,
            "rank": reader.share.rank,
            "world_size": reader.share.world_size,
            "row_filter": _filter_text(reader),
            "min_users_per_batch": reader.min_users_per_batch,
            "skip_bad_requests": reader.damage.allowed,
        },
        "skip_requests": None
        if reader.skip_requests is None
        else {"keys": list(reader.skip_requests.keys), "rows": reader.skip_requests.rows.tolist()},
        "state": reader.state_dict() | {"epoch": epoch, "requests_consumed": int(reader.steps(epoch, 0).bounds[step])},
        "places": [list(place) for place in origin.places()],
    }
    rows = to_arrow(batch)
    rows = rows.replace_schema_metadata({**(rows.schema.metadata or {}), TRACE: json.dumps(known).encode()})
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_batch(rows)
    partial.replace(target)
    return Dump(batch, known)


def _filter_text(reader: Reader) -> str | None:
    row_filter = reader.sources[0].filter
    if row_filter.is_always_true:
        return None
    try:
        parse(row_filter.text)
    except Exception as error:
        raise ReaderError(f"a dump holds a row_filter as text, {row_filter.text!r} is none: give it as text") from error
    return row_filter.text


def load_dump(path: str | Path) -> Dump:
    """What `dump` saved. Raises ReaderError for a file that it did not write, or a newer one."""
    try:
        with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as file:
            rows = file.get_batch(0)
    except (OSError, pa.ArrowInvalid) as error:
        raise ReaderError(f"{path} is no dumped batch: {error}") from error
    known = json.loads((rows.schema.metadata or {}).get(TRACE, b"{}"))
    if known.get("format", FORMAT + 1) > FORMAT:
        raise ReaderError(f"{path} is no batch that this reqlake dumped, or one of a newer version: upgrade reqlake")
    return Dump(from_arrow(rows), known)


def replay(saved: Dump, table: Table) -> Replay:
    """Read the batch anew from its table's snapshot, and say what differs: options, places, columns, values."""
    known, options = saved.trace, dict(saved.trace["options"])
    if known["skip_requests"] is not None:
        skip = known["skip_requests"]
        rows = np.array(skip["rows"], np.int64).reshape(-1, len(skip["keys"]))
        options["skip_requests"] = pa.table({key: rows[:, i] for i, key in enumerate(skip["keys"])})
    (pin,) = known["state"]["tables"].values()
    try:
        reader = Reader(table, schema_id=pin["schema_id"], window=known["state"]["window"], **options)
        reader.load_state_dict(known["state"])
        places = [list(place) for place in trace(reader, known["step"]).places()]
        batch = reader.step(known["step"], reader.epoch)
    except ReqlakeError as error:
        return Replay(None, (str(error),))
    return Replay(batch, (*_places(known["places"], places), *_columns(saved.batch, batch)))


def _places(saved: list[list[Any]], now: list[list[Any]]) -> list[str]:
    if saved == now:
        return []
    i = next((i for i, (a, b) in enumerate(zip(saved, now, strict=False)) if a != b), min(len(saved), len(now)))
    was, is_now = (places[i] if i < len(places) else "not there" for places in (saved, now))
    return [f"request {i} of {len(saved)} was read from {was}, now from {is_now} ({len(now)} requests)"]


def _columns(saved: RequestBatch, now: RequestBatch) -> list[str]:
    found = []
    if saved.padding != now.padding:
        found.append(f"padding was {saved.padding}, is {now.padding}")
    found += _arrays("candidate_offsets", saved.candidate_offsets, now.candidate_offsets)
    for part in ("request", "candidates"):
        was, is_now = getattr(saved, part), getattr(now, part)
        found += [f"{part} column {name} is gone" for name in was if name not in is_now]
        found += [f"{part} column {name} is new" for name in is_now if name not in was]
        for name in [n for n in was if n in is_now]:
            a, b = was[name], is_now[name]
            if isinstance(a, Jagged) and isinstance(b, Jagged):
                found += _arrays(f"{name}.offsets", a.offsets, b.offsets) or _arrays(name, a.values, b.values)
            else:
                found += _arrays(name, a, b)
    return found[:SHOWN]


def _arrays(name: str, was: Any, is_now: Any) -> list[str]:
    """Whether two arrays are the same bits; values themselves are not shown, they may be sensitive."""
    if was.dtype != is_now.dtype or was.shape != is_now.shape:
        return [f"{name} was {was.dtype}{list(was.shape)}, is {is_now.dtype}{list(is_now.shape)}"]
    a, b = (np.ascontiguousarray(x).reshape(-1).view(np.uint8).reshape(-1, x.itemsize) for x in (was, is_now))
    wrong = np.flatnonzero((a != b).any(axis=1))
    return [f"{name}: {len(wrong)} of {len(a)} values differ, first at {wrong[0]}"] if len(wrong) else []
