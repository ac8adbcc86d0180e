"""Result types that sqlglot's annotation lacks or has otherwise than Trino.

Rules depend on types (integer division, NaN, dates that stay dates), and refuse what they do not know: each missing
type here is a query that is refused, each wrong one a wrong row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp

Annotator = Callable[[Any, exp.Expr], exp.Expr]


def type_name(node: exp.Expr) -> str:
    """The annotated type of a node: `BIGINT`, `ARRAY`, …, `UNKNOWN`."""
    kind = node.type
    name = "UNKNOWN" if kind is None else str(kind.this.value)
    return {"TEXT": "VARCHAR", "LIST": "ARRAY"}.get(name, name)


def element_type(node: exp.Expr) -> exp.DataType | None:
    """The element type of an array, None where it is not known."""
    kind = node.type
    if type_name(node) != "ARRAY" or kind is None or not kind.expressions:
        return None
    return kind.expressions[0] if isinstance(kind.expressions[0], exp.DataType) else None


def _array_of(kind: exp.DataType | None) -> exp.DataType:
    element = kind.copy() if kind is not None else exp.DataType.build("UNKNOWN")
    return exp.DataType(this=exp.DType.ARRAY, expressions=[element], nested=True)


def _set(choose: Callable[[exp.Expr], exp.DataType | None]) -> dict[str, Annotator]:
    def annotate(annotator: Any, node: exp.Expr) -> exp.Expr:
        kind = choose(node)
        annotator._set_type(node, kind.copy() if kind is not None else None)  # noqa: SLF001
        return node

    return {"annotator": annotate}


def _always(name: str) -> dict[str, Annotator]:
    return _set(lambda _: exp.DataType.build(name))


def _own(node: exp.Expr) -> exp.DataType | None:
    kind: exp.DataType | None = node.this.type
    return kind


def _unnest(node: exp.Expr) -> exp.DataType:
    """Each column by itself (sqlglot gives every column of UNNEST(a, b) the first array's type)."""
    columns = [
        exp.ColumnDef(this=exp.to_identifier(name), kind=(element_type(array) or exp.DataType.build("UNKNOWN")).copy())
        for name, array in zip(node.alias_column_names, node.expressions, strict=False)
    ]
    return exp.DataType(this=exp.DType.STRUCT, expressions=columns, nested=True)


def _joined(node: exp.Expr) -> exp.DataType | None:
    first = node.expressions[0] if isinstance(node, exp.Concat) else node.this
    return first.type if type_name(first) == "ARRAY" else exp.DataType.build("VARCHAR")


def _reduced(node: exp.Expr) -> exp.DataType | None:
    finish = node.args.get("finish")
    kind: exp.DataType | None = finish.this.type if finish is not None else node.args["initial"].type
    return kind


def _mapped(node: exp.Expr) -> exp.DataType:
    function = node.expression
    return _array_of(function.this.type if isinstance(function, exp.Lambda) else None)


def _anonymous(node: exp.Expr) -> exp.DataType | None:
    name = node.name.lower()
    if name in ("nan", "infinity"):
        return exp.DataType.build("DOUBLE")
    if name == "zip_with":
        return _array_of(node.expressions[2].this.type)
    return exp.DataType.build("BOOLEAN")


RESULT_TYPES: dict[type[exp.Expr], dict[str, Annotator]] = {
    exp.Unnest: _set(_unnest),
    exp.Anonymous: _set(_anonymous),
    exp.ArrayPosition: _always("BIGINT"),
    exp.UnixToTime: _always("TIMESTAMPTZ"),
    exp.CurrentTimestamp: _always("TIMESTAMPTZ"),
    exp.TimeToUnix: _always("DOUBLE"),
    exp.Corr: _always("DOUBLE"),
    exp.Split: _set(lambda _: _array_of(exp.DataType.build("VARCHAR"))),
    exp.TimestampTrunc: _set(_own),
    exp.DateTrunc: _set(_own),
    exp.DateAdd: _set(_own),
    exp.Reverse: _set(_own),
    exp.ArrayDistinct: _set(_own),
    exp.ArrayFilter: _set(_own),
    exp.ArgMax: _set(_own),
    exp.ArgMin: _set(_own),
    exp.Flatten: _set(lambda node: element_type(node.this)),
    exp.ArrayMin: _set(lambda node: element_type(node.this)),
    exp.ArrayMax: _set(lambda node: element_type(node.this)),
    exp.Transform: _set(_mapped),
    exp.Reduce: _set(_reduced),
    exp.DPipe: _set(_joined),
    exp.Concat: _set(_joined),
    exp.ArrayConcat: _set(_own),
}
