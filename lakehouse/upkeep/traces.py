"""Traces of users in files, found by decoding them: ids are compressed, and user 5 equals item 5 bytewise.

Parquet: every value of a column that holds users, and the raw rows of a quarantine. Avro manifests: the bounds of those
columns, of deleted files' entries as well. JSON and text: the names of users whose ids are strings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.avro.file import AvroFile
from pyiceberg.conversions import from_bytes
from pyiceberg.io import FileIO
from pyiceberg.types import LongType, StringType

from lakehouse.spec import DatasetSpec

THREADS = 4


@dataclass(frozen=True)
class Wanted:
    """Who is looked for: ids and texts, and in which columns."""

    ids: frozenset[int]
    texts: frozenset[str]
    id_columns: tuple[str, ...]
    text_columns: tuple[str, ...]
    raw_user: str
    """The raw log's column, which a quarantined row's JSON has."""

    @classmethod
    def of(cls, spec: DatasetSpec, ids: frozenset[int], texts: frozenset[str]) -> Wanted:
        """What the spec marks as a user."""
        raw = spec.keys.user_id.column
        by_id = ("user_id",) if spec.keys.user_id.type == "string" else tuple(dict.fromkeys(("user_id", raw)))
        return cls(ids, texts, by_id, tuple(dict.fromkeys(("user_id_raw", raw))), raw)


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
    """Decode every file. Raises what a broken file raises, named: a file that cannot be read proves nothing."""
    listed = [p for p in paths if not p.endswith(".crc")]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda path: traces_in(io, path, wanted), listed))
    kinds: dict[str, int] = {}
    for path in listed:
        kinds[path.rpartition(".")[2]] = kinds.get(path.rpartition(".")[2], 0) + 1
    return Decoded(kinds, tuple(trace for traces in found for trace in traces))


def traces_in(io: FileIO, path: str, wanted: Wanted) -> list[Trace]:
    """The traces in one file."""
    kind = path.rpartition(".")[2]
    look = {"parquet": _in_parquet, "avro": _in_avro}.get(kind, _in_text)
    return [Trace(path, what, count) for what, count in look(io, path, wanted) if count]


def _in_parquet(io: FileIO, path: str, wanted: Wanted) -> Iterator[tuple[str, int]]:
    ids, texts = pa.array(sorted(wanted.ids), pa.int64()), pa.array(sorted(wanted.texts), pa.string())
    with pq.ParquetFile(io.new_input(path).open()) as file:
        schema = file.schema_arrow
        numbers = [n for n in wanted.id_columns if n in schema.names and pa.types.is_integer(schema.field(n).type)]
        names = [n for n in wanted.text_columns if n in schema.names and _is_text(schema.field(n).type)]
        raw = [n for n in ("raw",) if n in schema.names and _is_text(schema.field(n).type)]
        kinds = [n for n in ("kind", "hash", "string") if {"kind", "hash", "string"} <= set(schema.names)]
        if not (numbers or names or raw or kinds):
            return
        for batch in file.iter_batches(columns=[*numbers, *names, *raw, *kinds]):
            for name in numbers:
                yield f"values of {name}", pc.sum(pc.is_in(batch[name].cast(pa.int64()), ids)).as_py() or 0
            for name in names:
                yield f"values of {name}", pc.sum(pc.is_in(batch[name].cast(pa.string()), texts)).as_py() or 0
            for name in raw:
                yield "raw rows", sum(raw_names(text, wanted) for text in batch[name].drop_null().to_pylist())
            if kinds:
                users = pc.equal(batch["kind"], "user_id")
                yield "ids", pc.sum(pc.and_(users, pc.is_in(batch["hash"], ids))).as_py() or 0


def _is_text(kind: pa.DataType) -> bool:
    """Spark's files hold strings, PyIceberg's large strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def raw_names(text: str, wanted: Wanted) -> bool:
    """Whether a raw row, as JSON, is one of the users'."""
    try:
        value = json.loads(text).get(wanted.raw_user)
    except (ValueError, AttributeError):
        return any(name in text for name in wanted.texts)
    return value is not None and str(value) in wanted.texts


def _in_avro(io: FileIO, path: str, wanted: Wanted) -> Iterator[tuple[str, int]]:
    with AvroFile[Any](io.new_input(path)) as file:
        schema = json.loads(file.header.meta.get("schema", "{}"))
        names = {f["name"]: f["id"] for f in schema.get("fields", ())}
        fields: dict[int, tuple[Any, frozenset[Any]]] = {}
        fields |= {names[n]: (LongType(), wanted.ids) for n in wanted.id_columns if n in names}
        fields |= {names[n]: (StringType(), wanted.texts) for n in wanted.text_columns if n in names}
        entry_fields = [f.name for f in file.schema.fields]
        if "data_file" not in entry_fields or not fields:
            return  # a manifest list: it bounds partitions, and no partition is a user
        place = entry_fields.index("data_file")
        inner = [f.name for f in file.schema.fields[place].field_type.fields]  # type: ignore[attr-defined]
        for entry in file:
            for bounds in ("lower_bounds", "upper_bounds"):
                held = entry[place][inner.index(bounds)] or {}
                for field_id, (kind, users) in fields.items():
                    if field_id in held and from_bytes(kind, held[field_id]) in users:
                        yield "bounds in a manifest", 1


def _in_text(io: FileIO, path: str, wanted: Wanted) -> Iterator[tuple[str, int]]:
    with io.new_input(path).open() as stream:
        text = stream.read().decode("utf-8", errors="replace")
    # A number stands for many things in metadata; a text that names a user does not.
    named = [t for t in wanted.texts if not t.lstrip("-").isdigit()]
    yield "text", sum(json.dumps(t)[1:-1] in text or t in text for t in named)
