"""The views: every impression and event comes back, column by column, from tables of all shapes."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse import sql
from lakehouse.errors import SqlError
from lakehouse.schema import arrow_schema
from lakehouse.settings import Settings, load_settings
from lakehouse.spec import Column, DatasetSpec
from lakehouse.views import view_sql, views
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32),
    "double": st.floats(),
    "string": st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=4),
    "timestamp": st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
}


def values_of(column: Column, count: int) -> st.SearchStrategy[Any]:
    """Values of one column of one request: nulls, empty lists, NaN, ragged lists; `count` candidates."""
    element = SCALARS[column.type.element]
    kind = column.type
    if kind.shape == "list":
        one: st.SearchStrategy[Any] = st.lists(st.none() | element, max_size=3)
    elif kind.shape == "vector":
        one = st.lists(element, min_size=kind.size or 0, max_size=kind.size)
    else:
        one = element
    if column.nullable:
        one = st.none() | one
    return st.lists(one, min_size=count, max_size=count) if column.per_candidate else one


@st.composite
def requests(draw: st.DrawFn, spec: DatasetSpec) -> list[dict[str, Any]]:
    """Rows of a small request table, with any values that its schema allows."""
    rows = []
    for i in range(draw(st.integers(0, 3))):
        count, events = draw(st.integers(0, 3)), {g: draw(st.integers(0, 3)) for g in spec.sequences}
        row = {}
        for column in spec.columns():
            if column.role == "sequence":
                entry = st.lists(
                    SCALARS[column.type.element], min_size=events[column.group], max_size=events[column.group]
                )
                row[column.name] = draw(entry)
            else:
                row[column.name] = draw(values_of(column, count))
        rows.append(row | {"request_id": i, "request_ts": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=i)})
    return rows


def same(value: Any) -> Any:
    """A value that compares by meaning (NaN equals NaN)."""
    if isinstance(value, list):
        return tuple(same(v) for v in value)
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def listed(table: pa.Table) -> list[str]:
    return sorted(repr([same(row[name]) for name in table.schema.names]) for row in table.to_pylist())


def expanded(rows: list[dict[str, Any]], spec: DatasetSpec) -> list[dict[str, Any]]:
    """The flat view in plain Python."""
    kept = [c for c in spec.columns() if c.role != "rank"]
    return [
        {c.name: row[c.name][i] if c.per_candidate else row[c.name] for c in kept}
        for row in rows
        for i in range(len(row["item_id"]))
    ]


@pytest.mark.parametrize("name", SPECS)
@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_flat_view_is_the_expansion_of_the_table(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec = SPECS[name]
    rows = data.draw(requests(spec))
    settings = load_settings(home=tmp_path_factory.mktemp("lake"))
    table = pa.Table.from_pylist(rows, schema=arrow_schema(spec))
    write_request_table(settings, spec, table, files=2)
    flat = sql.query(settings, f"SELECT * FROM {name}_impressions")
    assert flat.schema.names == views(spec)[f"{name}_impressions"].column_names
    plain = expanded(table.to_pylist(), spec)
    assert listed(flat) == sorted(repr([same(row[n]) for n in flat.schema.names]) for row in plain)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = load_settings(home=Path(tmp_path_factory.mktemp("views")) / "lake")
    for spec in SPECS.values():
        write_request_table(settings, spec, reference_requests(raw_log(spec), spec))
    return settings


EVERY_VIEW = [(name, view) for name, spec in SPECS.items() for view in views(spec)]


@pytest.mark.parametrize(("dataset", "view"), EVERY_VIEW)
def test_a_view_shows_its_columns_with_the_tables_types(lake: Settings, dataset: str, view: str) -> None:
    spec = SPECS[dataset]
    found = sql.query(lake, f"SELECT * FROM {view}")
    shape = views(spec)[view]
    assert found.schema.names == shape.column_names
    assert found.num_rows > 0
    if shape.kind == "impressions":
        for column in shape.columns:
            kind = column.arrow().value_type if column.per_candidate else column.arrow()
            assert found.schema.field(column.name).type == kind, column.name


@pytest.mark.parametrize("dataset", SPECS)
def test_narrow_views_have_the_flat_views_rows(lake: Settings, dataset: str) -> None:
    flat = sql.query(lake, f"SELECT * FROM {dataset}_impressions")
    for name, view in views(SPECS[dataset]).items():
        if view.kind == "impressions":
            narrow = sql.query(lake, f"SELECT * FROM {name}")
            assert listed(narrow) == listed(flat.select(view.column_names)), name


@pytest.mark.parametrize("dataset", SPECS)
def test_latest_requests_are_one_a_user(lake: Settings, dataset: str) -> None:
    everything = sql.query(lake, f"SELECT * FROM {dataset}_requests").to_pylist()
    wanted: dict[int, dict[str, Any]] = {}
    for row in sorted(everything, key=lambda r: (r["request_ts"], r["request_id"])):
        wanted[row["user_id"]] = row
    found = sql.query(lake, f"SELECT * FROM {dataset}_latest_requests").to_pylist()
    assert {r["user_id"]: r["request_id"] for r in found} == {u: r["request_id"] for u, r in wanted.items()}
    assert len(found) == len(wanted)


def test_events_are_one_row_each_with_their_request(lake: Settings) -> None:
    rows = sql.query(lake, "SELECT * FROM video_requests").to_pylist()
    wanted = [
        (row["user_id"], row["request_id"], clip, seconds, at, i)
        for row in rows
        for i, (clip, seconds, at) in enumerate(
            zip(row["watched_clip"], row["watched_seconds"], row["watched_at"], strict=True), start=1
        )
    ]
    found = sql.query(lake, "SELECT user_id, request_id, clip, seconds, at, event_index FROM video_watched_events")
    assert sorted(tuple(r.values()) for r in found.to_pylist()) == sorted(wanted)


def test_an_unknown_view_suggests_the_nearest() -> None:
    with pytest.raises(SqlError, match=r"no view 'feed_impresions' of feed\. Did you mean 'feed_impressions'\?"):
        view_sql(SPECS["feed"], "feed_impresions")


def test_texts_for_trino_and_spark_name_the_catalog_where_one_is_given() -> None:
    spec = SPECS["feed"]
    trino = view_sql(spec, "feed_impressions_labels", catalog="lake")
    assert 'FROM "lake"."reqlake"."feed_requests" AS r CROSS JOIN UNNEST(' in trino
    spark = view_sql(spec, "feed_impressions_labels", "spark", catalog="lake")
    assert "FROM `lake`.`reqlake`.`feed_requests` AS r LATERAL VIEW posexplode(arrays_zip(" in spark
