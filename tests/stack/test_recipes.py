"""The recipes of docs/sql.md, taken from the page, give the same rows on Trino and without it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lakehouse import sql
from lakehouse.settings import Settings, TrinoSettings
from lakehouse.spec import DatasetSpec, parse_spec
from lakehouse.views import view_sql, views
from tests.docs.page import ROOT
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.integration

PAGE = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^### (.*)\n(?:(?!#|```).*\n)*```sql\n((?:(?!```).*\n)*)", PAGE, re.MULTILINE))
TAGGED_USERS = 20


def home_spec() -> DatasetSpec:
    """The dataset that the page asks: the feed, under a name of its own, with a time on its label."""
    declared = SPECS["feed"].model_dump(mode="json", by_alias=True, exclude_none=True)
    declared["labels"]["click"]["time"] = {"column": "clicked_at", "unit": "ms"}
    return parse_spec(declared | {"name": "home"})


def home_log(seed: int, users: int) -> pa.Table:
    """Clicks come one to 150 minutes after the impression, some labels never. Each seed has its own users."""
    raw = raw_log(SPECS["feed"], users=users, seed=seed)
    for name in ("uid", "rid"):
        raw = raw.set_column(raw.column_names.index(name), name, pc.add(raw[name], seed * 1_000_000))
    known = pc.not_equal(pc.bit_wise_and(raw["iid"], 7), 0)
    late = pc.add(raw["shown_at"], pc.multiply(pc.add(pc.bit_wise_and(raw["iid"], 127), 1), 70_000))
    nothing = pa.scalar(None, pa.int64())
    raw = raw.append_column("clicked_at", pc.if_else(known, late, nothing))
    return raw.set_column(raw.column_names.index("click"), "click", pc.if_else(known, raw["click"], None))


@pytest.fixture(scope="module")
def home(lake: Settings, query: Callable[..., Any]) -> Settings:
    """The dataset on the stack: tagged `monday`, then written to once more; its views on Trino."""
    spec = home_spec()
    table = write_request_table(lake, spec, reference_requests(home_log(0, TAGGED_USERS), spec))
    table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "monday").commit()
    write_request_table(lake, spec, reference_requests(home_log(1, 4), spec))
    for name in views(spec):
        text = view_sql(spec, name, catalog="lake")
        query(f"CREATE VIEW lake.{spec.namespace}.{name} SECURITY DEFINER AS {text}", user="reqlake", catalog="lake")
    return lake


def test_the_page_has_its_recipes() -> None:
    assert list(RECIPES) == [
        "Click-through rate by hour",
        "Feature coverage",
        "Label delay",
        "Users with the longest history",
        "A training set by tag",
    ]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_gives_the_same_rows_on_both_engines(recipe: str, home: Settings) -> None:
    embedded = sql.query(home.model_copy(update={"trino": TrinoSettings()}), recipe)
    trino = sql.query(home, recipe)
    assert embedded.num_rows > 1
    assert embedded.column_names == trino.column_names
    assert rows(embedded) == rows(trino)


def test_the_training_set_is_the_tagged_one(home: Settings) -> None:
    tagged = sql.query(home, RECIPES["A training set by tag"])
    known = [r for r in home_log(0, TAGGED_USERS).to_pylist() if r["click"] is not None]
    found = sorted(zip(*(tagged[name].to_pylist() for name in ("request_id", "item_id", "click")), strict=True))
    assert found == sorted((r["rid"], r["iid"], r["click"]) for r in known)


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as they compare: floats to 12 digits, times without their zone's name."""
    return [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()]


def _plain(value: Any) -> Any:
    return float(f"{value:.12g}") if isinstance(value, float) else value
