"""Less to read: columns of a view that nobody asks for, and files that a filter rules out before DuckDB opens any.

Only comparisons that reject null move: they may pass an outer join. A filter stops at anything that makes one row of
many (GROUP BY, DISTINCT, LIMIT), and at a window that is not partitioned by its column. The query keeps the
filter itself, so a filter that stops costs time, not rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThan,
    GreaterThanOrEqual,
    In,
    LessThan,
    LessThanOrEqual,
)
from pyiceberg.schema import Schema
from pyiceberg.types import BooleanType, DateType, IntegerType, LongType, StringType, TimestamptzType
from sqlglot import exp
from sqlglot.optimizer.scope import Scope, traverse_scope

from lakehouse.sql.dialect import integer_literal
from lakehouse.sql.translate.casts import TIME

FLIPPED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
    exp.EQ: exp.EQ,
}
COMPARISONS: dict[type[exp.Expr], Any] = {
    exp.EQ: EqualTo,
    exp.GT: GreaterThan,
    exp.GTE: GreaterThanOrEqual,
    exp.LT: LessThan,
    exp.LTE: LessThanOrEqual,
}


OF_VIEW = "reqlake.view"


def drop_unused(tree: exp.Query) -> None:
    """Take unused columns out of our own views, and their lists out of UNNEST, which no engine does by itself.

    The lists of one request are equally long, so one of them is enough for the number of rows. Changes the tree.
    """
    views: dict[int, exp.Select] = {}
    used: dict[int, set[str]] = {}
    for scope in traverse_scope(tree):  # a lateral UNNEST is a scope of its own with the same source
        for alias, source in scope.sources.items():
            inner = source.expression
            if isinstance(source, Scope) and isinstance(inner, exp.Select) and OF_VIEW in inner.meta:
                views[id(inner)] = inner
                names = {c.name for c in scope.expression.find_all(exp.Column) if c.table == alias}
                used.setdefault(id(inner), set()).update(names)
    for key, inner in views.items():
        kept = [p for p in inner.expressions if p.alias_or_name in used[key]]
        inner.set("expressions", kept or inner.expressions[:1])
        for unnest in inner.find_all(exp.Unnest):
            _drop_lists(unnest, inner)


def _drop_lists(unnest: exp.Unnest, query: exp.Select) -> None:
    alias = unnest.args["alias"]
    used = {c.name for c in query.find_all(exp.Column) if c.table == alias.name}
    pairs = list(zip(unnest.expressions, alias.args["columns"], strict=True))
    kept = [(array, name) for array, name in pairs if name.name in used] or pairs[:1]
    unnest.set("expressions", [array for array, _ in kept])
    alias.set("columns", [name for _, name in kept])


def push_filters(tree: exp.Query) -> None:
    """Copy each movable filter of an outer query into the subqueries that it passes through. Changes the tree."""
    scopes = traverse_scope(tree)
    uses: dict[int, int] = {}
    for scope in scopes:
        for source in scope.sources.values():
            if isinstance(source, Scope):
                uses[id(source.expression)] = uses.get(id(source.expression), 0) + 1
    for scope in reversed(scopes):
        for conjunct in _conjuncts(scope.expression):
            column = _filtered_column(conjunct)
            inside = scope.sources.get(column.table) if column is not None else None
            if column is None or not isinstance(inside, Scope) or uses.get(id(inside.expression), 0) != 1:
                continue
            inner = inside.expression
            origin = _origin(inner, column.name)
            if not isinstance(inner, exp.Select) or origin is None:
                continue
            if origin.table in inside.sources and _may_enter(inner, origin):
                moved = conjunct.copy()
                for found in list(moved.find_all(exp.Column)):
                    found.replace(origin.copy())
                inner.where(moved, copy=False)


def _conjuncts(query: exp.Expr) -> Iterator[exp.Expr]:
    where = query.args.get("where") if isinstance(query, exp.Select) else None
    if where is not None:
        for conjunct in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
            yield conjunct.unnest()


def _filtered_column(conjunct: exp.Expr) -> exp.Column | None:
    """The one column of a comparison with written values."""
    if isinstance(conjunct, exp.EQ | exp.GT | exp.GTE | exp.LT | exp.LTE):
        left, right = conjunct.this, conjunct.expression
        if isinstance(right, exp.Column):
            left, right = right, left
        return left if isinstance(left, exp.Column) and _is_written(right) else None
    if isinstance(conjunct, exp.Between):
        fixed = _is_written(conjunct.args["low"]) and _is_written(conjunct.args["high"])
        return conjunct.this if isinstance(conjunct.this, exp.Column) and fixed else None
    if isinstance(conjunct, exp.In) and conjunct.expressions and not conjunct.args.get("query"):
        fixed = all(_is_written(e) for e in conjunct.expressions)
        return conjunct.this if isinstance(conjunct.this, exp.Column) and fixed else None
    return None


def _is_written(node: exp.Expr) -> bool:
    if isinstance(node, exp.Cast | exp.Neg | exp.Paren):
        return _is_written(node.this)
    return isinstance(node, exp.Literal | exp.Boolean)


def _origin(query: exp.Expr, name: str) -> exp.Column | None:
    """The column that a subquery passes through under a name."""
    if not isinstance(query, exp.Select):
        return None
    for projection in query.expressions:
        if projection.alias_or_name == name:
            value = projection.unalias()
            return value if isinstance(value, exp.Column) else None
    return None


def _may_enter(query: exp.Select, column: exp.Column) -> bool:
    if any(query.args.get(part) for part in ("group", "having", "distinct", "limit", "offset", "windows")):
        return False
    for projection in query.expressions:
        for node in projection.walk():
            if isinstance(node, exp.Window):
                parts = [(p.table, p.name) for p in node.args.get("partition_by") or [] if isinstance(p, exp.Column)]
                if (column.table, column.name) not in parts:
                    return False
            elif isinstance(node, exp.AggFunc) and node.find_ancestor(exp.Window, exp.Select) is query:
                return False
    return True


def scan_filter(tree: exp.Query, scan: str, schema: Schema) -> BooleanExpression:
    """What PyIceberg may leave files out by, for one scan. Errs on the side of keeping."""
    found: BooleanExpression = AlwaysTrue()
    for scope in traverse_scope(tree):
        for conjunct in _conjuncts(scope.expression):
            column = _filtered_column(conjunct)
            source = scope.sources.get(column.table) if column is not None else None
            if column is not None and isinstance(source, exp.Table) and source.name == scan:
                part = _to_iceberg(conjunct, column, schema)
                found = And(found, part) if part is not None else found
    return found


def _to_iceberg(conjunct: exp.Expr, column: exp.Column, schema: Schema) -> BooleanExpression | None:
    kind = type(schema.find_field(column.name).field_type)
    read = {
        LongType: _integer,
        IntegerType: _integer,
        StringType: _text,
        BooleanType: _truth,
        TimestamptzType: _time,
        DateType: _date,
    }
    if kind not in read:
        return None
    name = column.name
    if isinstance(conjunct, exp.In):
        values = [read[kind](e) for e in conjunct.expressions]
        return None if None in values else _in(name, values)
    if isinstance(conjunct, exp.Between):
        low, high = read[kind](conjunct.args["low"]), read[kind](conjunct.args["high"])
        if low is None or high is None:
            return None
        return And(COMPARISONS[exp.GTE](name, low), COMPARISONS[exp.LTE](name, high))
    flipped = isinstance(conjunct.expression, exp.Column)
    operator = FLIPPED[type(conjunct)] if flipped else type(conjunct)
    value = read[kind](conjunct.this if flipped else conjunct.expression)
    found: BooleanExpression | None = None if value is None else COMPARISONS[operator](name, value)
    return found


def _in(name: str, values: list[Any]) -> BooleanExpression:
    make: Any = In
    found: BooleanExpression = make(name, values)
    return found


def _integer(node: exp.Expr) -> int | None:
    return integer_literal(node.this if isinstance(node, exp.Cast) and node.this.is_int else node)


def _text(node: exp.Expr) -> str | None:
    return node.name if isinstance(node, exp.Literal) and node.is_string else None


def _truth(node: exp.Expr) -> bool | None:
    return bool(node.this) if isinstance(node, exp.Boolean) else None


def _date(node: exp.Expr) -> str | None:
    match = (
        TIME.match(node.this.name.strip())
        if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal)
        else None
    )
    return match.group(1) if match and not match.group(2) else None


def _time(node: exp.Expr) -> str | None:
    match = (
        TIME.match(node.this.name.strip())
        if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal)
        else None
    )
    if match is None:
        return None
    clock = match.group(2) or "00:00:00"
    return f"{match.group(1)}T{clock if clock.count(':') == 2 else clock + ':00'}+00:00"
