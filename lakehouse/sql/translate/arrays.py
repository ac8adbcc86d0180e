"""Arrays: subscripts that fail out of range, nulls inside, and functions that take a lambda."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from lakehouse.errors import SqlError
from lakehouse.sql.allowed import refuse
from lakehouse.sql.dialect import FLOATS, integer_literal
from lakehouse.sql.result_types import element_type, type_name
from lakehouse.sql.translate.build import all_of, any_of, call, case, cast, error, is_null, negate
from lakehouse.sql.translate.numbers import ANONYMOUS as NUMBERS
from lakehouse.sql.translate.numbers import is_nan

TRUE, FALSE, NULL = exp.true(), exp.false(), exp.Null()


def length(array: exp.Expr) -> exp.Expr:
    """`len(array)`."""
    return call("len", array)


def _has_null(array: exp.Expr) -> exp.Expr:
    return negate(is_null(call("list_position", array, NULL)))


def subscript(node: exp.Expr) -> exp.Expr:
    """`a[i]` fails out of range, `element_at(a, i)` gives null and counts a negative index from the end."""
    array, index = node.this, node.expressions[0]
    if type_name(array) != "ARRAY":
        raise refuse(f"a subscript of `{array.sql('trino')}`, which is not known to be an array")
    value = call("list_extract", array, index)
    written = integer_literal(index)
    if written == 0:
        raise SqlError(f"`{node.sql('trino')}`: array indices start at 1")
    if node.args.get("safe"):
        zero = exp.EQ(this=exp.Paren(this=index.copy()), expression=exp.Literal.number(0))
        return value if written is not None else case((zero, error("SQL array indices start at 1")), default=value)
    if written is not None and written < 0:
        raise SqlError(f"`{node.sql('trino')}`: array subscript is negative; element_at(a, -1) counts from the end")
    low = exp.LT(this=exp.Paren(this=index.copy()), expression=exp.Literal.number(1))
    high = exp.GT(this=exp.Paren(this=index.copy()), expression=length(array))
    message = error("array subscript out of range: element_at(a, i) gives null instead")
    return case((any_of(low, high), message), default=value)


def contains(node: exp.Expr) -> exp.Expr:
    """Null when the value is not there but a null is."""
    array, value = node.this, node.expression
    found: exp.Expr = call("list_contains", array, value)
    if type_name(value) in FLOATS:
        found = all_of(found, negate(is_nan(value)))
    unknown = any_of(is_null(array), is_null(value), _has_null(array))
    return case((found, TRUE), (unknown, NULL), default=FALSE)


def position(node: exp.Expr) -> exp.Expr:
    """0 when the value is not there."""
    array, value = node.this, node.expression
    place = exp.Coalesce(this=call("list_position", array, value), expressions=[exp.Literal.number(0)])
    return case((any_of(is_null(array), is_null(value)), NULL), default=cast(place, "BIGINT"))


def extreme(node: exp.Expr) -> exp.Expr:
    """Null when any element is null; NaN only when all are."""
    array = node.this
    element = element_type(array)
    name = "list_max" if isinstance(node, exp.ArrayMax) else "list_min"
    value: exp.Expr = call(name, array)
    if name == "list_max" and element is not None and element.this.value in FLOATS:
        proper = call("list_filter", array, _lambda("e", negate(call("isnan", exp.Var(this="e")))))
        value = exp.Coalesce(this=call(name, proper), expressions=[value])
    return case((_has_null(array), NULL), default=value)


def _lambda(name: str, body: exp.Expr) -> exp.Lambda:
    return exp.Lambda(this=body, expressions=[exp.to_identifier(name)], colon=True)


def distinct(node: exp.Expr) -> exp.Expr:
    """The first of each value, in order, null included."""
    first = exp.EQ(this=call("list_position", node.this, exp.Var(this="e")), expression=exp.Var(this="i"))
    keep = exp.Lambda(this=first, expressions=[exp.to_identifier("e"), exp.to_identifier("i")], colon=True)
    return call("list_filter", node.this, keep)


def sort(node: exp.Expr) -> exp.Expr:
    """Ascending, nulls last."""
    return call("list_sort", node.this, "ASC", "NULLS LAST")


def piece(node: exp.Expr) -> exp.Expr:
    """`slice(a, start, length)` with written numbers."""
    start, size = integer_literal(node.args["start"]), integer_literal(node.args["end"])
    if start is None or size is None or start < 1 or size < 0:
        raise refuse(f"`{node.sql('trino')}`", "write slice(array, start, length) with a written start of at least 1")
    if size == 0:
        return case((is_null(node.this), NULL), default=call("list_slice", node.this, 1, 0))
    return call("list_slice", node.this, start, start + size - 1)


def join_arrays(node: exp.Expr) -> exp.Expr:
    """`a || b` and `concat(a, b)` of arrays; strings stay as they are."""
    parts = node.expressions if isinstance(node, exp.Concat) else [node.this, node.expression]
    if isinstance(node, exp.ArrayConcat):
        parts = [node.this, *node.expressions]
    arrays = [type_name(p) == "ARRAY" for p in parts]
    if any(arrays) and not all(arrays):
        raise refuse(f"`{node.sql('trino')}`: an array and an element", "write ARRAY[x] for the element")
    whole: exp.Expr = exp.Paren(this=parts[0].copy())
    for part in parts[1:]:
        whole = exp.DPipe(this=whole, expression=exp.Paren(this=part.copy()), safe=False)
    return exp.Paren(this=whole)


def with_lambda(name: str) -> Callable[[exp.Expr], exp.Expr]:
    """A DuckDB list function of an array and a lambda."""
    return lambda node: call(name, node.this, node.expression)


def reduce(node: exp.Expr) -> exp.Expr:
    """`reduce(array, initial, merge, finish)`; the last function gets the state in its place."""
    folded = call("list_reduce", node.this, node.args["merge"], node.args["initial"])
    finish = node.args.get("finish")
    if finish is None:
        return folded
    name = finish.expressions[0].name
    body: exp.Expr = finish.this.copy()
    return body.transform(lambda n: folded.copy() if isinstance(n, exp.Var) and n.name == name else n)


def anonymous(node: exp.Expr) -> exp.Expr:
    """Functions that sqlglot leaves as they are written."""
    name = node.name.lower()
    if name in NUMBERS:
        return NUMBERS[name](node)  # type: ignore[arg-type]
    if name in ("any_match", "all_match", "none_match"):
        return _match(name, *node.expressions)
    if name == "zip_with":
        return _zip_with(*node.expressions)
    return call("bool_and", *node.expressions) if name == "every" else node


def _match(name: str, array: exp.Expr, predicate: exp.Expr) -> exp.Expr:
    """Three-valued: any_match is true on a true, else null on a null, else false."""
    wanted = negate(exp.Paren(this=predicate.this.copy())) if name == "all_match" else predicate.this.copy()
    unsure = is_null(predicate.this)
    hit, maybe = (_count_where(array, predicate, body) for body in (wanted, unsure))
    found = TRUE if name == "any_match" else FALSE
    return case((is_null(array), NULL), (hit, found), (maybe, NULL), default=FALSE if found is TRUE else TRUE)


def _count_where(array: exp.Expr, predicate: exp.Expr, body: exp.Expr) -> exp.Expr:
    changed = predicate.copy()
    changed.set("this", body.copy())
    return exp.GT(this=length(call("list_filter", array, changed)), expression=exp.Literal.number(0))


def _zip_with(left: exp.Expr, right: exp.Expr, function: exp.Expr) -> exp.Expr:
    """Elements side by side, the shorter array padded with null; null when an array is null."""
    names = [p.name for p in function.expressions]
    pair = "_".join([*names, "pair"])

    def place(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Var) and node.name in names:
            return call("array_extract", exp.Var(this=pair), names.index(node.name) + 1)
        return node

    body = function.this.copy().transform(place)
    value = call("list_transform", call("list_zip", left, right), _lambda(pair, body))
    return case((any_of(is_null(left), is_null(right)), NULL), default=value)


RULES: dict[type[exp.Expr], Callable[[exp.Expr], exp.Expr]] = {
    exp.Bracket: subscript,
    exp.ArraySize: lambda node: length(node.this),
    exp.ArrayContains: contains,
    exp.ArrayPosition: position,
    exp.ArrayMin: extreme,
    exp.ArrayMax: extreme,
    exp.ArrayDistinct: distinct,
    exp.ArraySort: sort,
    exp.ArraySlice: piece,
    exp.DPipe: join_arrays,
    exp.Concat: join_arrays,
    exp.ArrayConcat: join_arrays,
    exp.Flatten: lambda node: call("flatten", node.this),
    exp.Reverse: lambda node: call("list_reverse" if type_name(node.this) == "ARRAY" else "reverse", node.this),
    exp.Transform: with_lambda("list_transform"),
    exp.ArrayFilter: with_lambda("list_filter"),
    exp.Reduce: reduce,
    exp.Anonymous: anonymous,
}
