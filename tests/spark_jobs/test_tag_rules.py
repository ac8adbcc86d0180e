"""Tags by rule, without Spark: one a period, the newest kept, sets made by hand left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse.catalog import open_catalog
from lakehouse.errors import SettingsError, TagError
from lakehouse.settings import Settings, TagRule, load_settings
from lakehouse.tags import create_tag, list_tags
from spark_jobs import maintain, tag_rules
from tests.spark_jobs.test_expire import Killed, die
from tests.spark_jobs.test_maintain import kept, no_spark
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SPEC = SPECS["feed"]
ROWS = reference_requests(raw_log(SPEC, users=2), SPEC)


def by_rule(settings: Settings, *rules: TagRule) -> Settings:
    return kept(settings, tags={"feed": rules})


def names(settings: Settings) -> list[str]:
    return [s.name for s in list_tags(open_catalog(settings), SPEC, settings)]


def test_a_set_a_week_and_a_month_and_the_oldest_go(settings: Settings) -> None:
    """Run every five days from a Sunday in December on; a set made by hand has a name of the rule's."""
    settings = by_rule(settings, TagRule(every="week", keep=2), TagRule(every="month", keep=3, name="m-%Y%m"))
    table = write_request_table(settings, SPEC, ROWS.slice(0, 0), files=1)
    assert tag_rules.run(settings, SPEC).did == ()  # an empty table has no state to pin
    table.append(ROWS.cast(table.schema().as_arrow()))
    create_tag(open_catalog(settings), SPEC, settings, "weekly-2027-W02")
    create_tag(open_catalog(settings), SPEC, settings, "mine")
    seen: dict[str, None] = {}
    for day in (datetime(2026, 12, 27, 9, tzinfo=UTC) + timedelta(days=n) for n in range(0, 45, 5)):
        planned = tag_rules.run(settings, SPEC, now=day, dry_run=True)
        assert tag_rules.run(settings, SPEC, now=day).did == planned.did
        assert tag_rules.run(settings, SPEC, now=day).did == ()
        seen |= {f"{day:weekly-%G-W%V}": None, f"{day:m-%Y%m}": None}
        own = [name for name in seen if name != "weekly-2027-W02"]
        weeks, months = ([name for name in own if name.startswith(start)] for start in ("w", "m"))
        assert set(names(settings)) == {"mine", "weekly-2027-W02", *weeks[-2:], *months[-3:]}
    assert (len(weeks), len(months)) == (6, 3)


def test_killed_between_making_and_dropping_and_run_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = by_rule(settings, TagRule(every="day", keep=1))
    write_request_table(settings, SPEC, ROWS, files=1)
    monday, tuesday = (datetime(2026, 11, n, tzinfo=UTC) for n in (23, 24))
    tag_rules.run(settings, SPEC, now=monday)
    for step in ("create_tag", "drop_tag"):
        with monkeypatch.context() as patch:
            patch.setattr(tag_rules, step, die)
            with pytest.raises(Killed):
                tag_rules.run(settings, SPEC, now=tuesday)
        assert "daily-2026-11-23" in names(settings)
    assert tag_rules.run(settings, SPEC, now=tuesday).did == ("daily-2026-11-23 dropped",)
    assert names(settings) == ["daily-2026-11-24"]


def test_maintain_applies_them_and_a_dry_run_says_it(settings: Settings) -> None:
    settings = by_rule(settings, TagRule(every="year", keep=1))
    write_request_table(settings, SPEC, ROWS, files=1)
    (planned,) = maintain.run(no_spark, settings, SPEC, dry_run=True)
    assert names(settings) == []
    (done,) = maintain.run(no_spark, settings, SPEC)
    assert planned.did == done.did == (f"{names(settings)[0]} pinned",)
    assert maintain.run(no_spark, settings, SPEC) == []


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"every": "day", "keep": 2, "name": "w-%G-%V"}, "names two days alike"),
        ({"every": "month", "keep": 2, "name": "m-%Y-%m-%d"}, "names one month in several ways"),
        ({"every": "month", "keep": 0}, "keep"),
    ],
)
def test_rules_that_cannot_work_are_refused(rule: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_settings(maintenance={"tags": {"feed": [rule]}})
    with pytest.raises(SettingsError, match="two rules make sets of one name"):
        load_settings(maintenance={"tags": {"feed": [{"every": "day", "keep": 1}] * 2}})


def test_a_pattern_that_is_no_tags_name(settings: Settings) -> None:
    write_request_table(settings, SPEC, ROWS, files=1)
    with pytest.raises(TagError, match="cannot name a training set"):
        tag_rules.run(by_rule(settings, TagRule(every="year", keep=1, name="the year %Y")), SPEC)
