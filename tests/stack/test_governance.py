"""Analysts read through `ro`; whatever would change the lake is refused, and `lake` is not theirs.

Without passwords a user name is only a word: who reaches the port can call himself `reqlake` (docs/stack.md, TLS).
"""

from __future__ import annotations

import pytest
import trino
from pyiceberg.table import Table

pytestmark = pytest.mark.integration

TABLE = "reqlake.feed_requests"
REFUSED = {
    "insert": f"INSERT INTO ro.{TABLE} SELECT * FROM ro.{TABLE}",
    "update": f"UPDATE ro.{TABLE} SET hour = 1",
    "delete": f"DELETE FROM ro.{TABLE}",
    "truncate": f"TRUNCATE TABLE ro.{TABLE}",
    "drop": f"DROP TABLE ro.{TABLE}",
    "create table": "CREATE TABLE ro.reqlake.mine (n bigint)",
    "create schema": "CREATE SCHEMA ro.mine",
    "create view": "CREATE VIEW ro.reqlake.mine AS SELECT 1 AS n",
    "materialized view": "CREATE MATERIALIZED VIEW ro.reqlake.mine AS SELECT 1 AS n",
    "set properties": f"ALTER TABLE ro.{TABLE} SET PROPERTIES format_version = 2",
    "add column": f"ALTER TABLE ro.{TABLE} ADD COLUMN n bigint",
    "grant": f"GRANT SELECT ON ro.{TABLE} TO USER somebody",
    "optimize": f"ALTER TABLE ro.{TABLE} EXECUTE optimize",
    "optimize_manifests": f"ALTER TABLE ro.{TABLE} EXECUTE optimize_manifests",
    "expire_snapshots": f"ALTER TABLE ro.{TABLE} EXECUTE expire_snapshots(retention_threshold => '100d')",
    "remove_orphan_files": f"ALTER TABLE ro.{TABLE} EXECUTE remove_orphan_files(retention_threshold => '100d')",
    "rollback": "CALL ro.system.rollback_to_snapshot('reqlake', 'feed_requests', 1)",
    "register_table": "CALL ro.system.register_table('reqlake', 'mine', 's3://lake/warehouse/mine')",
    "kill a query": "CALL system.runtime.kill_query('20260101_000000_00000_aaaaa', 'why not')",
    "become the service user": "SET SESSION AUTHORIZATION reqlake",
    "read lake": f"SELECT * FROM lake.{TABLE}",
    "optimize lake": f"ALTER TABLE lake.{TABLE} EXECUTE optimize",
    "drop from lake": f"DROP TABLE lake.{TABLE}",
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
def test_refused_for_an_analyst(statement: str, query, feed: Table) -> None:
    before = feed.refresh().metadata
    with pytest.raises(trino.exceptions.TrinoUserError, match="Access Denied"):
        query(statement)
    assert feed.refresh().metadata == before


@pytest.mark.parametrize("statement", [REFUSED[name] for name in ("insert", "optimize", "drop")])
@pytest.mark.usefixtures("feed")
def test_ro_is_read_only_for_the_service_user_too(statement: str, query) -> None:
    with pytest.raises(trino.exceptions.TrinoUserError, match="Access Denied"):
        query(statement, user="reqlake")


def test_an_analyst_reads_tables_metadata_and_his_own_queries(query, feed: Table) -> None:
    assert query("SHOW CATALOGS") == [["ro"], ["system"]]
    assert query(f"SELECT count(*) FROM ro.{TABLE}") == [[60]]
    assert query('SELECT count(*) FROM ro.reqlake."feed_requests$files"') == [[len(feed.inspect.files())]]
    users = query('SELECT DISTINCT "user" FROM system.runtime.queries')
    assert users == [["analyst"]]


@pytest.mark.usefixtures("feed")
def test_the_service_user_does_all_of_it_in_lake(query) -> None:
    query("CREATE TABLE lake.reqlake.scratch (n bigint)", user="reqlake")
    try:
        query("INSERT INTO lake.reqlake.scratch VALUES 1, 2", user="reqlake")
        query("ALTER TABLE lake.reqlake.scratch EXECUTE optimize", user="reqlake")
        assert query("SELECT sum(n) FROM ro.reqlake.scratch") == [[3]]
    finally:
        query("DROP TABLE lake.reqlake.scratch", user="reqlake")


@pytest.mark.parametrize(("security", "works"), [("DEFINER", True), ("INVOKER", False)])
@pytest.mark.usefixtures("feed")
def test_a_view_of_the_service_user_is_readable_through_ro_if_it_is_the_definers(
    security: str, works: bool, query
) -> None:
    body = f"SELECT user_id, clicked FROM lake.{TABLE} CROSS JOIN UNNEST(click) AS u (clicked)"
    query(f"CREATE OR REPLACE VIEW lake.reqlake.clicks SECURITY {security} AS {body}", user="reqlake")
    try:
        if works:
            impressions = query(f"SELECT sum(cardinality(click)) FROM ro.{TABLE}")
            assert query("SELECT count(*) FROM ro.reqlake.clicks") == impressions
        else:
            with pytest.raises(trino.exceptions.TrinoUserError, match="Cannot access catalog lake"):
                query("SELECT count(*) FROM ro.reqlake.clicks")
        with pytest.raises(trino.exceptions.TrinoUserError, match="Access Denied"):
            query("DROP VIEW ro.reqlake.clicks")
    finally:
        query("DROP VIEW lake.reqlake.clicks", user="reqlake")
