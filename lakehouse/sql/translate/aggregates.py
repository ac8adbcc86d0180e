"""Aggregates whose result type or whose care for NaN and null differs."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from lakehouse.sql.allowed import refuse
from lakehouse.sql.dialect import FLOATS, INTEGERS
from lakehouse.sql.result_types import type_name
from lakehouse.sql.translate.build import call, case, cast
from lakehouse.sql.translate.numbers import is_nan

AGGREGATES = (exp.Sum, exp.Avg, exp.CountIf, exp.Max, exp.ArgMin, exp.ArgMax, exp.Count)


def aggregate(node: exp.Expr) -> exp.Expr:
    """Finish an aggregate at its outermost wrapping: the call alone, its FILTER, or its OVER."""
    if isinstance(node.parent, exp.Filter | exp.Window) and node.arg_key == "this":
        return node
    core = node
    while isinstance(core, exp.Filter | exp.Window):
        core = core.this
    return _finish(node, core) if isinstance(core, AGGREGATES) else node


def _finish(whole: exp.Expr, core: exp.Expr) -> exp.Expr:
    kind = _argument_type(core)
    if isinstance(core, exp.Count):
        if isinstance(core.this, exp.Distinct) and len(core.this.expressions) > 1:
            raise refuse("count(DISTINCT a, b)", "count the rows of a SELECT DISTINCT a, b")
        return whole
    if isinstance(core, exp.CountIf):
        return cast(whole, "BIGINT")
    if isinstance(core, exp.Sum | exp.Avg):
        return _sum_or_mean(whole, core, kind)
    if isinstance(core, exp.Max):
        return _largest(whole, core) if kind in FLOATS else whole
    return _by(whole, core)


def _argument_type(core: exp.Expr) -> str:
    argument = core.this
    if isinstance(argument, exp.Distinct):
        argument = argument.expressions[0]
    return type_name(argument) if isinstance(argument, exp.Expr) else "UNKNOWN"


def _sum_or_mean(whole: exp.Expr, core: exp.Expr, kind: str) -> exp.Expr:
    name = "sum" if isinstance(core, exp.Sum) else "avg"
    if kind == "DOUBLE":
        return whole
    if kind == "FLOAT":
        return cast(whole, "FLOAT")
    if kind in INTEGERS:
        return cast(whole, "BIGINT") if isinstance(core, exp.Sum) else whole
    if kind == "DECIMAL" and isinstance(core, exp.Sum):
        return whole
    if kind == "DECIMAL":
        raise refuse("avg() of a decimal", "CAST it AS double")
    raise refuse(f"{name}() of `{core.this.sql('trino')}`, whose type is not a known number", "CAST it")


def _largest(whole: exp.Expr, core: exp.Expr) -> exp.Expr:
    """The greatest value that is not NaN, where there is one."""
    proper = _with_core(whole, exp.Max(this=case((is_nan(core.this), exp.Null()), default=core.this)))
    return exp.Coalesce(this=proper, expressions=[whole.copy()])


def _by(whole: exp.Expr, core: exp.Expr) -> exp.Expr:
    """max_by and min_by leave out rows whose key is null, but not those whose value is."""
    key = core.expression
    if isinstance(core, exp.ArgMax) and type_name(key) in FLOATS:
        pair = call("row", exp.Not(this=is_nan(key)), key)
        key = case((exp.Is(this=key.copy(), expression=exp.Null()), exp.Null()), default=pair)
    name = "arg_max_null" if isinstance(core, exp.ArgMax) else "arg_min_null"
    return _with_core(whole, call(name, core.this, key))


def _with_core(whole: exp.Expr, core: exp.Expr) -> exp.Expr:
    if not isinstance(whole, exp.Filter | exp.Window):
        return core
    copy = whole.copy()
    innermost = copy
    while isinstance(innermost.this, exp.Filter | exp.Window):
        innermost = innermost.this
    innermost.set("this", core)
    return copy


RULES: dict[type[exp.Expr], Callable[[exp.Expr], exp.Expr]] = dict.fromkeys(
    (*AGGREGATES, exp.Filter, exp.Window), aggregate
)
