"""Trino's plans of the views: of the request table they read what they show, and filters reach the scan.

Trino never prunes the inputs of an UNNEST: the flat view reads every list whatever is asked of it, and the narrow views
are what makes narrow queries cheap. These tests hold both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lakehouse.views import View, view_sql, views
from tests.support.datasets import SPECS

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("feed")]

SPEC = SPECS["feed"]
VIEWS = views(SPEC)
NARROW = [view for name, view in VIEWS.items() if name != "feed_impressions"]
KEYS = {"user_id", "request_id", "request_ts", "request_hash"}

COLUMN = re.compile(r":= \d+:(\w+):")
Explain = Callable[[str], Any]


@pytest.fixture
def explain(query: Callable[..., list[list[Any]]]) -> Explain:
    """`explain("(FORMAT JSON) SELECT …")`, parsed."""
    return lambda sql: json.loads(query(f"EXPLAIN {sql}")[0][0])


def columns_read(plan: dict[str, Any]) -> list[set[str]]:
    """The columns of each scan in a plan: their names in the table stand in its details, `name := 7:name:type`."""
    return [{detail.split(":")[2] for detail in node["details"]} for node in nodes(plan) if is_scan(node)]


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node["children"]:
        yield from nodes(child)


def is_scan(node: dict[str, Any]) -> bool:
    return "feed_requests" in node["descriptor"].get("table", "")


def shown_by(view: View) -> str:
    return f"({view_sql(SPEC, view.name, catalog='ro')}) AS v"


@pytest.mark.parametrize("view", NARROW, ids=lambda view: view.name)
def test_a_view_reads_the_columns_that_it_shows(view: View, explain: Explain) -> None:
    plan = explain(f"(TYPE LOGICAL, FORMAT JSON) SELECT * FROM {shown_by(view)}")
    assert columns_read(plan) == [{column.name for column in view.columns}]


@pytest.mark.parametrize("view", [view for view in NARROW if view.kind != "latest"], ids=lambda view: view.name)
def test_of_a_narrow_view_the_unused_plain_columns_are_not_read(view: View, explain: Explain) -> None:
    plan = explain(f"(TYPE LOGICAL, FORMAT JSON) SELECT count(*) FROM {shown_by(view)}")
    (read,) = columns_read(plan)
    lists = {c.name for c in view.columns if (c.role == "sequence" if view.kind == "events" else c.per_candidate)}
    assert read == lists


def test_of_the_latest_requests_only_the_asked_columns_are_read(explain: Explain) -> None:
    plan = explain(
        "(TYPE LOGICAL, FORMAT JSON) SELECT cardinality(history_item_id) FROM "
        + shown_by(VIEWS["feed_latest_requests"])
    )
    assert columns_read(plan) == [KEYS | {"history_item_id"}]


def test_the_flat_view_reads_every_candidate_list_which_is_why_there_are_narrow_ones(explain: Explain) -> None:
    plan = explain(f"(TYPE LOGICAL, FORMAT JSON) SELECT click FROM {shown_by(VIEWS['feed_impressions'])}")
    assert columns_read(plan) == [{column.name for column in VIEWS["feed_impressions"].columns if column.per_candidate}]


@pytest.mark.parametrize("view", VIEWS.values(), ids=lambda view: view.name)
def test_filters_on_user_and_time_reach_the_scan(view: View, explain: Explain) -> None:
    wanted = "user_id = 7 AND request_ts >= TIMESTAMP '2026-03-02 00:00:00 UTC'"
    plan = explain(f"(TYPE IO, FORMAT JSON) SELECT * FROM {shown_by(view)} WHERE {wanted}")
    (table,) = plan["inputTableColumnInfos"]
    bounds = {c["columnName"]: c["domain"]["ranges"] for c in table["constraint"]["columnConstraints"]}
    assert bounds["user_id"] == [{side: {"value": "7", "bound": "EXACTLY"} for side in ("low", "high")}]
    if view.kind == "latest":
        assert "request_ts" not in bounds  # it would choose another row for the latest
    else:
        (time,) = bounds["request_ts"]
        assert time["low"] == {"value": "2026-03-02 00:00:00.000000 UTC", "bound": "EXACTLY"}
