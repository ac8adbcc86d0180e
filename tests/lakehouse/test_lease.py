"""One maintenance job at a time; a dead holder does not block the next."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from lakehouse import lease
from lakehouse.audit_branches import living_writers, name_branch
from lakehouse.catalog import ensure_namespace, local_path, open_catalog, table_names
from lakehouse.errors import LeaseError
from lakehouse.lease import Holder, held_by, lease_name, maintenance_lease, refuse_beside
from lakehouse.processes import born, this_host
from lakehouse.settings import Settings
from spark_jobs import orphans
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

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


def test_a_later_process_of_the_same_pid_is_another(settings: Settings, catalog: Catalog) -> None:
    """As after a restart of a container, where the job that was killed and the one of now have the same pid."""
    with maintenance_lease(catalog, SPEC, settings, "compact") as held:
        assert not held.holder.gone
        assert replace(held.holder, born="00000000").gone
        assert not replace(held.holder, born=None).gone  # of before reqlake told them apart


def test_a_writer_is_told_by_its_branch_while_it_lives(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this host by its process; elsewhere it has a day, from when it began, on however old a snapshot."""
    month_ago = time.time() - 30 * 86400
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: month_ago)
        table = write_request_table(settings, SPEC, reference_requests(raw_log(SPEC, users=1), SPEC))
    mine, host = name_branch("b"), f"_{this_host()}_"
    elsewhere = mine.replace(host, "_elsewhere_")
    dead = {mine.replace(f"x{born(os.getpid())}_", "x00000000_"), re.sub("_[0-9a-f]{12}$", "_0000000a0000", elsewhere)}
    for branch in (mine, elsewhere, *dead):
        table.manage_snapshots().create_branch(table.metadata.current_snapshot_id, branch).commit()
    assert set(living_writers(table.refresh())) == {mine, elsewhere}


@pytest.mark.parametrize(("off", "said"), [(3600 * 30, "1 day, 6:00:00 ahead of"), (-3600, "1:00:00 behind")])
def test_a_clock_that_is_wrong_gets_no_lease(
    off: float, said: str, settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it take away one that is past its time by that clock alone."""
    now = time.time
    away = Holder("erase", "elsewhere", 1, now() + 1800, "f" * 32)
    ensure_namespace(catalog, SPEC.namespace, settings)
    lease._acquire(catalog, lease_name(SPEC), away, settings)
    with monkeypatch.context() as patch:
        patch.setattr(lease.time, "time", lambda: now() + off)
        named = pytest.raises(LeaseError, match=said if off > 0 else "erase runs on this dataset")
        with named, maintenance_lease(catalog, SPEC, settings, "expire"):
            pass
    assert held_by(catalog, SPEC, settings) == away
    lease._remove(catalog, lease_name(SPEC), settings)
    with monkeypatch.context() as patch:
        patch.setattr(lease.time, "time", lambda: now() + off)
        with pytest.raises(LeaseError, match=said), maintenance_lease(catalog, SPEC, settings, "expire"):
            pass
    assert held_by(catalog, SPEC, settings) is None


def test_what_killed_holders_have_left_is_cleared(settings: Settings, catalog: Catalog) -> None:
    """One died between renaming a dead lease and removing it, another between dropping one and removing its files."""
    write_request_table(settings, SPEC, reference_requests(raw_log(SPEC, users=1), SPEC))
    dead = Holder("compact", this_host(), 1, 0.0, "f" * 32, born="00000000")
    for left in (lambda: catalog.rename_table(lease_name(SPEC), f"{lease_name(SPEC)}_ff"), lambda: None):
        lease._acquire(catalog, lease_name(SPEC), dead, settings)
        left()
    folder = local_path(catalog.load_table(lease_name(SPEC)).location())
    catalog.drop_table(lease_name(SPEC))
    none_young = settings.maintenance.model_copy(update={"orphan_hours": 0})
    orphans.run(settings.model_copy(update={"maintenance": none_young}), SPEC)
    assert not [name for name in table_names(catalog, SPEC.namespace) if "lease" in name]
    assert not [path for path in folder.rglob("*") if path.is_file()]


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
