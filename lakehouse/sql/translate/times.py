"""Times, all in UTC: differences in whole units, ISO weekdays, dates that stay dates."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from lakehouse.sql.allowed import refuse
from lakehouse.sql.dialect import TIMES
from lakehouse.sql.result_types import type_name
from lakehouse.sql.translate.build import call, cast

UNITS = ("MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR")
FIELDS = {
    "YEAR": "year", "QUARTER": "quarter", "MONTH": "month", "WEEK": "weekofyear", "DAY": "day", "DAY_OF_MONTH": "day",
    "DAYOFWEEK": "isodow", "DOW": "isodow", "DAY_OF_WEEK": "isodow", "DOY": "dayofyear", "DAY_OF_YEAR": "dayofyear",
    "HOUR": "hour", "MINUTE": "minute", "SECOND": "second",
}  # fmt: skip
FORMATS = frozenset({"%Y", "%m", "%d", "%H", "%M", "%S", "%%"})


def _unit(node: exp.Expr) -> str:
    unit = node.args.get("unit")
    name = unit.name.upper() if isinstance(unit, exp.Expr) else ""
    if name not in UNITS:
        raise refuse(f"the unit {name or '?'} in `{node.sql('trino')}`", f"use one of {', '.join(UNITS).lower()}")
    return str(name)


def _need_time(node: exp.Expr, whole: exp.Expr) -> str:
    kind = type_name(node)
    if kind not in TIMES:
        raise refuse(f"`{whole.sql('trino')}` on a {kind.lower()}", "CAST it to a date or a timestamp")
    return kind


def truncate(node: exp.Expr) -> exp.Expr:
    """A truncated date stays a date."""
    unit, kind = _unit(node), _need_time(node.this, node)
    value = call("date_trunc", unit.lower(), node.this)
    return cast(value, "DATE") if kind == "DATE" else value


def difference(node: exp.Expr) -> exp.Expr:
    """Whole units that lie between: DuckDB's date_sub, not its date_diff, which counts boundaries."""
    later, earlier = node.this, node.expression
    _need_time(later, node), _need_time(earlier, node)
    # With time zones, date_sub counts negative months otherwise (2025-02-28 to 2024-02-29: -11 months, Trino's is -12).
    return call("date_sub", _unit(node).lower(), cast(earlier, "TIMESTAMP"), cast(later, "TIMESTAMP"))


def add(node: exp.Expr) -> exp.Expr:
    """`date_add(unit, n, time)`."""
    unit, kind = _unit(node), _need_time(node.this, node)
    amount: exp.Expr = node.expression.copy()
    if unit == "QUARTER":
        unit, amount = "MONTH", exp.Mul(this=exp.Paren(this=amount), expression=exp.Literal.number(3))
    if kind == "DATE" and unit in ("MILLISECOND", "SECOND", "MINUTE", "HOUR"):
        raise refuse(f"`{node.sql('trino')}`: a date and a part of a day")
    moved = exp.Paren(
        this=exp.Add(this=exp.Paren(this=node.this.copy()), expression=call(f"to_{unit.lower()}s", amount))
    )
    return cast(moved, "DATE") if kind == "DATE" else moved


def part(name: str) -> Callable[[exp.Expr], exp.Expr]:
    """One field of a time."""

    def rule(node: exp.Expr) -> exp.Expr:
        _need_time(node.this, node)
        return call(name, node.this)

    return rule


def extract(node: exp.Expr) -> exp.Expr:
    """EXTRACT(field FROM time); weekdays are ISO's."""
    field = node.this.name.upper()
    if field not in FIELDS:
        raise refuse(f"EXTRACT({field} FROM …)")
    _need_time(node.expression, node)
    return call(FIELDS[field], node.expression)


def formatted(node: exp.Expr) -> exp.Expr:
    """`date_format` with %Y, %m, %d, %H, %i and %s."""
    _need_time(node.this, node)
    pattern = node.args["format"]
    if not isinstance(pattern, exp.Literal):
        raise refuse("date_format() with a computed format")
    marks = {pattern.name[i : i + 2] for i in range(len(pattern.name)) if pattern.name[i] == "%"}
    if marks - FORMATS:
        raise refuse("a format other than %Y, %m, %d, %H, %i, %s in date_format()")
    return call("strftime", node.this, pattern.name)


def date(node: exp.Expr) -> exp.Expr:
    """`date(time)`."""
    _need_time(node.this, node)
    return cast(node.this, "DATE")


def interval(node: exp.Expr) -> exp.Expr:
    """INTERVAL 'n' unit, with whole numbers."""
    if not node.this.name.lstrip("+-").isdigit() or _unit(node) in ("WEEK", "QUARTER"):
        raise refuse(f"`{node.sql('trino')}`", "write INTERVAL '3' DAY with a whole number")
    return node


RULES: dict[type[exp.Expr], Callable[[exp.Expr], exp.Expr]] = {
    exp.TimestampTrunc: truncate,
    exp.DateTrunc: truncate,
    exp.DateDiff: difference,
    exp.DateAdd: add,
    exp.Extract: extract,
    exp.Year: part("year"),
    exp.Quarter: part("quarter"),
    exp.Month: part("month"),
    exp.WeekOfYear: part("weekofyear"),
    exp.Week: part("weekofyear"),
    exp.Day: part("day"),
    exp.DayOfMonth: part("day"),
    exp.DayOfWeek: part("isodow"),
    exp.DayOfWeekIso: part("isodow"),
    exp.DayOfYear: part("dayofyear"),
    exp.Hour: part("hour"),
    exp.Minute: part("minute"),
    exp.Second: part("second"),
    exp.TimeToUnix: part("epoch"),
    exp.UnixToTime: lambda node: call("to_timestamp", cast(node.this, "DOUBLE")),
    exp.TimeToStr: formatted,
    exp.Date: date,
    exp.Interval: interval,
}
