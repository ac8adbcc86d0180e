"""The spec's views on a Trino server: made by the service user as SECURITY DEFINER, read by analysts through `ro`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from lakehouse.applied_views import Change, changes, ours, refuse_foreign, wanted_views
from lakehouse.errors import SqlError
from lakehouse.flat_log import flat_log_sql
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.sql.client import Client, connected

Say = Callable[[str], None]


def diff(settings: Settings, spec: DatasetSpec, *, flat_as: str | None = None, like: str | None = None) -> list[Change]:
    """What `apply` would do. `flat_as` is a name for the flat view in the raw log's shape, `like` a table with it."""
    with _service(settings) as client:
        return _changes(client, settings, spec, flat_as, like)


def apply(
    settings: Settings,
    spec: DatasetSpec,
    *,
    flat_as: str | None = None,
    like: str | None = None,
    progress: Say = lambda _: None,
) -> list[Change]:
    """Make the views as the spec says; what was done. Raises SqlError before any change where a name is not ours."""
    with _service(settings) as client:
        planned = _changes(client, settings, spec, flat_as, like)
        refuse_foreign(planned)
        for change in planned:
            if change.action != "keep":
                progress(f"{change.action} {change.name}")
                _do(client, settings, change)
        return planned


def drop(settings: Settings, spec: DatasetSpec, *, progress: Say = lambda _: None) -> list[Change]:
    """Drop every view that was made for this dataset, in whatever namespace."""
    with _service(settings) as client:
        planned = [Change(name, "drop", "asked for") for name in ours(spec, _there(client, settings))]
        for change in planned:
            progress(f"drop {change.name}")
            _do(client, settings, change)
        return planned


def _service(settings: Settings) -> AbstractContextManager[Client]:
    if not settings.trino.uri:
        raise SqlError(
            "no Trino is set, and embedded SQL needs no views made: it knows the spec's. Set REQLAKE_TRINO__URI, or "
            "`reqlake stack up` first"
        )
    return connected(settings, user=settings.trino.service_user, catalog=settings.trino.service_catalog)


def _changes(
    client: Client, settings: Settings, spec: DatasetSpec, flat_as: str | None, like: str | None
) -> list[Change]:
    catalog = settings.trino.service_catalog
    if like is not None and flat_as is None:
        raise SqlError(f"--like {like}: also name the view that is to be like it (--flat-as)")
    flat = None
    if flat_as is not None:
        types = None if like is None else _types(client, catalog, spec.namespace, like)
        flat = (flat_as, flat_log_sql(spec, types, catalog=catalog))
    wanted = wanted_views(spec, "trino", catalog, spec.namespace, flat)
    return changes(spec, wanted, _there(client, settings))


def _there(client: Client, settings: Settings) -> dict[str, str | None]:
    rows = client.rows(
        "SELECT schema_name, table_name, comment FROM system.metadata.table_comments "
        f"WHERE catalog_name = '{settings.trino.service_catalog}' AND schema_name <> 'information_schema'"
    )
    return {f"{space}.{name}": comment for space, name, comment in rows}


def _types(client: Client, catalog: str, namespace: str, table: str) -> dict[str, str]:
    space, _, name = table.rpartition(".")
    space = space or namespace
    rows = client.rows(
        f"SELECT column_name, data_type FROM {catalog}.information_schema.columns WHERE table_schema = {_text(space)} "
        f"AND table_name = {_text(name)} ORDER BY ordinal_position"
    )
    if not rows:
        raise SqlError(f"no table {space}.{name} in Trino's catalog {catalog} to be like")
    return dict(rows)


def _do(client: Client, settings: Settings, change: Change) -> None:
    catalog = settings.trino.service_catalog
    full = ".".join(f'"{part}"' for part in (catalog, *change.name.split(".", 1)))
    if change.action == "drop":
        client.rows(f"DROP VIEW IF EXISTS {full}")
        return
    assert change.view is not None
    how = "CREATE OR REPLACE VIEW" if change.action == "replace" else "CREATE VIEW"
    client.rows(f'CREATE SCHEMA IF NOT EXISTS "{catalog}"."{change.view.namespace}"')
    client.rows(f"{how} {full} COMMENT {_text(change.view.comment)} SECURITY DEFINER AS {change.view.sql}")


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
