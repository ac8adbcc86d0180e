"""The ledger's table leaves nothing behind where it is opened again."""

from __future__ import annotations

from lakehouse.catalog import local_path, open_catalog
from lakehouse.ledger import Ledger, Member
from lakehouse.settings import Settings
from tests.support.datasets import SPECS


def test_opening_a_ledger_again_writes_no_metadata(settings: Settings) -> None:
    catalog, spec = open_catalog(settings), SPECS["feed"]
    ledger = Ledger(catalog, spec, settings)
    folder = local_path(ledger.table.location())
    before = sorted(folder.rglob("*"))
    assert [path.name.split("-")[0] for path in before if path.is_file()] == ["00000"]
    assert Ledger(catalog, spec, settings).table.metadata_location == ledger.table.metadata_location
    assert sorted(folder.rglob("*")) == before


def test_a_batch_is_entered_once(settings: Settings) -> None:
    catalog, spec = open_catalog(settings), SPECS["feed"]
    for _ in range(2):
        Ledger(catalog, spec, settings).write("monday", [Member("3:abc", "a.parquet", 2)], 1, 0)
    assert Ledger(catalog, spec, settings).batches() == {"monday": {"3:abc"}}
    assert len(catalog.load_table(spec.table("ledger")).scan().to_arrow()) == 1
