"""Which rows of a table are the users', by the columns that it has: one rule for every table of a dataset.

user_id               the users'
request_id            their requests', where no user_id tells (it is missing, or may be null)
raw                   a raw row as JSON, whose user or request is theirs
kind, hash, string    the translation of a hashed user or request
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.expressions import AlwaysFalse, AlwaysTrue, BooleanExpression, Or
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from lakehouse.predicates import is_in
from lakehouse.upkeep.traces import TRANSLATION
from lakehouse.upkeep.wanted import Wanted

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LITERALS = 1000
"""Values up to which a condition names each, so that buckets and bounds prune files; more come from a view."""
TOLD = ("user_id", "request_id", "raw", "kind", "hash")


def rows_held(table: Table, wanted: Wanted, snapshot_id: int) -> int:
    """How many rows of one snapshot are theirs."""
    schema = table.scan(snapshot_id=snapshot_id).projection()
    names = {f.name for f in schema.fields}
    by_request = _by_request(schema)
    among: BooleanExpression = AlwaysTrue() if "raw" in names else AlwaysFalse()
    if "user_id" in names:
        among = Or(among, is_in("user_id", wanted.ids))
    if by_request and wanted.requests:
        among = Or(among, is_in("request_id", wanted.requests))
    if names >= TRANSLATION:
        among = Or(among, is_in("hash", wanted.ids | wanted.requests))
    if among == AlwaysFalse():
        return 0
    chosen = tuple(n for n in TOLD if n in names)
    rows = table.scan(among, chosen, snapshot_id=snapshot_id).to_arrow().select(list(chosen)).to_pylist()
    translated = {"user_id": wanted.ids, "request_id": wanted.requests}
    return sum(
        row.get("user_id") in wanted.ids
        or (by_request and row["request_id"] in wanted.requests)
        or wanted.is_raw(row.get("raw") or "")
        or row.get("hash") in translated.get(row.get("kind") or "", ())
        for row in rows
    )


def conditions(spark: SparkSession, table: Table, wanted: Wanted) -> list[str]:
    """Spark SQL, each of which holds for rows that are theirs."""
    schema = table.schema()
    names = {f.name for f in schema.fields}
    users = _listed(spark, "users", wanted.ids)
    requests = _listed(spark, "requests", wanted.requests)
    found = [f"user_id IN ({users})"] if "user_id" in names else []
    if _by_request(schema) and wanted.requests:
        found.append(f"request_id IN ({requests})")
    if "raw" in names:
        for column, texts in ((wanted.raw_user, wanted.texts), (wanted.raw_request, wanted.request_texts)):
            if column is not None and texts:
                among = _listed(spark, f"texts_{len(found)}", texts)
                found.append(f"get_json_object(raw, '$.{column}') IN ({among})")
    if names >= TRANSLATION:
        found.append(f"(kind = 'user_id' AND hash IN ({users}))")
        if wanted.requests:
            found.append(f"(kind = 'request_id' AND hash IN ({requests}))")
    return found


def _by_request(schema: Schema) -> bool:
    """Whether rows have a request, and not always a user."""
    fields = {f.name: f for f in schema.fields}
    return "request_id" in fields and ("user_id" not in fields or not fields["user_id"].required)


def _listed(spark: SparkSession, name: str, values: Collection[int] | Collection[str]) -> str:
    if len(values) > LITERALS:
        view = f"reqlake_erased_{name}"
        spark.createDataFrame(pa.table({"value": pa.array(sorted(values))})).createOrReplaceTempView(view)
        return f"SELECT value FROM {view}"
    return ", ".join(sorted(_literal(value) for value in values))


def _literal(value: int | str) -> str:
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
