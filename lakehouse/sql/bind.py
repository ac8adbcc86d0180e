"""From Trino SQL to a tree over numbered scans: views inlined, names qualified, types known.

Every table becomes a scan `scan_<n>` of its own, so that each can read its own snapshot and its own files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import BooleanType, IcebergType, IntegerType, LongType, NestedField, StringType, TimestamptzType
from sqlglot import exp
from sqlglot.errors import OptimizeError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope

from lakehouse.errors import SqlError, nearest
from lakehouse.sql.allowed import refuse
from lakehouse.sql.annotation import annotate
from lakehouse.sql.dialect import LakeTrino, duckdb_type, parse, trino_type
from lakehouse.sql.metadata import METADATA, TIME
from lakehouse.sql.names import Lake, Pin, TableName
from lakehouse.sql.prune import OF_VIEW

UNNAMED = "unnamed$"
UNKNOWN_COLUMN = re.compile(r"^Unknown column: \W*(\w+)")


@dataclass
class ScanSource:
    """One table reference of a query: what to read, at which snapshot, under which schema."""

    name: str
    written: str
    table: Table
    metadata: str
    snapshot: Snapshot | None
    schema: Schema
    hidden: dict[str, str] = field(default_factory=dict)


@dataclass
class Bound:
    """A query whose names and types are known, and the scans that it reads."""

    tree: exp.Query
    scans: dict[str, ScanSource]


def bind(sql: str, lake: Lake, pin: Pin) -> Bound:
    """Parse, resolve, qualify and type one query. Raises SqlError, TableMissingError."""
    tree: exp.Query = normalize_identifiers(parse(sql), dialect=LakeTrino)
    scans: dict[str, ScanSource] = {}
    _mark_unnamed(tree)
    _resolve(tree, lake, pin, scans)
    pin.check_used([scan.table for scan in scans.values()])
    schema = {s.name: {f.name: trino_type(f.field_type) for f in s.schema.fields} for s in scans.values()}
    try:
        qualified: exp.Query = qualify(
            tree,
            schema=dict(schema),
            dialect=LakeTrino,
            quote_identifiers=False,
            validate_qualify_columns=False,
            identify=False,
        )
        _check_columns(qualified, scans)
        tree = annotate(qualified, schema)
    except OptimizeError as error:
        raise _explained(error, tree, schema) from error
    _restore_names(tree)
    return Bound(tree, scans)


def _mark_unnamed(tree: exp.Expr) -> None:
    """Give results without a name one that nothing else has: Trino does not let a query refer to them."""
    for select in tree.find_all(exp.Select):
        for i, projection in enumerate(select.expressions):
            if not isinstance(projection, exp.Alias | exp.Column | exp.Star):
                projection.replace(exp.alias_(projection.copy(), f"{UNNAMED}{i}"))


def _restore_names(tree: exp.Expr) -> None:
    """`_col0`, `_col1`, … by position, as Trino names them."""
    first: exp.Expr = tree
    while isinstance(first, exp.SetOperation | exp.Subquery):
        first = first.this
    for i, projection in enumerate(first.expressions):
        if projection.alias.startswith(UNNAMED):
            projection.set("alias", exp.to_identifier(f"_col{i}"))


def _explained(error: OptimizeError, tree: exp.Expr, schema: dict[str, dict[str, exp.DataType]]) -> SqlError:
    text = str(error).splitlines()[0]
    missing = UNKNOWN_COLUMN.match(text)
    if missing is None:
        return SqlError(f"cannot make sense of the query: {text}")
    known = {name for columns in schema.values() for name in columns}
    known |= {name for select in tree.find_all(exp.Select) for name in select.named_selects}
    known -= {"*", missing.group(1)}
    return SqlError(
        f"no column {missing.group(1)!r}.{nearest(missing.group(1), known)} There are {', '.join(sorted(known))}"
    )


def _resolve(tree: exp.Expr, lake: Lake, pin: Pin, scans: dict[str, ScanSource]) -> exp.Expr:
    """Replace each table by a scan, and each view by its query."""
    for column in tree.find_all(exp.Column):
        column.set("db", None)
        column.set("catalog", None)
    for scope in traverse_scope(tree):
        for table in [t for t in scope.tables if t.db or t.name not in scope.cte_sources]:
            alias = exp.TableAlias(this=exp.to_identifier(table.alias_or_name), columns=_alias_columns(table))
            found = lake.find(table.name, table.db or None, table.catalog or None)
            if isinstance(found, TableName):
                source = _scan(found, table, pin, f"scan_{len(scans)}")
                scans[source.name] = source
                new: exp.Expr = exp.Table(this=exp.to_identifier(source.name), alias=alias)
            else:
                if table.args.get("version"):
                    raise refuse("FOR … AS OF on a view", "read the view with --snapshot or --tag, or name the table")
                inner = _resolve(normalize_identifiers(parse(found.sql), dialect=LakeTrino), lake, pin, scans)
                for part in inner.find_all(exp.Select, exp.Unnest):
                    part.meta[OF_VIEW] = True
                new = exp.Subquery(this=inner, alias=alias)
            table.replace(new)
    return tree


def _alias_columns(table: exp.Table) -> list[exp.Expr]:
    alias = table.args.get("alias")
    return list(alias.args.get("columns") or []) if alias else []


def _scan(found: TableName, node: exp.Table, pin: Pin, name: str) -> ScanSource:
    table, version = found.table, _version(node)
    snapshot = pin.choose(table, version)
    written = ".".join(table.name()) + (f"${found.metadata}" if found.metadata else "")
    if found.metadata:
        return ScanSource(name, written, table, found.metadata, snapshot, _metadata_schema(found.metadata))
    schema = table.schema()
    current = table.current_snapshot()
    moved = snapshot is not None and (current is None or snapshot.snapshot_id != current.snapshot_id)
    if moved and snapshot is not None and snapshot.schema_id is not None:
        schema = table.schemas().get(snapshot.schema_id, schema)
    hidden = {f.name: str(f.field_type) for f in schema.fields if duckdb_type(f.field_type) is None}
    return ScanSource(name, written, table, "", snapshot, _lowered(schema, written), hidden)


def _lowered(schema: Schema, written: str) -> Schema:
    """The schema with lower-case names, as Trino shows them."""
    names = [f.name.lower() for f in schema.fields]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise SqlError(
            f"{written} has columns that differ in case alone: {', '.join(sorted(twice))}. SQL cannot tell them apart"
        )
    fields = [f.model_copy(update={"name": n}) for f, n in zip(schema.fields, names, strict=True)]
    return Schema(*fields, schema_id=schema.schema_id)


def _metadata_schema(kind: str) -> Schema:
    types: dict[pa.DataType, IcebergType] = {
        pa.int32(): IntegerType(),
        pa.int64(): LongType(),
        pa.string(): StringType(),
        pa.bool_(): BooleanType(),
        TIME: TimestamptzType(),
    }
    arrow = METADATA[kind][0]
    return Schema(*(NestedField(i, f.name, types[f.type], required=False) for i, f in enumerate(arrow, start=1)))


def _version(node: exp.Table) -> int | str | datetime | None:
    version = node.args.get("version")
    if version is None:
        return None
    value, kind = version.args.get("expression"), version.this
    if version.args.get("kind") != "AS OF":
        raise refuse(version.sql("trino"))
    if kind == "VERSION" and isinstance(value, exp.Literal):
        return value.name if value.is_string else int(value.name)
    if kind == "TIMESTAMP" and isinstance(value, exp.Cast) and isinstance(value.this, exp.Literal):
        text = value.this.name.removesuffix("UTC").strip()
        try:
            at = datetime.fromisoformat(text)
        except ValueError as error:
            raise SqlError(f"{value.this.name!r} is not a time: write TIMESTAMP '2026-01-31 12:00:00 UTC'") from error
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    raise refuse(version.sql("trino"), "write a snapshot id, a tag in quotes, or TIMESTAMP '…'")


def _check_columns(tree: exp.Expr, scans: dict[str, ScanSource]) -> None:
    """Raise SqlError for a column that no source has, with the nearest name."""
    for scope in traverse_scope(tree):
        for column in scope.columns:
            name, table = column.name, column.table
            if isinstance(column.this, exp.Star):
                continue
            if not table:
                if not _is_output_name(column, scope):
                    known = [n for alias in scope.selected_sources for n in _source_columns(scope, alias, scans)]
                    raise SqlError(
                        f"no column {name!r}.{nearest(name, known)} There are {', '.join(dict.fromkeys(known))}"
                    )
                continue
            owner: Scope | None = scope
            while owner is not None and table not in owner.sources:
                owner = owner.parent
            if owner is None:
                raise SqlError(f"no table {table!r} in this part of the query.{nearest(table, scope.sources)}")
            known = _source_columns(owner, table, scans)
            if known and name not in known:
                raise SqlError(f"no column {name!r} in {table}.{nearest(name, known)} There are {', '.join(known)}")
            _check_hidden(owner, table, name, scans)


def _is_output_name(column: exp.Column, scope: Scope) -> bool:
    inside = column.find_ancestor(exp.Order)
    return inside is not None and column.name in getattr(scope.expression, "named_selects", [])


def _source_columns(scope: Scope, alias: str, scans: dict[str, ScanSource]) -> list[str]:
    source = scope.sources.get(alias)
    if isinstance(source, exp.Table):
        scan = scans.get(source.name)
        return [f.name for f in scan.schema.fields] if scan else []
    if isinstance(source, Scope):
        if isinstance(source.expression, exp.Unnest):
            made = source.expression.args.get("alias")
            names = [c.name for c in made.args.get("columns") or []] if made else []
            offset = source.expression.args.get("offset")
            return names + ([offset.name] if isinstance(offset, exp.Identifier) else [])
        return [n for n in getattr(source.expression, "named_selects", []) if n != "*"]
    return []


def _check_hidden(scope: Scope, alias: str, name: str, scans: dict[str, ScanSource]) -> None:
    source = scope.sources.get(alias)
    scan = scans.get(source.name) if isinstance(source, exp.Table) else None
    if scan and name in scan.hidden:
        raise refuse(
            f"the column {name} of {scan.written}, a {scan.hidden[name]}",
            "name the other columns instead of *, or use Trino",
        )
