"""One maintenance job at a time; a dead holder does not block the next."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from lakehouse import lease
from lakehouse.catalog import open_catalog
from lakehouse.errors import LeaseError
from lakehouse.lease import held_by, lease_name, maintenance_lease, refuse_beside
from lakehouse.settings import Settings
from tests.support.datasets import SPECS

SPEC = SPECS["feed"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return open_catalog(settings)


def test_a_second_job_is_refused_by_name(settings: Settings, catalog: Catalog) -> None:
    with maintenance_lease(catalog, SPEC, settings, "compact") as held:
        named = pytest.raises(LeaseError, match=f"compact runs on this dataset .process {os.getpid()}")
        with named, maintenance_lease(catalog, SPEC, settings, "erase"):
            pass
        held.renew()
        assert held_by(catalog, SPEC, settings) == held.holder
    assert held_by(catalog, SPEC, settings) is None
    assert not catalog.table_exists(lease_name(SPEC))
    with maintenance_lease(catalog, SPEC, settings, "erase"):
        pass


def test_a_killed_holder_is_passed_over(settings: Settings, catalog: Catalog) -> None:
    code = (
        "import os\nfrom lakehouse.catalog import open_catalog\nfrom lakehouse.lease import maintenance_lease\n"
        "from lakehouse.settings import load_settings\nfrom tests.support.datasets import SPECS\n"
        f"s = load_settings(home={str(settings.home)!r})\n"
        "held = maintenance_lease(open_catalog(s), SPECS['feed'], s, 'compact')\nheld.__enter__()\nos._exit(9)\n"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode
        == 9
    )
    assert catalog.table_exists(lease_name(SPEC))
    assert held_by(catalog, SPEC, settings) is None
    with maintenance_lease(catalog, SPEC, settings, "erase") as held:
        assert held.holder.job == "erase"


def test_of_two_who_take_a_dead_lease_one_gets_it(settings: Settings, catalog: Catalog) -> None:
    """The other looked before the first had renamed it, and renames the fresh lease: it is put back."""
    with maintenance_lease(catalog, SPEC, settings, "first") as first:
        dead = replace(first.holder, nonce="f" * 32)
        lease._take_away(catalog, lease_name(SPEC), dead, settings)
        assert held_by(catalog, SPEC, settings) == first.holder


def test_a_holder_elsewhere_counts_until_its_time(settings: Settings, catalog: Catalog) -> None:
    with maintenance_lease(catalog, SPEC, settings, "compact") as held:
        away = replace(held.holder, host="elsewhere", pid=1)
        assert not away.gone
        assert replace(away, until=0).gone


def test_writers_run_beside_compaction_and_not_beside_an_erasure(settings: Settings, catalog: Catalog) -> None:
    refuse_beside(catalog, SPEC, settings, "ingest")
    for job in ("compact", "expire"):
        with maintenance_lease(catalog, SPEC, settings, job):
            refuse_beside(catalog, SPEC, settings, "ingest")
    named = pytest.raises(LeaseError, match=r"erase runs on feed .process .*, and no ingest may run beside it")
    with maintenance_lease(catalog, SPEC, settings, "erase"), named:
        refuse_beside(catalog, SPEC, settings, "ingest")
