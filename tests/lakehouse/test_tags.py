"""Training sets: pinned whole or not at all, and compared as plain Python compares them."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import LongType, NestedField

from lakehouse.catalog import open_catalog
from lakehouse.errors import TableMissingError, TagError
from lakehouse.settings import Settings
from lakehouse.tags import create_tag, diff_tags, drop_tag, list_tags, successor, tag_of, write_diff_page
from lakehouse.tags.page import render
from lakehouse.tags.sets import NEW, retag_properties, set_tag
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SPEC = SPECS["feed"]


@pytest.fixture
def rows() -> pa.Table:
    return reference_requests(raw_log(SPEC), SPEC)


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return open_catalog(settings)


def ids_table(catalog: Catalog) -> Table:
    """A table that a reader of the request table needs as well."""
    table = catalog.create_table(f"{SPEC.namespace}.{SPEC.name}_ids", Schema(NestedField(1, "hash", LongType())))
    table.append(pa.table({"hash": pa.array([1, 2], pa.int64())}))
    return table


def test_a_set_pins_every_table_and_the_request_table_last(
    settings: Settings, catalog: Catalog, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_request_table(settings, SPEC, rows)
    ids = ids_table(catalog)
    with monkeypatch.context() as patch:  # dies before the commit
        patch.setattr("lakehouse.tags.sets._pinned", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            create_tag(catalog, SPEC, settings, "v1")
    assert list_tags(catalog, SPEC, settings) == []
    made = create_tag(catalog, SPEC, settings, "v1")
    assert set(made.tables) == {SPEC.table(), f"{SPEC.namespace}.{SPEC.name}_ids"}
    assert made.tables[SPEC.table()].snapshot_id == table.current_snapshot().snapshot_id
    assert made.tables[SPEC.table()].uuid == str(table.metadata.table_uuid)
    assert made.requests == len(rows)
    assert ids.refresh().metadata.refs["v1"].snapshot_id == ids.current_snapshot().snapshot_id
    assert create_tag(catalog, SPEC, settings, "v1") == made == tag_of(catalog, SPEC, settings, "v1")


def test_a_name_is_never_moved_and_a_bad_one_is_refused(settings: Settings, catalog: Catalog, rows: pa.Table) -> None:
    table = write_request_table(settings, SPEC, rows)
    first = table.metadata.snapshots[0].snapshot_id
    create_tag(catalog, SPEC, settings, "weekly-1", snapshot_id=first)
    with pytest.raises(TagError, match=f"on snapshot {first} already"):
        create_tag(catalog, SPEC, settings, "weekly-1")
    for name in ("reader/x", "", "a b"):
        with pytest.raises(TagError, match="cannot name"):
            create_tag(catalog, SPEC, settings, name)
    with pytest.raises(TableMissingError, match="Did you mean 'weekly-1'"):
        tag_of(catalog, SPEC, settings, "weekly-2")


def test_dropping_lets_go_of_the_request_table_first(
    settings: Settings, catalog: Catalog, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_request_table(settings, SPEC, rows)
    ids = ids_table(catalog)
    create_tag(catalog, SPEC, settings, "v1")
    with monkeypatch.context() as patch:  # dies after the commit
        patch.setattr("lakehouse.tags.sets._needed", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            drop_tag(catalog, SPEC, settings, "v1")
    assert list_tags(catalog, SPEC, settings) == []
    assert "v1" in ids.refresh().metadata.refs
    assert drop_tag(catalog, SPEC, settings, "v1") is None
    assert "v1" not in ids.refresh().metadata.refs
    with pytest.raises(TableMissingError):
        drop_tag(catalog, SPEC, settings, "v1")


def test_a_rebuilt_set_names_its_successor(settings: Settings, catalog: Catalog, rows: pa.Table) -> None:
    table = write_request_table(settings, SPEC, rows)
    first, last = (table.metadata.snapshots[i].snapshot_id for i in (0, -1))
    create_tag(catalog, SPEC, settings, "v1", snapshot_id=first)
    told = retag_properties(table.refresh(), "v1", replaced=first)
    set_tag(table, "v1", last, settings, {k: v.replace(NEW, str(last)) for k, v in told.items()})
    assert successor(table.refresh(), first) == last
    assert tag_of(catalog, SPEC, settings, "v1").snapshot_of(SPEC.table()) == last


def changed(rows: pa.Table) -> pa.Table:
    """Without the first five requests, with one changed, every hour shifted late."""
    rows = rows.slice(5)
    hours = pc.min_element_wise(pc.add(rows["hour"].cast(pa.int32()), 18), 23).cast(pa.int32())
    return rows.set_column(rows.schema.get_field_index("hour"), rows.schema.field("hour"), hours)


def test_the_difference_is_what_plain_python_finds(
    settings: Settings, catalog: Catalog, rows: pa.Table, tmp_path: object
) -> None:
    table = write_request_table(settings, SPEC, rows.slice(0, 40))
    create_tag(catalog, SPEC, settings, "old")
    table.refresh().overwrite(changed(rows).cast(table.schema().as_arrow()))
    create_tag(catalog, SPEC, settings, "new")
    found = diff_tags(catalog, SPEC, settings, "old", "new")
    old = {(r["user_id"], r["request_id"]): r for r in rows.slice(0, 40).to_pylist()}
    new = {(r["user_id"], r["request_id"]): r for r in changed(rows).to_pylist()}
    assert found.requests.added == len(new.keys() - old.keys())
    assert found.requests.removed == len(old.keys() - new.keys()) == 5
    assert found.requests.changed == sum(old[k] != new[k] for k in old.keys() & new.keys())
    clicks = [[c for r in side.values() for c in r["click"] if c is not None] for side in (old, new)]
    (label,) = found.labels
    assert (label.before, label.after) == pytest.approx([sum(c) / len(c) for c in clicks])
    assert found.drift[0].column == "hour"
    assert found.drift[0].verdict == "moved much"
    assert {d.verdict for d in found.drift if d.column == "history_action"} <= {"steady", "moved"}
    page = write_diff_page(found, tmp_path / "diff.html").read_text()  # type: ignore[operator]
    assert "<svg" in page
    assert "http" not in page


def test_the_index_is_its_formula_and_nothing_moved_is_zero(
    settings: Settings, catalog: Catalog, rows: pa.Table
) -> None:
    write_request_table(settings, SPEC, rows)
    create_tag(catalog, SPEC, settings, "a")
    create_tag(catalog, SPEC, settings, "b")
    same = diff_tags(catalog, SPEC, settings, "a", "b")
    assert (same.requests.added, same.requests.removed, same.requests.changed) == (0, 0, 0)
    assert all(d.psi == 0 for d in same.drift)
    table = open_catalog(settings).load_table(SPEC.table())
    table.append(rows.slice(0, 20).cast(table.schema().as_arrow()))
    create_tag(catalog, SPEC, settings, "c")
    for drift in diff_tags(catalog, SPEC, settings, "a", "c").drift:
        floor = [(max(p, 1e-4), max(q, 1e-4)) for _, p, q in drift.bins if p or q]
        assert drift.psi == pytest.approx(sum((q - p) * math.log(q / p) for p, q in floor))


def test_values_of_sensitive_features_are_not_shown(settings: Settings, catalog: Catalog, rows: pa.Table) -> None:
    data = SPEC.model_dump(mode="json", exclude_defaults=True)
    data["request_features"]["country"] = {"type": "string", "sensitive": True}
    spec = type(SPEC).model_validate(data)
    write_request_table(settings, spec, rows)
    create_tag(catalog, spec, settings, "a")
    found = diff_tags(catalog, spec, settings, "a", "a")
    page = render(found)
    assert page.count("values are not shown") == 1
    assert not any(f"<title>{c}:" in page for c in rows["country"].drop_null().to_pylist() if c)
    assert next(d for d in found.to_json()["drift"] if d["column"] == "country")["bins"] == []
