"""A batch is in the table once, or not at all: run twice, killed between any two steps, refused, failed."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
import pytest
from py4j.protocol import Py4JError

from lakehouse.catalog import open_catalog
from lakehouse.errors import AuditError
from lakehouse.processes import this_host
from lakehouse.settings import Settings
from spark_jobs import ingest
from spark_jobs.alter import alter
from spark_jobs.checks import request_checks
from spark_jobs.errors import MainMovedError
from tests.spark_jobs.conftest import published, rows_of
from tests.support.datasets import SPECS, raw_log, reference_requests

pytestmark = pytest.mark.spark
SPEC = SPECS["feed"]


class Killed(BaseException):
    """What a process that dies does not catch."""


def die(*_: Any, **__: Any) -> None:
    raise Killed


def branches(settings: Settings) -> set[str]:
    return set(open_catalog(settings).load_table(SPEC.table()).metadata.refs)


def test_the_same_batch_again_changes_nothing_and_says_so(spark: Any, settings: Settings, write: Any) -> None:
    folder = write(raw_log(SPEC, users=4))
    first = ingest.run(spark, settings, SPEC, [folder], batch_id="monday")
    before = open_catalog(settings).load_table(SPEC.table()).current_snapshot()
    for given in ("monday", None):
        again = ingest.run(spark, settings, SPEC, [folder], batch_id=given)
        assert (again.skipped, again.accepted_rows, len(again.known_files)) == (True, 0, 2)
    assert open_catalog(settings).load_table(SPEC.table()).current_snapshot() == before
    assert before.snapshot_id == first.snapshot_id
    assert before.summary.additional_properties["reqlake.batch-id"] == "monday"
    assert branches(settings) == {"main"}


def test_new_requests_append_and_late_impressions_merge(spark: Any, settings: Settings, write: Any) -> None:
    raw = raw_log(SPEC, users=6)
    users = [r["uid"] for r in raw.to_pylist()]
    first, second = (raw.slice(1).filter([(u <= 3) == low for u in users[1:]]) for low in (True, False))
    ingest.run(spark, settings, SPEC, [write(first, "first")])
    ingest.run(spark, settings, SPEC, [write(second, "second")])
    late = write(raw.slice(0, 1), "late")
    report = ingest.run(spark, settings, SPEC, [late])
    assert (report.merged_requests, report.requests, report.accepted_rows) == (1, 0, 1)
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(raw, SPEC))
    assert ingest.run(spark, settings, SPEC, [late]).skipped
    assert branches(settings) == {"main"}


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("_take_out", marks=pytest.mark.exhaustive),
        pytest.param("append_batch", marks=pytest.mark.exhaustive),
        pytest.param("audit", marks=pytest.mark.exhaustive),
        "publish",
    ],
)
def test_a_merge_killed_before_publishing_leaves_the_table_as_it_was(
    step: str, spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_log(SPEC, users=3)
    ingest.run(spark, settings, SPEC, [write(raw.slice(1), "first")])
    before, late = published(settings, SPEC), write(raw.slice(0, 1), "late")
    with monkeypatch.context() as patch:
        patch.setattr(ingest, step, die)
        with pytest.raises(Killed):
            ingest.run(spark, settings, SPEC, [late])
    assert published(settings, SPEC) == before
    assert ingest.run(spark, settings, SPEC, [late]).merged_requests == 1
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(raw, SPEC))


def test_a_job_that_publishes_meanwhile_is_built_upon(
    spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one batch is being written, another with rows of the same request is published."""
    raw = raw_log(SPEC, users=3)
    ingest.run(spark, settings, SPEC, [write(raw.slice(2), "most")])
    other, said = write(raw.slice(1, 1), "other"), []
    real = ingest.publish

    def overtaken(*given: Any) -> None:
        monkeypatch.setattr(ingest, "publish", real)
        ingest.run(spark, settings, SPEC, [other])
        real(*given)

    monkeypatch.setattr(ingest, "publish", overtaken)
    report = ingest.run(spark, settings, SPEC, [write(raw.slice(0, 1), "mine")], progress=said.append)
    assert "Another job published meanwhile: once more on what it left" in said
    assert report.accepted_rows == 1
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(raw, SPEC))
    assert branches(settings) == {"main"}


def test_the_same_batch_twice_at_once(
    spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_log(SPEC, users=3)
    folder, real = write(raw), ingest.publish

    def overtaken(*given: Any) -> None:
        monkeypatch.setattr(ingest, "publish", real)
        assert not ingest.run(spark, settings, SPEC, [folder], batch_id="monday").skipped
        real(*given)

    monkeypatch.setattr(ingest, "publish", overtaken)
    assert ingest.run(spark, settings, SPEC, [folder], batch_id="monday").skipped
    assert rows_of(published(settings, SPEC)) == rows_of(reference_requests(raw, SPEC))
    assert len(published(settings, SPEC, "ledger")) == 2  # one row a file


@pytest.mark.parametrize(
    "step",
    [
        "append_batch",
        pytest.param("audit", marks=pytest.mark.exhaustive),
        pytest.param("write_quarantine", marks=pytest.mark.exhaustive),
        "publish",
    ],
)
def test_killed_before_publishing_leaves_the_table_as_it_was(
    step: str, spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = raw_log(SPEC, users=4).to_pylist()
    rows[0]["click"] = 5.0  # one for the quarantine
    raw = raw_log(SPEC, users=4).from_pylist(rows, schema=raw_log(SPEC, users=1).schema)
    folder = write(raw)
    with monkeypatch.context() as patch:
        patch.setattr(ingest, step, die)
        with pytest.raises(Killed):
            ingest.run(spark, settings, SPEC, [folder])
    assert len(published(settings, SPEC)) == 0
    assert branches(settings) <= {"main"}
    report = ingest.run(spark, settings, SPEC, [folder])
    assert (report.skipped, report.quarantined) == (False, {"label_out_of_range": 1})
    assert len(published(settings, SPEC, "quarantine")) == 1
    assert sum(len(r["item_id"]) for r in published(settings, SPEC).to_pylist()) == len(raw) - 1


def test_killed_between_publishing_and_the_ledger(
    spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(raw_log(SPEC, users=4))
    with monkeypatch.context() as patch:
        patch.setattr("lakehouse.ledger.Ledger.write", die)
        with pytest.raises(Killed):
            ingest.run(spark, settings, SPEC, [folder])
    table = published(settings, SPEC)
    again = ingest.run(spark, settings, SPEC, [folder])
    assert again.skipped
    assert published(settings, SPEC) == table
    assert {r["batch_id"] for r in published(settings, SPEC, "ledger").to_pylist()} == {again.batch_id}


def test_a_leftover_branch_of_a_dead_writer_is_dropped(spark: Any, settings: Settings, write: Any) -> None:
    raw = raw_log(SPEC, users=4)
    users = [r["uid"] for r in raw.to_pylist()]
    ingest.run(spark, settings, SPEC, [write(raw.filter([u <= 2 for u in users]), "a")])
    host = this_host()
    spark.sql(f"ALTER TABLE lake.{SPEC.table()} CREATE BRANCH audit_{host}_99999999_dead")
    spark.sql(f"ALTER TABLE lake.{SPEC.table()} CREATE BRANCH audit_elsewhere_1_running")
    ingest.run(spark, settings, SPEC, [write(raw.filter([u > 2 for u in users]), "b")])
    assert branches(settings) == {"main", "audit_elsewhere_1_running"}


def test_a_failed_validation_publishes_nothing_and_names_the_expectation(
    spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's own checks are put out of action, so that the suite has to find the fault."""
    raw = raw_log(SPEC, users=4)
    hours = [25, *raw["hour"].to_pylist()[1:]]
    raw = raw.set_column(raw.schema.get_field_index("hour"), raw.schema.field("hour"), pa.array(hours, pa.int32()))
    user, request = raw["uid"][0].as_py(), raw["rid"][0].as_py()
    monkeypatch.setattr("spark_jobs.wide.request_checks", lambda spec: request_checks(spec)[:1])
    with pytest.raises(AuditError, match="hour_in_range") as error:
        ingest.run(spark, settings, SPEC, [write(raw)])
    assert f"(user {user}, request {request})" in str(error.value)
    assert len(published(settings, SPEC)) == 0
    assert branches(settings) <= {"main"}


def test_a_branch_whose_commit_another_overtakes_is_made_again(
    spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Iceberg repeats commits of rows, not this one; the soak met it. As many times as is reasonable, then by name."""
    ingest.run(spark, settings, SPEC, [write(raw_log(SPEC, users=1))])
    overtaken, real = Py4JError("org.apache.iceberg.exceptions.CommitFailedException: refresh is required"), spark.sql
    answers = iter([overtaken, overtaken])

    def sql(text: str) -> Any:
        if error := next(answers, None):
            raise error
        return real(text)

    monkeypatch.setattr(spark, "sql", sql)
    alter(spark, f"lake.{SPEC.table()}", "CREATE OR REPLACE BRANCH `b`")
    assert branches(settings) == {"main", "b"}
    answers = itertools.repeat(overtaken)
    with pytest.raises(MainMovedError, match="changed by another job 10 times in a row: run this again"):
        alter(spark, f"lake.{SPEC.table()}", "DROP BRANCH `b`")
