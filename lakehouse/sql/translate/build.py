"""Pieces that rules build their replacement from."""

from __future__ import annotations

from sqlglot import exp


def call(name: str, *arguments: exp.Expr | str | int) -> exp.Anonymous:
    """`name(arguments)` in DuckDB, written as given."""
    return exp.Anonymous(this=name, expressions=[_argument(a) for a in arguments])


def _argument(value: exp.Expr | str | int) -> exp.Expr:
    if isinstance(value, exp.Expr):
        return value.copy()
    return exp.Literal.string(value) if isinstance(value, str) else exp.Literal.number(value)


def case(*branches: tuple[exp.Expr, exp.Expr], default: exp.Expr) -> exp.Case:
    """CASE WHEN condition THEN value … ELSE default END."""
    ifs = [exp.If(this=condition.copy(), true=value.copy()) for condition, value in branches]
    return exp.Case(ifs=ifs, default=default.copy())


def all_of(*conditions: exp.Expr) -> exp.Expr:
    """The conditions joined by AND, in parentheses."""
    return exp.Paren(this=exp.and_(*(exp.Paren(this=c.copy()) for c in conditions), copy=False, wrap=False))


def any_of(*conditions: exp.Expr) -> exp.Expr:
    """The conditions joined by OR, in parentheses."""
    return exp.Paren(this=exp.or_(*(exp.Paren(this=c.copy()) for c in conditions), copy=False, wrap=False))


def is_null(node: exp.Expr) -> exp.Expr:
    """`node IS NULL`."""
    return exp.Is(this=exp.Paren(this=node.copy()), expression=exp.Null())


def negate(node: exp.Expr) -> exp.Expr:
    """NOT of a call or of something in parentheses."""
    return exp.Not(this=node.copy())


def error(message: str) -> exp.Expr:
    """An expression that fails the query when it is evaluated."""
    return call("error", message)


def cast(node: exp.Expr, kind: str | exp.DataType) -> exp.Expr:
    """CAST, DuckDB's meaning; later rules do not see it again."""
    return exp.Cast(this=node.copy(), to=kind.copy() if isinstance(kind, exp.DataType) else exp.DataType.build(kind))
