"""A running reader's snapshot outlives any expiry; a dead reader's lease does not hold for ever."""

from __future__ import annotations

import pytest

from lakehouse.catalog import open_catalog
from lakehouse.errors import ExpiryError, TagError
from lakehouse.settings import Settings
from lakehouse.tags import list_tags, reader_lease
from spark_jobs import expire
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SPEC = SPECS["feed"]


def kept_for(settings: Settings, days: float) -> Settings:
    limits = settings.maintenance.model_copy(update={"keep_days": days})
    return settings.model_copy(update={"maintenance": limits})


def test_expiry_passes_over_what_a_reader_holds(settings: Settings) -> None:
    table = write_request_table(settings, SPEC, reference_requests(raw_log(SPEC, users=4), SPEC))
    old = table.metadata.snapshots[0].snapshot_id
    rows = table.scan(snapshot_id=old).to_arrow()
    with reader_lease(table, "run-1", settings, snapshot_id=old) as lease:
        expire.run(kept_for(settings, 0), SPEC)
        assert table.refresh().scan(snapshot_id=old).to_arrow() == rows
        with pytest.raises(ExpiryError, match="tag 'reader/run-1'"):
            expire.run(settings, SPEC, snapshots=[old])
        with (
            pytest.raises(TagError, match=r"reads snapshot .* already"),
            reader_lease(open_catalog(settings).load_table(SPEC.table()), "run-1", settings),
        ):
            pass
        lease.renew()
        assert list_tags(open_catalog(settings), SPEC, settings) == []
    assert set(table.refresh().metadata.refs) == {"main"}
    assert not [name for name in table.properties if name.startswith("reqlake.reader-until")]
    expire.run(kept_for(settings, 0), SPEC)
    assert table.refresh().snapshot_by_id(old) is None


def test_a_dead_readers_lease_ends(settings: Settings) -> None:
    table = write_request_table(settings, SPEC, reference_requests(raw_log(SPEC, users=4), SPEC))
    dead = reader_lease(table, "dead", settings, hours=-1)  # it was not renewed in time
    dead.__enter__()
    assert "reader/dead" in table.refresh().metadata.refs
    assert expire.run(settings, SPEC, dry_run=True).did == ()
    assert expire.run(settings, SPEC).did == ("1 readers' leases ended",)
    assert set(table.refresh().metadata.refs) == {"main"}
    with pytest.raises(TagError, match="cannot name"), reader_lease(table, "a/b", settings):
        pass
