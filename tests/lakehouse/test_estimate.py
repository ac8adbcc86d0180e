"""An estimate from a sample covers what the whole log gives, against the log as it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.catalog import open_catalog
from lakehouse.errors import RawDataError
from lakehouse.estimate import Estimate, estimate, sources_of
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests

SPEC = SPECS["feed"]


@pytest.fixture(scope="module")
def raw() -> pa.Table:
    return raw_log(SPEC, users=60, requests_per_user=4, fanout=8, history=60)


def of(raw: pa.Table, folder: Path, **options: object) -> Estimate:
    pq.write_table(raw, folder / "log.parquet", compression="snappy", row_group_size=500)
    return estimate(SPEC, sources_of(str(folder)), "log", **options)  # type: ignore[arg-type]


def test_the_whole_log_is_exact(raw: pa.Table, tmp_path: Path) -> None:
    found = of(raw, tmp_path)
    requests = reference_requests(raw, SPEC)
    assert (found.rows, found.sampled_rows) == (len(raw), len(raw))
    assert found.requests == len(requests)
    assert found.fan_out.value == pytest.approx(len(raw) / len(requests))
    assert found.file_bytes == (tmp_path / "log.parquet").stat().st_size
    assert found.decoded_bytes == pytest.approx(raw.nbytes, rel=0.1)
    levels = {c.name: c.level for c in found.columns}
    assert levels == dict.fromkeys(("iid", "shown_at", "price", "category", "click"), "candidate") | {
        n: "request" for n in raw.column_names if n not in ("iid", "shown_at", "price", "category", "click")
    }
    by_name = {c.name: c for c in found.columns}
    assert by_name["history_item_id"].decoded_factor.value == pytest.approx(found.fan_out.value, rel=0.1)
    assert by_name["iid"].decoded_factor.value < 1.01


def test_a_sample_of_users_holds_the_truth_in_its_interval(raw: pa.Table, tmp_path: Path) -> None:
    whole, part = of(raw, tmp_path), of(raw, tmp_path, sample_rows=len(raw) // 2)
    assert part.sampled_users < whole.sampled_users == 60
    assert part.decoded.low <= whole.decoded.value <= part.decoded.high
    assert part.fan_out.low <= whole.fan_out.value <= part.fan_out.high


def test_order_changes_what_is_gained_on_disk_and_the_advice_says_so(tmp_path: Path) -> None:
    raw = raw_log(SPEC, users=40, requests_per_user=3, fanout=40, history=64)
    pq.write_table(
        raw.sort_by([("uid", "ascending"), ("rid", "ascending")]), tmp_path / "a.parquet", compression="zstd"
    )
    shuffled = raw.take(pa.array(np.random.default_rng(0).permutation(len(raw))))
    pq.write_table(shuffled, tmp_path / "b.parquet", compression="zstd", data_page_size=1 << 12, use_dictionary=False)
    ordered, random = (estimate(SPEC, sources_of(str(tmp_path / f"{n}.parquet")), n) for n in "ab")
    assert ordered.file.value < random.file.value
    assert ordered.decoded.value == pytest.approx(random.decoded.value, rel=0.05)
    assert "gains on disk" in random.advice


def test_an_iceberg_table_of_impressions(settings: Settings, raw: pa.Table) -> None:
    catalog = open_catalog(settings)
    catalog.create_namespace("logs")
    table = catalog.create_table("logs.impressions", raw.schema)
    table.append(raw)
    found = estimate(SPEC, sources_of(table.refresh()), "logs.impressions", price_gb_month=10.0)
    assert found.rows == len(raw)
    assert found.yearly_cost[0] == pytest.approx(found.file_bytes / 1e9 * 120)
    assert found.yearly_cost[1] < found.yearly_cost[0]


def test_a_log_without_the_key_or_without_rows_is_refused(raw: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match="no column uid"):
        of(raw.drop_columns(["uid"]), tmp_path)
    with pytest.raises(RawDataError, match="no rows"):
        of(raw.slice(0, 0), tmp_path)
