"""What a command reads is held while it reads, and let go at its end, however it ends."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from lakehouse.catalog import load_table, open_catalog
from lakehouse.errors import ReqlakeError
from lakehouse.settings import Settings
from lakehouse.tags import create_tag, reading
from spark_jobs import expire
from tests.lakehouse.test_reader_lease import SPEC, kept_for
from tests.reqlake.cli.conftest import Run, run  # noqa: F401 - a fixture
from tests.support.datasets import raw_log, reference_requests, write_request_table


@pytest.fixture
def old(settings: Settings) -> int:
    """A snapshot that main has left behind."""
    table = write_request_table(settings, SPEC, reference_requests(raw_log(SPEC, users=12), SPEC))
    return table.metadata.snapshots[0].snapshot_id


def refs(settings: Settings) -> set[str]:
    return set(load_table(open_catalog(settings), SPEC.table(), settings).metadata.refs)


@pytest.mark.parametrize("fails", [False, True])
def test_expiry_leaves_what_a_training_reads(
    run: Run,  # noqa: F811
    settings: Settings,
    old: int,
    fails: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import training.loop

    said: list[tuple[str, ...]] = []
    validate = training.loop.validate

    def meanwhile(*args: Any) -> Any:
        said.append(expire.run(kept_for(settings, 0), SPEC).did)
        if fails:
            raise ReqlakeError("the disk is full")
        return validate(*args)

    monkeypatch.setattr(training.loop, "validate", meanwhile)
    small = ("--width", 16, "--layers", 1, "--heads", 2, "--epochs", 1)
    ran = run("train", "feed", "--snapshot-id", old, *small)
    assert (ran.code, "disk is full" in ran.err) == (int(fails), fails), ran.err
    assert len(said) == 1
    assert said[0][-1].startswith("kept for reader/train-")
    assert refs(settings) == {"main"}
    assert expire.run(kept_for(settings, 0), SPEC).did[0].startswith("1 snapshots expired")


def test_a_tag_that_holds_it_is_enough(settings: Settings, old: int) -> None:
    catalog = open_catalog(settings)
    create_tag(catalog, SPEC, settings, "v1", snapshot_id=old)
    table = catalog.load_table(SPEC.table())
    with reading(table, "bench", settings, snapshot_id=old) as held:
        assert (held, refs(settings)) == (old, {"main", "v1"})
    with reading(table, "bench", settings):
        assert len(refs(settings)) == 3


def test_a_catalog_that_cannot_be_written_is_read_without(settings: Settings, old: int, caplog: Any) -> None:
    file = settings.catalog.uri.removeprefix("sqlite:///")
    catalog = settings.catalog.model_copy(update={"uri": f"sqlite:///file:{file}?mode=ro&uri=true"})
    frozen = settings.model_copy(update={"catalog": catalog})
    table = open_catalog(frozen).load_table(SPEC.table())
    with caplog.at_level(logging.WARNING), reading(table, "score", frozen, snapshot_id=old) as held:
        assert held == old
    (warning,) = caplog.records
    assert "without a lease" in warning.getMessage()
    assert refs(settings) == {"main"}
