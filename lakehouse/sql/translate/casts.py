"""CAST and TRY_CAST: rounding of floats, and only those strings that both engines read alike."""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlglot import exp

from lakehouse.errors import SqlError
from lakehouse.sql.allowed import refuse
from lakehouse.sql.dialect import FLOATS, INTEGERS, TIMES
from lakehouse.sql.result_types import type_name
from lakehouse.sql.translate.build import any_of, call, case, error, is_null

INTEGER = r"[+-]?[0-9]+"
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
TIME = re.compile(r"^(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2}(?::\d{2}(?:\.(\d{1,6}))?)?))?\s*(UTC|Z|\+00:00)?$")
TEXT_OF = INTEGERS | {"BOOLEAN", "DATE", "DECIMAL", "VARCHAR"}


def cast(node: exp.Expr) -> exp.Expr:
    """One cast, by what it casts from and to."""
    target, source = node.args["to"].this.value, type_name(node.this)
    if source == target and source not in ("TIMESTAMP", "TIMESTAMPTZ", "DECIMAL", "ARRAY"):
        return node
    if isinstance(node.this, exp.Literal) and node.this.is_string and target in TIMES:
        return _time_literal(node, target)
    if isinstance(node.this, exp.Null | exp.Var):
        return node
    if target in INTEGERS and source in FLOATS:
        return _with_value(node, call("round", node.this))
    if source == "VARCHAR" and target in INTEGERS | FLOATS:
        return _from_text(node, INTEGER if target in INTEGERS else NUMBER)
    _check(node, source, target)
    if target in ("TIMESTAMPTZ", "TIMESTAMP"):
        _check_precision(node, target)
        plain = node.copy()
        plain.set("to", exp.DataType.build(target))
        return plain
    return node


def _check(node: exp.Expr, source: str, target: str) -> None:
    """Refuse pairs of types that the engines print or read differently."""
    told = f"`{node.sql('trino')}`, a {source.lower()} as {target.lower()}"
    if source == "UNKNOWN":
        raise refuse(told, "its type is not known: use a column or a written value")
    if target == "VARCHAR" and source not in TEXT_OF:
        raise refuse(told, "the engines write it differently; use date_format for times, or cast to another type")
    if source == "VARCHAR" and target != "VARCHAR":
        raise refuse(told, "the engines read strings differently here")


def _check_precision(node: exp.Expr, target: str) -> None:
    """Trino's `timestamp` alone has milliseconds, and rounds."""
    parameter = node.args["to"].expressions
    precision = int(parameter[0].name) if parameter else 3
    if precision != 6 and type_name(node.this) != "DATE":
        zone = " with time zone" * (target == "TIMESTAMPTZ")
        raise refuse(f"`{node.sql('trino')}`, which rounds to {precision} digits", f"write timestamp(6){zone}")


def _with_value(node: exp.Expr, value: exp.Expr) -> exp.Expr:
    copy = node.copy()
    copy.set("this", value)
    return copy


def _from_text(node: exp.Expr, pattern: str) -> exp.Expr:
    """Only plain numbers: DuckDB also reads '5.7' as an integer, ' 5 ' and '1_000'."""
    plain = any_of(is_null(node.this), call("regexp_full_match", node.this, pattern))
    otherwise = (
        exp.Null() if isinstance(node, exp.TryCast) else error("cannot cast a string to a number: it is not one")
    )
    return case((plain, node), default=otherwise)


def _time_literal(node: exp.Expr, target: str) -> exp.Expr:
    text = node.this.name
    match = TIME.match(text.strip())
    if match is None:
        raise SqlError(
            f"{text!r} is not a time that embedded SQL reads: write 2026-01-31 12:00:00, in UTC, at most 6 digits"
        )
    day, clock, digits, zone = match.groups()
    parameter = node.args["to"].expressions
    precision = int(parameter[0].name) if parameter else 3
    if len(digits or "") > precision:
        raise refuse(f"{text!r} as a time of {precision} digits", "write TIMESTAMP '…', or timestamp(6)")
    if target == "DATE" and (clock or zone):
        raise SqlError(f"{text!r} is not a date: write 2026-01-31")
    if target == "TIMESTAMP" and zone:
        raise SqlError(f"{text!r} has a zone: cast it to timestamp(6) with time zone")
    value = day if target == "DATE" else f"{day} {clock or '00:00:00'}{'+00:00' if target == 'TIMESTAMPTZ' else ''}"
    return exp.Cast(this=exp.Literal.string(value), to=exp.DataType.build(target))


RULES: dict[type[exp.Expr], Callable[[exp.Expr], exp.Expr]] = {exp.Cast: cast, exp.TryCast: cast}
