"""Strings."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from lakehouse.sql.allowed import refuse
from lakehouse.sql.dialect import integer_literal
from lakehouse.sql.translate.build import call, case, error


def substring(node: exp.Expr) -> exp.Expr:
    """From a start of at least 1: before that the engines differ."""
    start, size = node.args["start"], node.args.get("length")
    written = integer_literal(start)
    if (written is not None and written < 1) or (size is not None and (integer_literal(size) or 0) < 0):
        raise refuse(f"`{node.sql('trino')}`", "start at 1 or later, with a length of 0 or more")
    arguments = [node.this, start] if size is None else [node.this, start, size]
    value = call("substring", *arguments)
    if written is not None:
        return value
    low = exp.LT(this=exp.Paren(this=start.copy()), expression=exp.Literal.number(1))
    return case((low, error("substr() starts at 1 or later in embedded SQL")), default=value)


def split(node: exp.Expr) -> exp.Expr:
    """`split(text, delimiter)`."""
    if node.args.get("limit"):
        raise refuse("split() with a limit")
    return call("string_split", node.this, node.expression)


def find(node: exp.Expr) -> exp.Expr:
    """`strpos(text, part)`."""
    if node.args.get("position") or node.args.get("occurrence"):
        raise refuse("strpos() with an instance")
    return call("strpos", node.this, node.args["substr"])


RULES: dict[type[exp.Expr], Callable[[exp.Expr], exp.Expr]] = {
    exp.Substring: substring,
    exp.Split: split,
    exp.StrPosition: find,
    exp.StartsWith: lambda node: call("starts_with", node.this, node.expression),
    exp.Length: lambda node: call("length", node.this),
}
