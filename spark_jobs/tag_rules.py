"""Tags by rule: a training set a day, week, month or year, and the oldest of each rule go. Needs no Spark.

A set says which rule made it; only such a one is ever dropped by it, and only when the period's own is there.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from lakehouse.catalog import open_catalog
from lakehouse.lease import maintenance_lease
from lakehouse.schema import open_request_table
from lakehouse.settings import Settings, TagRule
from lakehouse.spec import DatasetSpec
from lakehouse.tags import TrainingSet, create_tag, drop_tag, list_tags
from lakehouse.upkeep.state import TableState, UpkeepReport
from spark_jobs.report import Progress


def run(
    settings: Settings,
    spec: DatasetSpec,
    *,
    dry_run: bool = False,
    now: datetime | None = None,
    progress: Progress = lambda _: None,
) -> UpkeepReport:
    """Make the set of each rule's current period, where it is not there, and drop what a rule keeps no longer.

    A name that a set made by hand has is left to that one. Raises TagError for a pattern whose names cannot be tags'
    or that a branch has, TableMissingError, LeaseError.
    """
    started, at = time.perf_counter(), now or datetime.now(UTC)
    catalog, rules = open_catalog(settings), settings.maintenance.tags.get(spec.name, ())
    with maintenance_lease(catalog, spec, settings, "tags"):
        table = open_request_table(catalog, spec, settings)
        before = TableState.of(table)
        made: list[str] = []
        gone: list[str] = []
        sets = list_tags(catalog, spec, settings)
        for rule in rules if table.current_snapshot() is not None else ():
            name = at.strftime(rule.name)
            coming = name not in {s.name for s in sets}
            made += [name] if coming else []
            gone += outlived(sets, rule, coming=coming)
        if not dry_run:
            for rule in rules:
                if (name := at.strftime(rule.name)) in made:
                    progress(f"Pinning {name}")
                    create_tag(catalog, spec, settings, name, rule=rule.name, created=at)
            for name in gone:
                progress(f"Dropping {name}")
                drop_tag(catalog, spec, settings, name)
        after = before if dry_run else TableState.of(table.refresh())
    did = tuple(f"{name} pinned" for name in made) + tuple(f"{name} dropped" for name in gone)
    return UpkeepReport("tags", spec.table(), before, after, did, dry_run, seconds=time.perf_counter() - started)


def outlived(sets: list[TrainingSet], rule: TagRule, *, coming: bool) -> list[str]:
    """The sets of a rule that it keeps no longer, oldest first, where one more is `coming` or not."""
    mine = [s.name for s in sorted(sets, key=lambda s: s.created) if s.rule == rule.name]
    return mine[: max(0, len(mine) + coming - rule.keep)]
