"""Any sequence of appends, jobs and erasures leaves what a plain Python model of the table holds.

The model is a dict of rows by key, and one of pinned states by tag. One sequence here, many under `exhaustive`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakehouse.catalog import open_catalog
from lakehouse.evolution import apply, plan
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.tags import create_tag, drop_tag, tag_of
from lakehouse.upkeep.files import bare, referenced
from spark_jobs import backfill, compact, erase, expire, orphans, rebucket
from spark_jobs.erase_users import users_of
from spark_jobs.session import build_session
from tests.lakehouse.test_evolution import changed
from tests.spark_jobs.conftest import embedded
from tests.spark_jobs.test_expire import lying
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = pytest.mark.spark
SPEC = SPECS["feed"].model_copy(update={"partition": SPECS["shop"].partition})
POOL = reference_requests(raw_log(SPEC, users=6, fanout=3, history=6), SPEC)
State = dict[tuple[int, int], dict[str, Any]]
STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["compact", "expire", "backfill"]), st.integers(0, 9)),
    st.tuples(st.just("erase"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["tag", "untag"]), st.integers(0, 1)),
    st.tuples(st.sampled_from(["rebucket", "evolve"]), st.integers(1, 4)),
)


def state_of(rows: pa.Table) -> State:
    return {(r["user_id"], r["request_id"]): r for r in rows.to_pylist()}


class Lake:
    """The table and its model, side by side."""

    def __init__(self, folder: Path) -> None:
        base = embedded(folder)
        limits = {"keep_days": 0, "orphan_hours": 0, "small_files": 2, "small_file_bytes": 1 << 30}
        self.settings: Settings = base.model_copy(update={"maintenance": base.maintenance.model_copy(update=limits)})
        self.spark, self.folder = build_session(self.settings), folder
        self.model: State = {}
        self.tags: dict[str, State] = {}
        self.used: set[int] = set()
        self.table = write_request_table(self.settings, SPEC, POOL.slice(0, 0))
        self.append(0)

    @property
    def spec(self) -> DatasetSpec:
        return table_spec(self.table.refresh())

    def append(self, user: int) -> None:
        """One user's requests, once."""
        ids = sorted(set(POOL["user_id"].to_pylist()))
        if user in self.used:
            return
        self.used.add(user)
        rows = POOL.filter(pa.array([u == ids[user] for u in POOL["user_id"].to_pylist()]))
        schema = self.table.refresh().schema().as_arrow()
        for field in schema:
            if field.name not in rows.column_names:
                rows = rows.append_column(field.name, pa.nulls(len(rows), field.type))
        self.table.append(rows.select(schema.names).cast(schema))
        self.model |= state_of(rows)

    def compact(self, _: int) -> None:
        compact.run(self.spark, self.settings, self.spec)

    def expire(self, _: int) -> None:
        expire.run(self.settings, self.spec)

    def backfill(self, salt: int) -> None:
        """Every other request gets a value."""
        chosen = sorted(self.model)[salt % 2 :: 2]
        if not chosen:
            return
        columns = {
            "user_id": [u for u, _ in chosen],
            "request_id": [r for _, r in chosen],
            "extra": [salt] * len(chosen),
        }
        pq.write_table(
            pa.table({n: pa.array(v, pa.int64()) for n, v in columns.items()}), self.folder / "extra.parquet"
        )
        backfill.run(self.spark, self.settings, self.spec, "extra", str(self.folder / "extra.parquet"))
        self.model = {k: {"extra": None} | r for k, r in self.model.items()}
        self.model |= {k: self.model[k] | {"extra": salt} for k in chosen}

    def erase(self, user: int) -> None:
        victim = sorted(set(POOL["user_id"].to_pylist()))[user]
        erase.run(self.spark, self.settings, self.spec, users_of([str(victim)], self.spec), yes=True)
        without: Callable[[State], State] = lambda s: {k: r for k, r in s.items() if k[0] != victim}  # noqa: E731
        self.model, self.tags = without(self.model), {t: without(s) for t, s in self.tags.items()}

    def rebucket(self, buckets: int) -> None:
        """Another layout, and the table of before is let go of."""
        wanted = self.spec.partition.model_copy(update={"buckets": buckets})
        if wanted != self.spec.partition and self.model:
            rebucket.run(self.spark, self.settings, self.spec, wanted)
            rebucket.drop_kept(self.settings, self.spec)
            self.table = open_request_table(open_catalog(self.settings), self.spec, self.settings)

    def evolve(self, number: int) -> None:
        """A feature comes by the spec, or goes where it is there."""
        name = f"new{number}"
        coming = name not in self.spec.request_features
        spec = changed(self.spec, {f"request_features.{name}": "float" if coming else None})
        apply(open_catalog(self.settings), plan(self.table.refresh(), spec), self.settings)
        rows = self.model.items()
        self.model = {k: r | {name: None} if coming else {n: v for n, v in r.items() if n != name} for k, r in rows}

    def tag(self, number: int) -> None:
        if f"t{number}" not in self.tags and self.table.refresh().current_snapshot() is not None:
            create_tag(open_catalog(self.settings), self.spec, self.settings, f"t{number}")
            self.tags[f"t{number}"] = dict(self.model)

    def untag(self, number: int) -> None:
        if self.tags.pop(f"t{number}", None) is not None:
            drop_tag(open_catalog(self.settings), self.spec, self.settings, f"t{number}")

    def check(self) -> None:
        catalog = open_catalog(self.settings)
        assert state_of(self.table.refresh().scan().to_arrow()) == self.model
        for tag, wanted in self.tags.items():
            snapshot = tag_of(catalog, self.spec, self.settings, tag).snapshot_of(SPEC.table())
            assert state_of(self.table.scan(snapshot_id=snapshot).to_arrow()) == wanted
        orphans.run(self.settings, self.spec)
        assert {bare(p) for p in lying(self.table.refresh())} == referenced(self.table)


def follow(folder: Path, steps: list[tuple[str, int]]) -> None:
    lake = Lake(folder)
    for name, argument in steps:
        getattr(lake, name)(argument)
    lake.check()


@pytest.mark.usefixtures("jvm")
def test_one_of_everything(tmp_path: Path) -> None:
    follow(
        tmp_path,
        [
            ("append", 1),
            ("tag", 0),
            ("backfill", 3),
            ("append", 2),
            ("compact", 0),
            ("tag", 1),
            ("erase", 1),
            ("untag", 0),
            ("evolve", 1),
            ("append", 3),
            ("rebucket", 3),
            ("expire", 0),
            ("backfill", 4),
        ],
    )


@pytest.mark.exhaustive
@pytest.mark.usefixtures("jvm")
def test_any_sequence(tmp_path_factory: pytest.TempPathFactory) -> None:
    @settings(
        max_examples=10, deadline=None, phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(STEPS, min_size=3, max_size=8))
    def sequences(steps: list[tuple[str, int]]) -> None:
        follow(tmp_path_factory.mktemp("sequence"), steps)

    sequences()
