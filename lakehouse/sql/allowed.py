"""What embedded SQL carries over, and the refusal by name of everything else.

The list is closed: sqlglot parses far more of Trino's SQL than has been tried on DuckDB, and a construct that is
carried over by luck may give other rows. A node is accepted when its class is here and when it has no filled argument
that is not.
"""

from __future__ import annotations

from sqlglot import exp

from lakehouse.errors import SqlError

# node -> the arguments that may be filled ("*": all of them)
STRUCTURE: dict[type[exp.Expr], str] = {
    exp.Select: "expressions from_ joins where group having order limit offset distinct with_ windows",
    exp.Union: "this expression distinct order limit offset with_",
    exp.Intersect: "this expression distinct order limit offset with_",
    exp.Except: "this expression distinct order limit offset with_",
    exp.Subquery: "this alias",
    exp.With: "expressions",
    exp.CTE: "this alias",
    exp.From: "this",
    exp.Join: "this kind side on using",
    exp.Table: "this db catalog alias version",
    exp.Version: "*",
    exp.TableAlias: "this columns",
    exp.Unnest: "expressions alias offset",
    exp.Values: "expressions alias",
    exp.Tuple: "*",
    exp.Where: "*",
    exp.Having: "*",
    exp.Group: "expressions",
    exp.Order: "this expressions",
    exp.Ordered: "*",
    exp.Limit: "expression",
    exp.Offset: "expression",
    exp.Distinct: "expressions",
    exp.Star: "",
    exp.Alias: "this alias",
    exp.Column: "this table db catalog",
    exp.Identifier: "*",
    exp.Literal: "*",
    exp.Boolean: "*",
    exp.Null: "*",
    exp.Paren: "*",
    exp.Var: "*",
    exp.DataType: "this expressions nested",
    exp.DataTypeParam: "*",
    exp.Interval: "this unit",
    exp.Cast: "this to",
    exp.TryCast: "this to safe requires_string",
    exp.Lambda: "this expressions",
    exp.Window: "this partition_by order spec over alias",
    exp.WindowSpec: "*",
    exp.Filter: "*",
    exp.Exists: "*",
    exp.In: "this expressions query",
    exp.Between: "this low high",
    exp.Case: "this ifs default",
    exp.If: "this true false",
    exp.Like: "this expression",
    exp.Escape: "*",
    exp.Is: "*",
    exp.Array: "expressions bracket_notation",
    exp.Bracket: "*",
    exp.Count: "this big_int",
    exp.Min: "this",
    exp.Max: "this",
    exp.ArgMin: "this expression",
    exp.ArgMax: "this expression",
    exp.ArrayAgg: "this",
    exp.ArraySort: "this nulls_first",
    exp.Lag: "this offset default",
    exp.Lead: "this offset default",
}
OPERATORS: tuple[type[exp.Expr], ...] = (
    exp.And, exp.Or, exp.Not, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.EQ, exp.NEQ, exp.GT, exp.GTE,
    exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.DPipe,
)  # fmt: skip
FUNCTIONS: tuple[type[exp.Expr], ...] = (
    # aggregates and windows
    exp.CountIf, exp.Sum, exp.Avg, exp.AnyValue, exp.LogicalAnd, exp.LogicalOr,
    exp.Stddev, exp.StddevPop, exp.StddevSamp, exp.Variance, exp.VariancePop, exp.Corr,
    exp.RowNumber, exp.Rank, exp.DenseRank, exp.PercentRank, exp.CumeDist, exp.Ntile, exp.FirstValue, exp.LastValue,
    # scalars
    exp.Coalesce, exp.Nullif, exp.Abs, exp.Ceil, exp.Floor, exp.Round, exp.Sqrt, exp.Cbrt, exp.Exp, exp.Ln, exp.Log,
    exp.Pow, exp.Sign, exp.Greatest, exp.Least, exp.IsNan, exp.Upper, exp.Lower, exp.Length, exp.Substring,
    exp.StrPosition, exp.StartsWith, exp.Concat, exp.Split, exp.Reverse,
    # times
    exp.CurrentTimestamp, exp.CurrentDate, exp.Date, exp.TimestampTrunc, exp.DateTrunc, exp.DateDiff, exp.DateAdd,
    exp.Extract, exp.Year, exp.Quarter, exp.Month, exp.Week, exp.WeekOfYear, exp.Day, exp.DayOfMonth, exp.DayOfWeek,
    exp.DayOfWeekIso, exp.DayOfYear, exp.Hour, exp.Minute, exp.Second, exp.TimeToUnix, exp.UnixToTime, exp.TimeToStr,
    # arrays
    exp.ArraySize, exp.ArrayContains, exp.ArrayPosition, exp.ArrayMin, exp.ArrayMax, exp.ArrayDistinct, exp.ArrayConcat,
    exp.Flatten, exp.Transform, exp.ArrayFilter, exp.Reduce, exp.ArraySlice,
)  # fmt: skip
# functions that sqlglot leaves as they are: name -> number of arguments
ANONYMOUS: dict[str, int] = {
    "any_match": 2,
    "all_match": 2,
    "none_match": 2,
    "zip_with": 3,
    "is_finite": 1,
    "is_infinite": 1,
    "every": 1,
    "nan": 0,
    "infinity": 0,
}
TYPES = frozenset(
    [
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INT",
        "BIGINT",
        "FLOAT",
        "DOUBLE",
        "DECIMAL",
        "VARCHAR",
        "DATE",
        "TIMESTAMP",
        "TIMESTAMPTZ",
        "ARRAY",
    ]
)
REMEDIES: dict[str, str] = {
    "APPROX_DISTINCT": "write count(DISTINCT …)",
    "APPROX_PERCENTILE": "sort and pick the row instead, or run it on Trino",
    "TABLESAMPLE": "filter on a key instead",
    "FETCH": "write LIMIT",
}
WRITES = (
    exp.Insert,
    exp.Update,
    exp.Delete,
    exp.Merge,
    exp.Create,
    exp.Drop,
    exp.Alter,
    exp.TruncateTable,
    exp.Command,
)
KNOWN = frozenset(STRUCTURE) | frozenset(OPERATORS) | frozenset(FUNCTIONS)


def refuse(construct: str, remedy: str = "") -> SqlError:
    """The refusal of one construct: names it, says what to do instead."""
    advice = remedy or "rewrite the query without it, or run it on Trino"
    return SqlError(f"embedded SQL does not carry over {construct}: {advice}")


def check_allowed(tree: exp.Expr) -> None:
    """Raise SqlError for the first node that is not on the list."""
    for node in tree.walk():
        kind = type(node)
        if isinstance(node, exp.Anonymous):
            _check_anonymous(node)
        elif kind not in KNOWN:
            raise refuse(_written(node), REMEDIES.get(_name(node), ""))
        elif kind in STRUCTURE and STRUCTURE[kind] != "*":
            known = STRUCTURE[kind].split()
            for name, value in node.args.items():
                if value and name not in known:
                    part = {"sample": "TABLESAMPLE"}.get(name, name.strip("_").upper())
                    raise refuse(f"{part} in {_written(node)}", REMEDIES.get(part, ""))
        _check_details(node)


def _check_anonymous(node: exp.Anonymous) -> None:
    name = node.name.lower()
    if name not in ANONYMOUS:
        raise refuse(f"the function {name}()")
    if len(node.expressions) != ANONYMOUS[name]:
        raise SqlError(f"{name}() takes {ANONYMOUS[name]} arguments, got {len(node.expressions)}")


def _name(node: exp.Expr) -> str:
    return node.sql_name().upper() if isinstance(node, exp.Func) else type(node).__name__.upper()


def _written(node: exp.Expr) -> str:
    text = node.sql("trino")
    kind = f"the function {_name(node).lower()}()" if isinstance(node, exp.Func) else _name(node)
    return f"{kind} in `{text[:60] + '…' * (len(text) > 60)}`"


def _check_details(node: exp.Expr) -> None:
    if isinstance(node, exp.DataType):
        name = node.this.value if hasattr(node.this, "value") else str(node.this)
        if name not in TYPES:
            raise refuse(f"the type {node.sql('trino')}")
        if name == "VARCHAR" and node.expressions:
            raise refuse("varchar(n)", "write varchar")
    elif isinstance(node, exp.Join):
        _check_join(node)
    elif isinstance(node, exp.WindowSpec):
        bounds = [node.args.get("start"), node.args.get("end")]
        kind = str(node.args.get("kind") or "").upper()
        if kind == "GROUPS" or (kind == "RANGE" and any(isinstance(b, exp.Expr) for b in bounds)):
            raise refuse(f"the window frame {node.sql('trino')}", "write ROWS, or RANGE with UNBOUNDED and CURRENT ROW")
        if node.args.get("exclude"):
            raise refuse("EXCLUDE in a window frame")
    elif isinstance(node, exp.With) and node.args.get("recursive"):
        raise refuse("WITH RECURSIVE")
    elif isinstance(node, exp.Bracket) and len(node.expressions) != 1:
        raise refuse("a subscript with several indices")
    elif isinstance(node, exp.Literal) and not node.is_string and not _plain_number(node.name):
        raise refuse(f"the number {node.name}")


def _plain_number(text: str) -> bool:
    return all(c.isdigit() or c in ".eE+-" for c in text)


def _check_join(node: exp.Join) -> None:
    if node.args.get("method"):
        raise refuse(f"{node.args['method']} JOIN", "name the columns with ON or USING")
    if (node.kind or "").upper() not in ("", "INNER", "OUTER", "CROSS"):
        raise refuse(f"{node.kind} JOIN")
    if isinstance(node.this, exp.Unnest):
        on = node.args.get("on")
        plain = on is None or (isinstance(on, exp.Boolean) and on.this)
        if node.args.get("using") or not plain or (node.side or "").upper() not in ("", "LEFT"):
            raise refuse("UNNEST in a join with a condition", "write CROSS JOIN UNNEST or LEFT JOIN UNNEST … ON TRUE")
