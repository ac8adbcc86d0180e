"""A sample holds whole users, the same ones every time, as a tag or as a table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.catalog import open_catalog
from lakehouse.chosen_users import chosen_users
from lakehouse.errors import TagError
from lakehouse.sample import sample_as_table, sample_as_tag
from lakehouse.settings import Settings
from lakehouse.tags import tag_of
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SPEC = SPECS["feed"]
NO_BRANCH = {"main"}


@pytest.fixture
def rows() -> pa.Table:
    return reference_requests(raw_log(SPEC), SPEC)


def wanted(rows: pa.Table, share: float) -> list[tuple[int, int]]:
    chosen = chosen_users(rows["user_id"].to_numpy(), share)
    return sorted((r["user_id"], r["request_id"]) for r in rows.filter(pa.array(chosen)).to_pylist())


def held(table: pa.Table) -> list[tuple[int, int]]:
    return sorted((r["user_id"], r["request_id"]) for r in table.to_pylist())


def test_the_choice_is_even_and_nested() -> None:
    users = np.arange(-50_000, 50_000)
    small, large = chosen_users(users, 0.1), chosen_users(users, 0.3)
    assert abs(small.mean() - 0.1) < 0.005
    assert not (small & ~large).any()
    assert (chosen_users(users[::-1].copy(), 0.1)[::-1] == small).all()


def test_a_sample_as_a_tag_leaves_main_alone(
    settings: Settings, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_request_table(settings, SPEC, rows)
    catalog, main = open_catalog(settings), table.current_snapshot()
    with monkeypatch.context() as patch:
        patch.setattr("lakehouse.sample.create_tag", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sample_as_tag(catalog, SPEC, settings, "small", 0.4)
    assert set(table.refresh().metadata.refs) == NO_BRANCH
    made = sample_as_tag(catalog, SPEC, settings, "small", 0.4)
    assert held(table.refresh().scan(snapshot_id=made.snapshot_id).to_arrow()) == wanted(rows, 0.4)
    assert table.current_snapshot() == main
    assert set(table.metadata.refs) == {"main", "small"}
    assert (made.requests, made.of_requests) == (len(wanted(rows, 0.4)), len(rows))
    again = sample_as_tag(catalog, SPEC, settings, "small", 0.4)
    assert again.skipped
    assert again.snapshot_id == made.snapshot_id == tag_of(catalog, SPEC, settings, "small").snapshot_of(SPEC.table())
    with pytest.raises(TagError, match="not this sample"):
        sample_as_tag(catalog, SPEC, settings, "small", 0.5)


def test_a_sample_as_a_table_is_a_dataset_of_its_own(settings: Settings, rows: pa.Table) -> None:
    write_request_table(settings, SPEC, rows)
    catalog = open_catalog(settings)
    made = sample_as_table(catalog, SPEC, settings, "tiny", 0.4)
    table = catalog.load_table("reqlake.tiny_requests")
    assert held(table.scan().to_arrow()) == wanted(rows, 0.4)
    assert made.table == "reqlake.tiny_requests"
    assert sample_as_table(catalog, SPEC, settings, "tiny", 0.4).skipped
    assert len(table.refresh().metadata.snapshots) == len({f.file.partition for f in table.scan().plan_files()})
    with pytest.raises(TagError, match="larger share"):
        sample_as_table(catalog, SPEC, settings, "none", 1e-9)
