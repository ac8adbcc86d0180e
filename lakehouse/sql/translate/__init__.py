"""From the typed Trino tree to DuckDB's SQL: one rule for each node whose meaning differs, children first."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from lakehouse.sql.translate.aggregates import RULES as AGGREGATES
from lakehouse.sql.translate.arrays import RULES as ARRAYS
from lakehouse.sql.translate.casts import RULES as CASTS
from lakehouse.sql.translate.numbers import RULES as NUMBERS
from lakehouse.sql.translate.text import RULES as TEXT
from lakehouse.sql.translate.times import RULES as TIMES
from lakehouse.sql.translate.unnest import RULES as UNNEST

Rule = Callable[[exp.Expr], exp.Expr]
RULES: dict[type[exp.Expr], Rule] = NUMBERS | AGGREGATES | ARRAYS | CASTS | TEXT | TIMES | UNNEST


def translate(tree: exp.Query) -> exp.Query:
    """The tree with DuckDB's meaning; it is changed in place. Raises SqlError for what has no exact counterpart."""
    for node in reversed(list(tree.walk(bfs=False))):
        rule = RULES.get(type(node))
        if rule is None:
            continue
        new = rule(node)
        if new is not node:
            new.type = node.type
            if node is tree:
                raise TypeError("a rule replaced the whole query")
            node.replace(new)
    return tree
