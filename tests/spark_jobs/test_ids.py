"""String ids beside their hashes: each once, whatever dies, and no two strings of one hash."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import LongType
from pyspark.sql import functions as F

from lakehouse.catalog import local_path, open_catalog
from lakehouse.errors import RawDataError
from lakehouse.ids import BUCKETS, hashed, strings_of
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.sql import query
from spark_jobs import ingest
from spark_jobs.errors import BatchRefusedError
from tests.spark_jobs.conftest import published
from tests.spark_jobs.test_exactly_once import Killed, die
from tests.support.datasets import SPECS, raw_log

pytestmark = pytest.mark.spark
SPEC = SPECS["shop"]
COLUMNS = {"user_id": "customer", "request_id": "visit", "item_id": "sku"}


def expected(raw: pa.Table, kinds: Any = COLUMNS) -> list[tuple[str, int, str]]:
    """What the ids table holds after a log, by a loop over it."""
    return sorted({(k, hashed(v), v) for k in kinds for v in raw[COLUMNS[k]].to_pylist() if v is not None})


def held(settings: Settings, spec: DatasetSpec = SPEC) -> list[tuple[str, int, str]]:
    return sorted((r["kind"], r["hash"], r["string"]) for r in published(settings, spec, "ids").to_pylist())


def test_ids_are_kept_once_and_translate_back(spark: Any, settings: Settings, write: Any) -> None:
    raw = raw_log(SPEC, users=4)
    ingest.run(spark, settings, SPEC, [write(raw.slice(0, len(raw) // 2), "first")])
    ingest.run(spark, settings, SPEC, [write(raw, "all")])
    assert held(settings) == expected(raw)
    users = {hashed(v): v for v in raw["customer"].to_pylist()}
    catalog = open_catalog(settings)
    assert strings_of(catalog, SPEC, settings, "user_id", [*users, 17]) == users
    with pytest.raises(RawDataError, match=r"keeps no strings of 'user'. Did you mean"):
        strings_of(catalog, SPEC, settings, "user", [1])
    told = query(
        settings,
        "SELECT i.string, count(*) AS n FROM shop_requests r "
        "JOIN shop_ids i ON i.kind = 'user_id' AND i.hash = r.user_id GROUP BY 1",
    )
    assert set(told["string"].to_pylist()) == set(users.values())


def test_a_batch_reads_the_buckets_of_its_own_ids_alone(spark: Any, settings: Settings, write: Any) -> None:
    raw = raw_log(SPEC, users=4)
    ingest.run(spark, settings, SPEC, [write(raw, "all")])
    row = raw.slice(0, 1).to_pylist()[0] | {"slot": 7_777}
    bucket = BucketTransform(BUCKETS).transform(LongType())
    mine = {bucket(hashed(row[column])) for column in COLUMNS.values()}
    for task in open_catalog(settings).load_table(SPEC.table("ids")).scan().plan_files():
        if task.file.partition[0] not in mine:
            local_path(task.file.file_path).write_bytes(b"not to be read")
    late = ingest.run(spark, settings, SPEC, [write(pa.Table.from_pylist([row], schema=raw.schema), "late", 1)])
    assert (late.merged_requests, late.accepted_rows) == (1, 1)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("publish", marks=pytest.mark.exhaustive),
        "spark_jobs.ids.publish",
        pytest.param("lakehouse.ledger.Ledger.write", marks=pytest.mark.exhaustive),
    ],
)
def test_killed_while_ids_are_kept(
    step: str, spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before they are visible, after that, and after the batch is."""
    raw = raw_log(SPEC, users=3)
    folder = write(raw)
    with monkeypatch.context() as patch:
        if "." in step:
            patch.setattr(step, die)
        else:
            patch.setattr(ingest, step, die)
        with pytest.raises(Killed):
            ingest.run(spark, settings, SPEC, [folder])
    ingest.run(spark, settings, SPEC, [folder])
    assert held(settings) == expected(raw)
    assert set(open_catalog(settings).load_table(SPEC.table("ids")).metadata.refs) == {"main"}


@pytest.mark.exhaustive
def test_two_strings_of_one_hash_in_a_batch_refuse_it(
    spark: Any, settings: Settings, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a hash of one letter, that many ids share."""
    monkeypatch.setattr("spark_jobs.mapping.hashed_id", lambda text: F.ascii(text).cast("bigint"))
    with pytest.raises(
        BatchRefusedError, match=r"request_id: '\S+' and '\S+' have one hash, \d+, and would become one"
    ):
        ingest.run(spark, settings, SPEC.model_copy(update={"ids": ("request_id",)}), [write(raw_log(SPEC, users=3))])
    assert len(published(settings, SPEC)) == 0


def test_a_collision_with_the_table_refuses_the_batch(spark: Any, settings: Settings, write: Any) -> None:
    """A planted row stands for a string of an earlier batch; a sensitive key's strings are not told."""
    raw = raw_log(SPEC, users=3)
    ingest.run(spark, settings, SPEC, [write(raw.slice(0, 1), "first")])
    sku = next(v for v in raw["sku"].to_pylist() if v != raw["sku"][0].as_py())
    customer = next(v for v in raw["customer"].to_pylist() if v != raw["customer"][0].as_py())
    for kind, text, shown in (("item_id", sku, f"'other' and '{sku}'"), ("user_id", customer, "two strings .masked.")):
        table = open_catalog(settings).load_table(SPEC.table("ids"))
        planted = pa.Table.from_pylist(
            [{"kind": kind, "hash": hashed(text), "string": "other"}], schema=table.schema().as_arrow()
        )
        table.append(planted)
        before = published(settings, SPEC)
        with pytest.raises(BatchRefusedError, match=f"{kind}: {shown} have one hash, {hashed(text)}"):
            ingest.run(spark, settings, SPEC, [write(raw, kind)])
        assert published(settings, SPEC) == before
        table.refresh().delete("string = 'other'")
    ingest.run(spark, settings, SPEC, [write(raw, "all")])
    assert held(settings) == expected(raw)


@pytest.mark.exhaustive
def test_ids_can_be_left_out(spark: Any, settings: Settings, write: Any) -> None:
    raw = raw_log(SPEC, users=2)
    some, none = (SPEC.model_copy(update={"name": f"shop_{len(ids)}", "ids": ids}) for ids in (("item_id",), ()))
    for spec in (some, none):
        ingest.run(spark, settings, spec, [write(raw, spec.name)])
    assert held(settings, some) == expected(raw, ("item_id",))
    assert not open_catalog(settings).table_exists(none.table("ids"))
