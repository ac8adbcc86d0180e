"""Traces of users in files, found by decoding them: ids are compressed, and user 5 equals item 5 bytewise.

Parquet: every value, and every bound in the footer, of a column that holds users or requests; lists by hash; the raw
rows of a quarantine; translations of ids. Avro manifests: the bounds of those columns, of deleted files' entries as
well. JSON and text: names that are no numbers. A file that cannot be decoded is a trace itself: it proves nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.avro.file import AvroFile
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestEntryStatus

from lakehouse.upkeep.histories import hashes, is_listed, lengths
from lakehouse.upkeep.wanted import Wanted

THREADS = 4
TRANSLATION = {"kind", "hash", "string"}
"""Columns of a table that translates hashed ids back."""
UNREADABLE = "what cannot be decoded"
CUT = 16
"""Characters after which Iceberg's writers cut the bounds of strings."""


@dataclass(frozen=True)
class Trace:
    """One file that still speaks of a user: how, and in how many places."""

    path: str
    what: str
    count: int


@dataclass(frozen=True)
class Decoded:
    """How many files of each kind were decoded, and what was found in them."""

    files: dict[str, int]
    traces: tuple[Trace, ...]


def find_traces(io: FileIO, paths: Iterable[str], wanted: Wanted) -> Decoded:
    """Decode every file."""
    listed = [p for p in paths if not p.endswith(".crc")]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda path: traces_in(io, path, wanted), listed))
    kinds: dict[str, int] = {}
    for path in listed:
        kinds[path.rpartition(".")[2]] = kinds.get(path.rpartition(".")[2], 0) + 1
    return Decoded(kinds, tuple(trace for traces in found for trace in traces))


def traces_in(io: FileIO, path: str, wanted: Wanted) -> list[Trace]:
    """The traces in one file."""
    kind, counts = path.rpartition(".")[2], Counter[str]()
    look = {"parquet": _in_parquet, "avro": _in_avro}.get(kind, _in_text)
    try:
        for what, count in look(io, path, wanted):
            counts[what] += count
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        counts[f"{UNREADABLE} ({str(error).partition('.')[0][:80] or type(error).__name__})"] += 1
    return [Trace(path, what, count) for what, count in counts.items() if count]


def _in_parquet(io: FileIO, path: str, wanted: Wanted) -> Iterator[tuple[str, int]]:
    with pq.ParquetFile(io.new_input(path).open()) as file:
        schema = file.schema_arrow
        kinds = dict(zip(schema.names, schema.types, strict=True))
        numbers = {n: pa.array(sorted(v), pa.int64()) for n, v in wanted.numbers.items() if _holds(kinds, n, "number")}
        names = {n: pa.array(sorted(v), pa.string()) for n, v in wanted.names.items() if _holds(kinds, n, "text")}
        lists = {n: v for n, v in wanted.histories.items() if v and n in kinds and is_listed(kinds[n])}
        raw = [n for n in ("raw",) if _holds(kinds, n, "text")]
        translation = sorted(TRANSLATION) if set(kinds) >= TRANSLATION else []
        asked = list(dict.fromkeys([*numbers, *names, *lists, *raw, *translation]))
        yield from _in_footer(file.metadata, wanted)
        if not asked:
            return
        for batch in file.iter_batches(columns=asked):
            for name, ids in numbers.items():
                yield f"values of {name}", _among(batch[name].cast(pa.int64()), ids)
            for name, texts in names.items():
                yield f"values of {name}", _among(batch[name].cast(pa.string()), texts)
            for name, histories in lists.items():
                yield f"histories in {name}", sum(h in histories for _, h in _known_lengths(batch[name], histories))
            for name in raw:
                yield "raw rows", sum(wanted.is_raw(text) for text in batch[name].drop_null().to_pylist())
            if translation:
                for kind, ids in (("user_id", wanted.ids), ("request_id", wanted.requests)):
                    of_kind = batch["hash"].filter(pc.equal(batch["kind"], kind))
                    yield f"translations of {kind}", _among(of_kind, pa.array(sorted(ids), pa.int64()))


def _holds(kinds: dict[str, pa.DataType], name: str, what: str) -> bool:
    """Spark's files hold strings, PyIceberg's large strings."""
    kind = kinds.get(name)
    if kind is None:
        return False
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(text if what == "text" else pa.types.is_integer(kind))


def _among(values: pa.Array, wanted: pa.Array) -> int:
    return int(pc.sum(pc.is_in(values, wanted)).as_py() or 0)


def _known_lengths(column: pa.Array, histories: Any) -> Iterator[tuple[int, str]]:
    """Hashes of the lists that are as long as a wanted one."""
    sizes = np.unique(np.fromiter(histories.values(), np.int64))
    return hashes(column, np.flatnonzero(np.isin(lengths(column), sizes)))


def _in_footer(footer: pq.FileMetaData, wanted: Wanted) -> Iterator[tuple[str, int]]:
    """Bounds of row groups, which say what was there where a writer copied them."""
    sought: dict[str, frozenset[Any]] = wanted.names | wanted.numbers
    for g in range(footer.num_row_groups):
        group = footer.row_group(g)
        for c in range(group.num_columns):
            column = group.column(c)
            users = sought.get(column.path_in_schema, frozenset())
            if users and column.is_stats_set and column.statistics.has_min_max:
                bounds = {column.statistics.min, column.statistics.max}
                yield f"bounds of {column.path_in_schema} in a footer", len(bounds & users)


def _in_avro(io: FileIO, path: str, wanted: Wanted) -> Iterator[tuple[str, int]]:
    with AvroFile[Any](io.new_input(path)) as file:
        schema = json.loads(file.header.meta.get("schema", "{}"))
        ids = {f["id"]: f["name"] for f in schema.get("fields", ())}
        entry_fields = [f.name for f in file.schema.fields]
        if "data_file" not in entry_fields:
            return  # a manifest list: it bounds partitions, and no partition is a user
        place, status = entry_fields.index("data_file"), entry_fields.index("status")
        inner = [f.name for f in file.schema.fields[place].field_type.fields]  # type: ignore[attr-defined]
        lower, upper = inner.index("lower_bounds"), inner.index("upper_bounds")
        for entry in file:
            gone = entry[status] == ManifestEntryStatus.DELETED
            for bounds in (lower, upper):
                for field_id, value in (entry[place][bounds] or {}).items():
                    name = ids.get(field_id, "")
                    if name in wanted.numbers:
                        found = int.from_bytes(value, "little", signed=True) in wanted.numbers[name]
                    elif name in wanted.names:
                        found = _bounds(value.decode(errors="replace"), wanted.names[name], gone=gone)
                    else:
                        continue
                    yield f"bounds of {name} in a manifest", int(found)


def _bounds(bound: str, texts: frozenset[str], *, gone: bool) -> bool:
    """Whether a bound is one of the texts, or stands for one.

    A cut bound is many texts'. Of a file that is still there its values tell, so it counts only in a deleted entry.
    """
    if bound in texts:
        return True
    if not gone or len(bound) != CUT:
        return False
    cut = {t[:CUT] for t in texts if len(t) > CUT}
    return bound in cut or any(bound == c[:-1] + chr(ord(c[-1]) + 1) for c in cut)


def _in_text(io: FileIO, path: str, wanted: Wanted) -> Iterator[tuple[str, int]]:
    with io.new_input(path).open() as stream:
        text = stream.read().decode("utf-8", errors="replace")
    # A number stands for many things in metadata; a text that names a user does not.
    named = [t for t in (*wanted.texts, *wanted.request_texts) if not t.lstrip("-").isdigit()]
    said = (json.dumps(t)[1:-1] in text or t in text for t in named)
    yield "text", sum(found and _is_word(t, text) for t, found in zip(named, said, strict=True))


def _is_word(name: str, text: str) -> bool:
    """Whether a name stands by itself: `u1` is not in `u12`."""
    return any(re.search(rf"(?<!\w){re.escape(n)}(?!\w)", text) for n in (name, json.dumps(name)[1:-1]))
