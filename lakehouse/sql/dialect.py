"""Trino's SQL as we parse it, and what the passes share about its types."""

from __future__ import annotations

import sqlglot
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
)
from sqlglot import exp
from sqlglot.dialects.trino import Trino
from sqlglot.errors import ParseError, TokenError

from lakehouse.errors import SqlError
from lakehouse.sql.allowed import WRITES, check_allowed
from lakehouse.sql.result_types import RESULT_TYPES

INTEGERS = frozenset({"TINYINT", "SMALLINT", "INT", "BIGINT"})
FLOATS = frozenset({"FLOAT", "DOUBLE"})
TIMES = frozenset({"DATE", "TIMESTAMP", "TIMESTAMPTZ"})
SCALARS: dict[type[IcebergType], str] = {
    BooleanType: "BOOLEAN",
    IntegerType: "INT",
    LongType: "BIGINT",
    FloatType: "FLOAT",
    DoubleType: "DOUBLE",
    StringType: "VARCHAR",
    DateType: "DATE",
    TimestampType: "TIMESTAMP",
    TimestamptzType: "TIMESTAMPTZ",
}


class LakeTrino(Trino):
    """Trino, with subscripts that stay as they are written (sqlglot shifts some), and result types that are Trino's."""

    INDEX_OFFSET = 0
    EXPRESSION_METADATA = {**Trino.EXPRESSION_METADATA, **RESULT_TYPES}


def parse(sql: str) -> exp.Query:
    """One query, checked against the list of what is carried over. Raises SqlError."""
    tree = read_query(sql)
    check_allowed(tree)
    return tree


def read_query(sql: str) -> exp.Query:
    """One query that only reads. Raises SqlError."""
    try:
        statements = [s for s in sqlglot.parse(sql, dialect=LakeTrino) if s is not None]
    except (ParseError, TokenError) as error:
        raise SqlError(f"this is not Trino SQL: {str(error).splitlines()[0]}") from error
    if len(statements) != 1:
        raise SqlError(f"give one query, got {len(statements)}")
    tree = statements[0]
    if isinstance(tree, WRITES):
        written = tree.sql("trino").split(maxsplit=1)[0].upper()
        raise SqlError(
            f"{written} writes: queries only read. Tables are written by `reqlake ingest` and the other jobs"
        )
    if not isinstance(tree, exp.Query):
        raise SqlError(f"{type(tree).__name__.upper()} is not a query: write SELECT or WITH")
    return tree


def duckdb_type(kind: IcebergType) -> str | None:
    """DuckDB's name of an Iceberg type; None where SQL cannot carry it (structs, maps, binaries)."""
    if isinstance(kind, ListType):
        element = duckdb_type(kind.element_type)
        return None if element is None else f"{element}[]"
    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    return SCALARS.get(type(kind))


def trino_type(kind: IcebergType) -> exp.DataType:
    """The type as sqlglot's annotation wants it."""
    name = duckdb_type(kind)
    return exp.DataType.build("UNKNOWN" if name is None else name, dialect="duckdb")


def is_literal(node: exp.Expr) -> bool:
    """A written number, so neither NaN nor null."""
    if isinstance(node, exp.Paren | exp.Neg | exp.Cast):
        return is_literal(node.this)
    return isinstance(node, exp.Literal) and not node.is_string


def integer_literal(node: exp.Expr) -> int | None:
    """The value of a written integer, with its sign; None for anything else."""
    if isinstance(node, exp.Neg):
        value = integer_literal(node.this)
        return None if value is None else -value
    if isinstance(node, exp.Paren):
        return integer_literal(node.this)
    return int(node.name) if isinstance(node, exp.Literal) and node.is_int else None
