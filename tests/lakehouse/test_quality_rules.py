"""The rules that follow from a spec, without an engine."""

from __future__ import annotations

import re

import pytest

from lakehouse.quality import suite_rules
from tests.support.datasets import SPECS


@pytest.mark.parametrize("name", SPECS)
def test_rules_have_names_of_their_own_and_speak_of_columns_that_exist(name: str) -> None:
    spec = SPECS[name]
    rules = suite_rules(spec)
    names = [rule.name for rule in rules]
    assert len(set(names)) == len(names)
    columns = {column.name for column in spec.columns()}
    assert not columns & set(names), "a rule's column may not hide a column of the table"
    for rule in rules:
        words = set(re.findall(r"\b[a-z_]+\b", rule.broken))
        assert words & columns, f"{rule.name} speaks of no column: {rule.broken}"


def test_every_declared_bound_is_a_rule() -> None:
    names = {rule.name for rule in suite_rules(SPECS["feed"])}
    assert {"hour_in_range", "click_in_range", "price_in_range", "history_action_in_range"} <= names
    assert {"history_ts_before_request", "history_ts_in_order", "history_max_length"} <= names
    assert {"item_id_not_null", "click_parallel", "position_ascending"} <= names
    untimed = {rule.name for rule in suite_rules(SPECS["shop"])}
    assert not any(name.endswith(("_before_request", "_in_order")) for name in untimed)


def test_vectors_and_ragged_lists_are_looked_into() -> None:
    rules = {rule.name: rule.broken for rule in suite_rules(SPECS["video"])}
    assert "size(taste) <> 4" in rules["taste_length"]
    assert "flatten" in rules["look_finite"]
    assert "length_not_null" in rules
