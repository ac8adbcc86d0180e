"""Numbers: integer division, NaN that equals nothing, and functions whose result type differs.

Trino compares NaN as IEEE does (`nan = nan` is false, `nan > 1` is false) and leaves it out of max and greatest;
DuckDB takes it for the greatest value, equal to itself.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from lakehouse.errors import SqlError
from lakehouse.sql.allowed import refuse
from lakehouse.sql.dialect import FLOATS, INTEGERS, TIMES, is_literal
from lakehouse.sql.result_types import type_name
from lakehouse.sql.translate.build import all_of, any_of, call, case, cast, is_null, negate

# A value that is compared with one of these cannot be a float.
SETTLED = TIMES | {"VARCHAR", "BOOLEAN"}
Rule = Callable[[exp.Expr], exp.Expr]


def is_nan(node: exp.Expr) -> exp.Expr:
    """`isnan(node)`."""
    return call("isnan", node)


def divide(node: exp.Expr) -> exp.Expr:
    """Integers divide to an integer, towards zero; floats as they are."""
    left, right = type_name(node.this), type_name(node.expression)
    if left in FLOATS or right in FLOATS:
        return exp.Div(this=cast_exact(node.this), expression=cast_exact(node.expression), typed=False, safe=False)
    if left in INTEGERS and right in INTEGERS:
        return exp.Paren(
            this=exp.IntDiv(this=exp.Paren(this=node.this.copy()), expression=exp.Paren(this=node.expression.copy()))
        )
    if "DECIMAL" in (left, right):
        raise refuse(f"division of decimals in `{node.sql('trino')}`", "write 1e0 for 1.0, or CAST(… AS double)")
    raise _untyped(node)


def cast_exact(node: exp.Expr) -> exp.Expr:
    """An operand in parentheses, with its type kept."""
    new = exp.Paren(this=node.copy())
    new.type = node.type
    return new


def _untyped(node: exp.Expr) -> SqlError:
    return refuse(f"`{node.sql('trino')}`, whose type is not known", "CAST its operands")


def add_or_subtract(node: exp.Expr) -> exp.Expr:
    """A date and an interval make a date in Trino, a timestamp in DuckDB; times do not subtract."""
    left, right = type_name(node.this), type_name(node.expression)
    intervals = [n for n in (node.this, node.expression) if _is_interval(n)]
    if intervals and "DATE" in (left, right):
        if any(n.text("unit").upper() in ("HOUR", "MINUTE", "SECOND", "MILLISECOND") for n in intervals):
            raise refuse(
                f"`{node.sql('trino')}`: a date and a part of a day", "CAST the date AS timestamp(6) with time zone"
            )
        return cast(exp.Paren(this=node.copy()), "DATE")
    if isinstance(node, exp.Sub) and left in TIMES and right in TIMES:
        raise refuse(f"the difference of times `{node.sql('trino')}`", "write date_diff('second', a, b)")
    return node


def _is_interval(node: exp.Expr) -> bool:
    return isinstance(node, exp.Interval)


def compare(node: exp.Expr) -> exp.Expr:
    """A comparison with what NaN means in Trino; null stays null, so that NOT comes out right."""
    left, right = node.this, node.expression
    types = {type_name(left), type_name(right)}
    if "ARRAY" in types:
        raise refuse(f"the comparison of arrays `{node.sql('trino')}`", "compare their elements")
    if "UNKNOWN" in types and not types & SETTLED and not any(isinstance(n, exp.Null) for n in (left, right)):
        raise _untyped(node)
    if not types & FLOATS or (is_literal(left) and is_literal(right)):
        return node
    if isinstance(node, exp.EQ | exp.NEQ):
        if is_literal(left) or is_literal(right):
            return node
        both = all_of(is_nan(left), is_nan(right))
        return any_of(node, both) if isinstance(node, exp.NEQ) else all_of(node, negate(both))
    unordered, other = (left, right) if isinstance(node, exp.GT | exp.GTE) else (right, left)
    if is_literal(unordered):
        return node
    known = is_nan(unordered) if is_literal(other) else all_of(is_nan(unordered), negate(is_null(other)))
    return all_of(node, negate(known))


def between(node: exp.Expr) -> exp.Expr:
    """Two comparisons, where floats could be NaN."""
    low, high = node.args["low"], node.args["high"]
    if not {type_name(n) for n in (node.this, low, high)} & FLOATS or (is_literal(low) and is_literal(high)):
        return node
    return all_of(
        compare(exp.GTE(this=node.this.copy(), expression=low.copy())),
        compare(exp.LTE(this=node.this.copy(), expression=high.copy())),
    )


def member(node: exp.Expr) -> exp.Expr:
    """`x IN (…)`, of floats only among written numbers: NaN equals nothing."""
    if type_name(node.this) in FLOATS and not (node.expressions and all(is_literal(e) for e in node.expressions)):
        raise refuse(f"`{node.sql('trino')}`, floats among computed values", "join on the values instead")
    return node


def same_type(name: str) -> Rule:
    """A function whose result has its argument's type (DuckDB's has another for integers)."""

    def rule(node: exp.Expr) -> exp.Expr:
        kind = type_name(node.this)
        if kind == "UNKNOWN":
            raise _untyped(node)
        decimals = node.args.get("decimals")
        arguments = [node.this] if decimals is None else [node.this, decimals]
        if kind == "DECIMAL":
            raise refuse(f"{name}() of a decimal", "CAST it AS double")
        return cast(call(name, *arguments), node.this.type) if node.this.type else node

    return rule


def greatest(node: exp.Expr) -> exp.Expr:
    """Null when any argument is null, NaN only when all are; `least` needs no care for NaN."""
    arguments = [node.this, *node.expressions]
    name = "greatest" if isinstance(node, exp.Greatest) else "least"
    value: exp.Expr = call(name, *arguments)
    if name == "greatest" and any(type_name(a) in FLOATS for a in arguments):
        value = arguments[0]
        for other in arguments[1:]:
            value = case((is_nan(value), other), (is_nan(other), value), default=call(name, value, other))
    return case((any_of(*(is_null(a) for a in arguments)), exp.Null()), default=value)


def logarithm(node: exp.Expr) -> exp.Expr:
    """log2 and log10."""
    base = node.this.name
    if base not in ("2", "10"):
        raise refuse(f"`{node.sql('trino')}`", "write ln(x) / ln(base)")
    return call(f"log{base}", node.expression)


def modulo(node: exp.Expr) -> exp.Expr:
    """Refused where the types are not known to be alike."""
    if "UNKNOWN" in (type_name(node.this), type_name(node.expression)):
        raise _untyped(node)
    return node


ANONYMOUS: dict[str, Callable[[exp.Anonymous], exp.Expr]] = {
    "is_finite": lambda node: call("isfinite", *node.expressions),
    "is_infinite": lambda node: call("isinf", *node.expressions),
    "nan": lambda _: cast(exp.Literal.string("nan"), "DOUBLE"),
    "infinity": lambda _: cast(exp.Literal.string("inf"), "DOUBLE"),
}
RULES: dict[type[exp.Expr], Rule] = {
    exp.Div: divide,
    exp.Mod: modulo,
    exp.Add: add_or_subtract,
    exp.Sub: add_or_subtract,
    exp.EQ: compare,
    exp.NEQ: compare,
    exp.GT: compare,
    exp.GTE: compare,
    exp.LT: compare,
    exp.LTE: compare,
    exp.Between: between,
    exp.In: member,
    exp.Round: same_type("round"),
    exp.Ceil: same_type("ceil"),
    exp.Floor: same_type("floor"),
    exp.Sign: same_type("sign"),
    exp.Greatest: greatest,
    exp.Least: greatest,
    exp.Log: logarithm,
}
