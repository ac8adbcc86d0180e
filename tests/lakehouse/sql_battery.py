"""Queries in Trino's SQL with the rows that Trino gives, written by hand: the same list runs on both engines.

`facts` has every type, nulls, NaN and infinity, empty lists and lists with nulls. Its column `name` was `title` in the
first files, `extra` came later, row 6 is deleted by a position delete, and the tag `v1` holds the first rows.
"""

# ruff: noqa: E501 (a query stays on its line)
from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import (
    BooleanType,
    DateType,
    DoubleType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

from lakehouse.catalog import ensure_namespace, open_catalog
from lakehouse.settings import Settings
from tests.lakehouse.merge_on_read import delete_positions

NAN, INF = float("nan"), float("inf")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _list(i: int, kind: Any) -> ListType:
    return ListType(i, kind, element_required=False)


FACTS = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "small", IntegerType(), required=False),
    NestedField(3, "price", DoubleType(), required=False),
    NestedField(4, "weight", FloatType(), required=False),
    NestedField(5, "title", StringType(), required=False),
    NestedField(6, "flag", BooleanType(), required=False),
    NestedField(7, "day", DateType(), required=False),
    NestedField(8, "at", TimestamptzType(), required=False),
    NestedField(9, "items", _list(20, LongType()), required=False),
    NestedField(10, "scores", _list(21, FloatType()), required=False),
    NestedField(11, "nested", _list(22, _list(23, LongType())), required=False),
)
LABELS = Schema(
    NestedField(1, "fact_id", LongType(), required=False),
    NestedField(2, "label", FloatType(), required=False),
    NestedField(3, "kind", StringType(), required=False),
)
COLUMNS = ("id", "small", "price", "weight", "name", "flag", "day", "at", "items", "scores", "nested")
FIRST: list[tuple[Any, ...]] = [
    (1, 7, 1.5, 0.5, "ann", True, date(2026, 1, 1), at("2026-01-01 10:00:00.123456"), [10, 20, 30], [0.5, None, 1.5], [[1, 2], [3]]),
    (2, -7, NAN, None, "Bob", False, date(2026, 1, 31), at("2026-01-31 23:59:59"), [], [], [[]]),
    (3, None, -2.5, NAN, None, None, None, None, None, None, None),
    (6, 1, 1.0, 1.0, "gone", True, date(2026, 1, 1), at("2026-01-01 00:00:00"), [6], [6.0], [[6]]),
]  # fmt: skip
SECOND: list[tuple[Any, ...]] = [
    (4, 0, INF, 2.5, "", True, date(2024, 2, 29), at("2024-02-29 00:00:00"), [20, None], [None, 2.0], [None, [4]]),
    (5, 2147483647, 0.0, -1.0, "ünï", False, date(1969, 12, 31), at("1969-12-31 23:00:00"), [5], [1.0], [[5, 5]]),
]  # fmt: skip
LABEL_ROWS = [(1, 1.0, "click"), (1, 0.0, "like"), (2, 1.0, "click"), (9, 1.0, None)]


def write_battery(settings: Settings) -> Table:
    """Make `reqlake.facts` and `reqlake.labels`."""
    catalog = open_catalog(settings)
    ensure_namespace(catalog, "reqlake", settings)
    table = catalog.create_table("reqlake.facts", FACTS, properties={"format-version": "2"})
    first = [dict(zip(COLUMNS, row, strict=True)) for row in FIRST]
    table.append(pa.Table.from_pylist([r | {"title": r["name"]} for r in first], schema=table.schema().as_arrow()))
    snapshot = table.current_snapshot()
    assert snapshot is not None
    table.manage_snapshots().create_tag(snapshot.snapshot_id, "v1").commit()
    with table.update_schema() as change:
        change.rename_column("title", "name")
        change.add_column("extra", IntegerType())
    second = [dict(zip(COLUMNS, row, strict=True)) | {"extra": 9 if row[0] == 5 else None} for row in SECOND]
    table.append(pa.Table.from_pylist(second, schema=table.schema().as_arrow()))
    (path,) = [t.file.file_path for t in table.scan().plan_files() if t.file.record_count == len(FIRST)]
    delete_positions(table, {path: [3]})
    labels = catalog.create_table("reqlake.labels", LABELS)
    rows = [dict(zip(("fact_id", "label", "kind"), r, strict=True)) for r in LABEL_ROWS]
    labels.append(pa.Table.from_pylist(rows, schema=labels.schema().as_arrow()))
    return table


@dataclass(frozen=True)
class Case:
    """One query, the rows that it gives, and whether their order is part of the answer."""

    name: str
    sql: str
    rows: list[tuple[Any, ...]]
    ordered: bool = False


def one(name: str, sql: str, *values: Any) -> Case:
    """A query that gives one row."""
    return Case(name, sql, [tuple(values)])


CASES: list[Case] = [
    # ---- tables, deletes, renames, time travel
    Case("position deletes are applied", "SELECT id FROM facts", [(1,), (2,), (3,), (4,), (5,)]),
    Case("renamed column", "SELECT id, name FROM facts WHERE id IN (1, 5)", [(1, "ann"), (5, "ünï")]),
    Case("added column is null in old files", "SELECT id, extra FROM facts WHERE id IN (1, 5)", [(1, None), (5, 9)]),
    Case("time travel by tag, old column names", "SELECT id, title FROM facts FOR VERSION AS OF 'v1'",
         [(1, "ann"), (2, "Bob"), (3, None), (6, "gone")]),
    one("two snapshots in one query",
        "SELECT (SELECT count(*) FROM facts), (SELECT count(*) FROM facts FOR VERSION AS OF 'v1')", 5, 4),
    one("qualified name", "SELECT count(*) FROM reqlake.facts", 5),
    one("metadata tables", 'SELECT count(*), count(DISTINCT operation) FROM "facts$snapshots"', 3, 2),
    Case("refs", """SELECT name, type FROM "facts$refs" """, [("main", "BRANCH"), ("v1", "TAG")]),
    one("files", """SELECT count(*), sum(record_count) FROM "facts$files" WHERE content = 0""", 2, 6),
    Case("names in any case", "SELECT F.ID FROM Facts AS F WHERE f.Id = 4", [(4,)]),
    # ---- integers
    one("integer division goes towards zero", "SELECT 7 / 2, -7 / 2, 7 / -2, -7 % 2", 3, -3, -3, -1),
    Case("integer division of columns", "SELECT id, small / 2 FROM facts WHERE id <= 3", [(1, 3), (2, -3), (3, None)]),
    one("division of big integers is exact", "SELECT 9223372036854775807 / 3", 3074457345618258602),
    one("ratio of counts is an integer", "SELECT count_if(flag) / count(*) FROM facts", 0),
    one("ratio as double", "SELECT CAST(count_if(flag) AS double) / count(*) FROM facts", 0.4),
    one("sum of integers", "SELECT sum(small), sum(id) FROM facts", 2147483647, 15),
    one("average of integers", "SELECT avg(id) FROM facts", 3.0),
    one("arithmetic", "SELECT 2 + 3 * 4, -(5 - 7), abs(-3), mod(7, 3), sign(-9)", 14, 2, 3, 1, -1),
    one("double to integer rounds half away from zero",
        "SELECT CAST(2.5e0 AS bigint), CAST(-2.5e0 AS bigint), CAST(0.4e0 AS integer)", 3, -3, 0),
    one("rounding", "SELECT round(2.5e0), round(-2.5e0), round(1.245e0, 1), ceil(1.2e0), floor(-1.2e0), round(7)",
        3.0, -3.0, 1.2, 2.0, -2.0, 7),
    one("powers and logarithms", "SELECT power(2, 10), sqrt(9e0), ln(1e0), log2(8e0), log10(100e0), exp(0e0), cbrt(8e0)",
        1024.0, 3.0, 0.0, 3.0, 2.0, 1.0, 2.0),
    one("decimals add and multiply", "SELECT 1.5 + 1, 1.5 * 2, 0.1 + 0.2 = 0.3", Decimal("2.5"), Decimal("3.0"), True),
    # ---- floats, NaN, infinity
    one("floats divide to infinity and NaN", "SELECT 1e0 / 0, is_nan(0e0 / 0), is_infinite(-1e0 / 0), is_finite(1e0)",
        INF, True, True, True),
    one("nan equals nothing", "SELECT nan() = nan(), nan() <> nan(), nan() > 1, nan() < 1, nan() >= 1", False, True, False, False, False),
    Case("filter above leaves NaN out", "SELECT id FROM facts WHERE price > 1", [(1,), (4,)]),
    Case("filter below leaves NaN out", "SELECT id FROM facts WHERE price < 2", [(1,), (3,), (5,)]),
    Case("columns that are NaN", "SELECT id FROM facts WHERE price = price", [(1,), (3,), (4,), (5,)]),
    Case("not equal holds for NaN", "SELECT id FROM facts WHERE price <> weight", [(1,), (3,), (4,), (5,)]),
    Case("not of a NaN comparison with null is null", "SELECT id FROM facts WHERE NOT (price > weight)", [(3,)]),
    Case("between leaves NaN out", "SELECT id FROM facts WHERE price BETWEEN -10 AND 2", [(1,), (3,), (5,)]),
    one("max leaves NaN out", "SELECT max(price), min(price), max(weight), min(weight) FROM facts", INF, -2.5, 2.5, -1.0),
    Case("max by group", "SELECT flag, max(price) FROM facts GROUP BY flag", [(True, INF), (False, 0.0), (None, -2.5)]),
    one("max_by leaves NaN keys out, keeps null values", "SELECT max_by(id, price), min_by(id, price), max_by(name, price) FROM facts WHERE id IN (2, 3)", 3, 3, None),
    one("greatest and least", "SELECT greatest(1, 3, 2), least(1, 3, 2), greatest(1, NULL), greatest(1e0, nan()), least(1e0, nan())",
        3, 1, None, 1.0, 1.0),
    Case("NaN is the greatest in an order", "SELECT id FROM facts ORDER BY price DESC", [(2,), (4,), (1,), (5,), (3,)], ordered=True),
    Case("NaN is the greatest ascending", "SELECT id FROM facts ORDER BY price", [(3,), (5,), (1,), (4,), (2,)], ordered=True),
    one("sum and average of reals", "SELECT sum(weight), avg(weight) FROM facts WHERE id IN (1, 4)", 3.0, 1.5),
    Case("real against a decimal", "SELECT id FROM facts WHERE weight = 0.5", [(1,)]),
    # ---- nulls and logic
    Case("nulls sort last", "SELECT id FROM facts ORDER BY small, id", [(2,), (4,), (1,), (5,), (3,)], ordered=True),
    Case("nulls sort last descending", "SELECT id FROM facts ORDER BY small DESC", [(5,), (1,), (4,), (2,), (3,)], ordered=True),
    Case("nulls first", "SELECT id FROM facts ORDER BY small NULLS FIRST LIMIT 2", [(3,), (2,)], ordered=True),
    Case("three-valued not", "SELECT id FROM facts WHERE NOT flag", [(2,), (5,)]),
    Case("is distinct from", "SELECT id FROM facts WHERE flag IS DISTINCT FROM true", [(2,), (3,), (5,)]),
    one("null helpers", "SELECT coalesce(NULL, 2), nullif(3, 3), if(1 = 2, 'a', 'b'), 1 IN (2, NULL), 1 NOT IN (2, 3)", 2, None, "b", None, True),
    Case("case", "SELECT id, CASE WHEN small > 0 THEN 'plus' WHEN small < 0 THEN 'minus' ELSE 'none' END FROM facts",
         [(1, "plus"), (2, "minus"), (3, "none"), (4, "none"), (5, "plus")]),
    one("boolean aggregates", "SELECT bool_and(flag), bool_or(flag), count(flag), count(*) FROM facts", False, True, 4, 5),
    # ---- strings
    Case("strings", "SELECT id, upper(name), length(name), reverse(name), substr(name, 2), name || '!' FROM facts WHERE id IN (1, 3, 5)",
         [(1, "ANN", 3, "nna", "nn", "ann!"), (3, None, None, None, None, None), (5, "ÜNÏ", 3, "ïnü", "nï", "ünï!")]),
    one("concat with null is null", "SELECT concat('a', NULL), concat('a', 'b', 'c'), strpos('abc', 'c'), strpos('abc', 'x'), starts_with('abc', 'ab')",
        None, "abc", 3, 0, True),
    Case("like is case sensitive", "SELECT id FROM facts WHERE name LIKE '_o%' OR name LIKE 'B\\_%' ESCAPE '\\'", [(2,)]),
    one("split", "SELECT split('a,b,,c', ','), cardinality(split('', ','))", ["a", "b", "", "c"], 1),
    one("strings to numbers", "SELECT CAST('42' AS bigint), try_cast('4.2' AS bigint), try_cast('x' AS double), CAST('1e3' AS double)",
        42, None, None, 1000.0),
    one("to strings", "SELECT CAST(12 AS varchar), CAST(true AS varchar), CAST(DATE '2026-01-31' AS varchar)", "12", "true", "2026-01-31"),
    # ---- times
    Case("time filter", "SELECT id FROM facts WHERE at >= TIMESTAMP '2026-01-01 10:00:00 UTC'", [(1,), (2,)]),
    Case("time filter without a zone, and dates", "SELECT id FROM facts WHERE at < TIMESTAMP '2024-02-29 00:00:01' AND day > DATE '1969-12-30'",
         [(4,), (5,)]),
    Case("parts of a time", "SELECT id, year(at), month(at), day(at), hour(at), minute(at), second(at), day_of_week(at), quarter(at) FROM facts WHERE id IN (2, 5)",
         [(2, 2026, 1, 31, 23, 59, 59, 6, 1), (5, 1969, 12, 31, 23, 0, 0, 3, 4)]),
    Case("extract, week, day of year", "SELECT EXTRACT(DOW FROM day), week(day), day_of_year(day), EXTRACT(YEAR FROM at) FROM facts WHERE id = 4",
         [(4, 9, 60, 2024)]),
    Case("truncate", "SELECT date_trunc('hour', at), date_trunc('month', day), CAST(at AS date), date(at) FROM facts WHERE id = 1",
         [(at("2026-01-01 10:00:00"), date(2026, 1, 1), date(2026, 1, 1), date(2026, 1, 1))]),
    one("whole units between", "SELECT date_diff('day', TIMESTAMP '2026-01-01 23:00:00 UTC', TIMESTAMP '2026-01-03 22:00:00 UTC'), "
        "date_diff('month', DATE '2026-01-31', DATE '2026-02-28'), date_diff('hour', TIMESTAMP '2026-01-01 01:30:00 UTC', TIMESTAMP '2026-01-01 00:00:00 UTC'), "
        "date_diff('month', TIMESTAMP '2025-02-28 00:00:00 UTC', TIMESTAMP '2024-02-29 00:00:00 UTC')",
        1, 1, -1, -12),
    one("add", "SELECT date_add('month', 1, DATE '2026-01-31'), DATE '2026-01-31' + INTERVAL '1' DAY, TIMESTAMP '2026-01-01 00:00:00 UTC' - INTERVAL '90' MINUTE",
        date(2026, 2, 28), date(2026, 2, 1), at("2025-12-31 22:30:00")),
    one("unix time", "SELECT to_unixtime(at), from_unixtime(0), date_format(at, '%Y-%m-%d %H:%i:%s') FROM facts WHERE id = 5",
        -3600.0, at("1970-01-01 00:00:00"), "1969-12-31 23:00:00"),
    one("microseconds are kept", "SELECT max(at) FROM facts WHERE id = 1", at("2026-01-01 10:00:00.123456")),
    # ---- arrays
    Case("cardinality", "SELECT id, cardinality(items) FROM facts", [(1, 3), (2, 0), (3, None), (4, 2), (5, 1)]),
    Case("subscript and element_at", "SELECT id, element_at(items, 2), element_at(items, -1), element_at(items, 9) FROM facts",
         [(1, 20, 30, None), (2, None, None, None), (3, None, None, None), (4, None, None, None), (5, None, 5, None)]),
    Case("subscript", "SELECT items[1], nested[1][1] FROM facts WHERE id IN (1, 5)", [(10, 1), (5, 5)]),
    Case("subscript by a column", "SELECT id, items[cardinality(items)] FROM facts WHERE cardinality(items) > 0", [(1, 30), (4, None), (5, 5)]),
    Case("contains is three-valued", "SELECT id, contains(items, 20), contains(items, 99) FROM facts",
         [(1, True, False), (2, False, False), (3, None, None), (4, True, None), (5, False, False)]),
    Case("position, min, max", "SELECT id, array_position(items, 20), array_min(items), array_max(scores) FROM facts",
         [(1, 2, 10, None), (2, 0, None, None), (3, None, None, None), (4, 1, None, None), (5, 0, 5, 1.0)]),
    one("sort, distinct, flatten", "SELECT array_sort(ARRAY[3, NULL, 1]), array_distinct(ARRAY[2, 1, 2, NULL, NULL]), flatten(ARRAY[ARRAY[1], ARRAY[2, 3]])",
        [1, 3, None], [2, 1, None], [1, 2, 3]),
    one("slice, reverse, join", "SELECT slice(ARRAY[1, 2, 3, 4], 2, 2), slice(ARRAY[1], 1, 0), reverse(ARRAY[1, 2]), ARRAY[1] || ARRAY[2], concat(ARRAY[1], ARRAY[2], ARRAY[3])",
        [2, 3], [], [2, 1], [1, 2], [1, 2, 3]),
    Case("transform and filter", "SELECT id, transform(items, x -> x / 4), filter(scores, x -> x > 1) FROM facts WHERE id IN (1, 2, 4)",
         [(1, [2, 5, 7], [1.5]), (2, [], []), (4, [5, None], [2.0])]),
    Case("lambda that uses a column", "SELECT id, transform(items, x -> x + id) FROM facts WHERE id = 5", [(5, [10])]),
    Case("nested lambda", "SELECT transform(nested, x -> cardinality(filter(x, y -> y > 1))) FROM facts WHERE id IN (1, 4)", [([1, 1],), ([None, 1],)]),
    Case("reduce", "SELECT id, reduce(items, 0, (s, x) -> s + coalesce(x, 0), s -> s * 2) FROM facts", [(1, 120), (2, 0), (3, None), (4, 40), (5, 10)]),
    Case("match", "SELECT id, any_match(items, x -> x > 15), all_match(items, x -> x > 15), none_match(items, x -> x > 15) FROM facts",
         [(1, True, False, False), (2, False, True, True), (3, None, None, None), (4, True, None, False), (5, False, False, True)]),
    Case("zip_with pads", "SELECT id, zip_with(items, scores, (a, b) -> a + coalesce(b, 100)) FROM facts WHERE id IN (1, 2, 5)",
         [(1, [10.5, 120.0, 31.5]), (2, []), (5, [6.0])]),
    one("array_agg keeps nulls", "SELECT array_agg(small ORDER BY id), array_agg(id ORDER BY id) FILTER (WHERE flag) FROM facts",
        [7, -7, None, 0, 2147483647], [1, 4]),
    one("array_agg of nothing is null", "SELECT array_agg(id) FROM facts WHERE id > 99", None),
    # ---- unnest
    Case("unnest", "SELECT f.id, u.x FROM facts AS f CROSS JOIN UNNEST(f.items) AS u (x)", [(1, 10), (1, 20), (1, 30), (4, 20), (4, None), (5, 5)]),
    Case("unnest two lists with ordinality", "SELECT id, x, y, n FROM facts CROSS JOIN UNNEST(items, scores) WITH ORDINALITY AS u (x, y, n) WHERE id IN (1, 2)",
         [(1, 10, 0.5, 1), (1, 20, None, 2), (1, 30, 1.5, 3)]),
    Case("unnest pads the shorter list", "SELECT x, y FROM UNNEST(ARRAY[1, 2], ARRAY['a']) AS t (x, y)", [(1, "a"), (2, None)]),
    Case("left join unnest keeps empty lists", "SELECT id, x FROM facts LEFT JOIN UNNEST(items) AS u (x) ON TRUE WHERE id IN (2, 3, 5)", [(2, None), (3, None), (5, 5)]),
    Case("unnest of a view's list beside other columns", "SELECT name, x FROM (SELECT id, name, items FROM facts WHERE id > 3) AS v CROSS JOIN UNNEST(v.items) AS u (x)",
         [("", 20), ("", None), ("ünï", 5)]),
    Case("unnest of lists of lists", "SELECT id, cardinality(x), y FROM facts, UNNEST(nested) AS u (x), UNNEST(x) AS v (y) WHERE id IN (1, 4)",
         [(1, 2, 1), (1, 2, 2), (1, 1, 3), (4, 1, 4)]),
    Case("each column of an unnest has its own type", "SELECT sum(y) / 4, sum(x) / 4 FROM facts CROSS JOIN UNNEST(items, scores) AS u (x, y) WHERE id = 1", [(0.5, 15)]),
    # ---- joins, sets, subqueries
    Case("left join", "SELECT f.id, l.kind FROM facts f LEFT JOIN labels l ON f.id = l.fact_id WHERE f.id < 4",
         [(1, "click"), (1, "like"), (2, "click"), (3, None)]),
    Case("full join", "SELECT f.id, l.fact_id FROM facts f FULL JOIN labels l ON f.id = l.fact_id AND l.kind = 'click' WHERE f.id IS NULL OR f.id < 3",
         [(1, 1), (2, 2), (None, 1), (None, 9)]),
    Case("filter after an outer join", "SELECT f.id FROM facts f LEFT JOIN labels l ON f.id = l.fact_id WHERE l.fact_id IS NULL", [(3,), (4,), (5,)]),
    Case("semi joins", "SELECT id FROM facts WHERE id IN (SELECT fact_id FROM labels) AND EXISTS (SELECT 1 FROM labels l WHERE l.fact_id = facts.id AND l.label = 0)", [(1,)]),
    Case("not in with a null", "SELECT id FROM facts WHERE id NOT IN (SELECT CASE WHEN kind IS NULL THEN NULL ELSE fact_id END FROM labels)", []),
    Case("sets", "SELECT id FROM facts EXCEPT SELECT fact_id FROM labels", [(3,), (4,), (5,)]),
    Case("union all with order", "SELECT id AS k FROM facts WHERE id < 3 UNION ALL SELECT fact_id FROM labels WHERE fact_id > 5 ORDER BY k DESC", [(9,), (2,), (1,)], ordered=True),
    Case("with", "WITH a AS (SELECT flag, count(*) AS n FROM facts GROUP BY flag), b AS (SELECT max(n) AS m FROM a) SELECT flag FROM a, b WHERE n = m",
         [(True,), (False,)]),
    Case("scalar subquery", "SELECT id FROM facts WHERE id = (SELECT max(fact_id) FROM labels WHERE kind = 'like')", [(1,)]),
    Case("values", "SELECT a, b FROM (VALUES (1, 'x'), (2, NULL)) AS t (a, b)", [(1, "x"), (2, None)]),
    Case("using", "SELECT id, n FROM facts JOIN (SELECT fact_id AS id, count(*) AS n FROM labels GROUP BY fact_id) AS c USING (id)", [(1, 2), (2, 1)]),
    # ---- groups and windows
    Case("having", "SELECT fact_id, count(*) FROM labels GROUP BY fact_id HAVING count(*) > 1", [(1, 2)]),
    Case("group by position, distinct counts", "SELECT flag, count(DISTINCT day) FROM facts GROUP BY 1", [(True, 2), (False, 2), (None, 0)]),
    Case("distinct", "SELECT DISTINCT kind FROM labels", [("click",), ("like",), (None,)]),
    one("aggregates of nothing", "SELECT count(*), sum(id), max(price), avg(weight) FROM facts WHERE id > 99", 0, None, None, None),
    one("spread", "SELECT stddev(id), var_pop(id), corr(id, id) FROM facts WHERE id IN (1, 3)", 2**0.5, 1.0, 1.0),
    Case("ranks", "SELECT id, row_number() OVER (ORDER BY id DESC), rank() OVER (ORDER BY flag), dense_rank() OVER (ORDER BY flag) FROM facts",
         [(1, 5, 3, 2), (2, 4, 1, 1), (3, 3, 5, 3), (4, 2, 3, 2), (5, 1, 1, 1)]),
    Case("running sum", "SELECT id, sum(id) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM facts", [(1, 1), (2, 3), (3, 5), (4, 7), (5, 9)]),
    Case("lag, lead, first", "SELECT id, lag(id) OVER (ORDER BY id), lead(id, 2, 0) OVER (ORDER BY id), first_value(id) OVER (PARTITION BY flag ORDER BY id) FROM facts",
         [(1, None, 3, 1), (2, 1, 4, 2), (3, 2, 5, 3), (4, 3, 0, 1), (5, 4, 0, 2)]),
    Case("max over a window leaves NaN out", "SELECT id, max(price) OVER (ORDER BY id) FROM facts WHERE id < 4", [(1, 1.5), (2, 1.5), (3, 1.5)]),
    Case("latest per group", "SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY flag ORDER BY at DESC) AS n FROM facts) AS t WHERE n = 1", [(1,), (2,), (3,)]),
    Case("limit and offset", "SELECT id FROM facts ORDER BY id OFFSET 1 LIMIT 2", [(2,), (3,)], ordered=True),
]  # fmt: skip
