"""The catalog, opened by PyIceberg, and its properties as Spark wants them.

The three engines share one catalog: the name is part of a JDBC catalog's keys, and PyIceberg makes the catalog's
tables first (V1), so Spark finds them there.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlparse

import sqlalchemy.exc
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchNamespaceError, NoSuchTableError
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import TableRequirement, TableUpdate

from lakehouse.errors import CatalogError, TableMissingError, nearest
from lakehouse.settings import Settings

ASIDE = "_aside"
"""After a table's name while two tables trade places (lakehouse/upkeep/swap.py)."""
SWAP_LOOKS, SWAP_PAUSE = 20, 0.1  # renames take milliseconds; where a swap has died, the next rebucket mends it

JAVA_SKEW = 60.0  # seconds by which Iceberg in Java lets a snapshot be older than the one before
CLOCKS = "nothing was committed. Set the clock that is wrong, here or where that was written (NTP), or wait until then"
Commit = Callable[[Table, tuple[TableRequirement, ...], tuple[TableUpdate, ...]], CommitTableResponse]


def local_path(uri: str) -> Path:
    """The local path of `file:///x`, `file:/x` or `x`: PyIceberg and Spark write the same place differently.

    Neither of them encodes or decodes: `%20` is three characters of a name.
    """
    return Path(urlparse(uri).path) if uri.startswith("file:") else Path(uri)


@contextmanager
def catalog_errors(settings: Settings) -> Iterator[None]:
    """Turn what a catalog's driver raises into one CatalogError that names the catalog and the remedy."""
    uri = redact(settings.catalog.uri)
    try:
        yield
    except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlite3.OperationalError) as error:
        text = str(error)
        if "locked" in text:
            remedy = "another process holds it: wait for its commit, or use Postgres for concurrent writers"
        elif "readonly" in text or "unable to open" in text:
            remedy = "the file or its folder is not writable: fix the permissions, or set REQLAKE_HOME"
        else:
            remedy = "it cannot be reached. Is the server up, and are host, port, user and password right?"
        raise CatalogError(f"the catalog {uri} answered: {text.splitlines()[0]}. Likely cause: {remedy}") from error
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise CatalogError(
            f"cannot write {error.filename}: {error.strerror}. Fix it, or set REQLAKE_HOME to a folder of yours"
        ) from error
    except FileNotFoundError:
        raise
    except OSError as error:  # PyArrow's, of local files and of S3
        raise CatalogError(
            f"cannot write to the lake {settings.catalog.warehouse}: {error}. Make room there, or see that its server "
            f"is up, and run this again"
        ) from error


def redact(uri: str) -> str:
    """The URI without its password."""
    password = urlparse(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri


def open_catalog(settings: Settings) -> Catalog:
    """The catalog by PyIceberg; an embedded one is made where there is none. Raises CatalogError."""
    with catalog_errors(settings):
        if settings.catalog.is_sqlite:
            Path(settings.catalog.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        if settings.catalog.warehouse.startswith("file:"):
            local_path(settings.catalog.warehouse).mkdir(parents=True, exist_ok=True)
        catalog = load_catalog(settings.catalog.name, **_pyiceberg_properties(settings))
    vars(catalog)["commit_table"] = _not_before_the_last(catalog.commit_table)
    return catalog


def _not_before_the_last(commit: Commit) -> Commit:
    """Commits that this machine's clock does not date before the table's newest snapshot.

    PyIceberg would make such a commit, and no Java engine reads the table afterwards ("Expected sorted snapshot log").
    """

    def checked(
        table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        newest = max((entry.timestamp_ms for entry in table.metadata.snapshot_log), default=0) / 1000
        behind = newest - time.time()
        if behind > JAVA_SKEW:
            name = ".".join(table.name())
            raise CatalogError(
                f"{name}: its newest snapshot is {behind:,.0f} s ahead of this machine's clock: {CLOCKS}"
            )
        return commit(table, requirements, updates)

    return checked


def ensure_namespace(catalog: Catalog, namespace: str, settings: Settings) -> None:
    """Make the namespace where it is not there."""
    with catalog_errors(settings):
        try:
            catalog.create_namespace(namespace)
        except NamespaceAlreadyExistsError:
            return


def ensure_table(
    catalog: Catalog,
    name: str,
    schema: Schema,
    settings: Settings,
    *,
    partition_spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
    properties: dict[str, str] | None = None,
) -> Table:
    """A table, made where there is none.

    PyIceberg's `create_table_if_not_exists` writes metadata before it looks: an orphan file for each opening.
    """
    with catalog_errors(settings):
        try:
            return catalog.load_table(name)
        except NoSuchTableError:
            return catalog.create_table_if_not_exists(
                name, schema, partition_spec=partition_spec, properties=properties or {}
            )


def load_table(catalog: Catalog, identifier: str, settings: Settings) -> Table:
    """One table. Raises TableMissingError that suggests the nearest name."""
    with catalog_errors(settings):
        try:
            return _load_swapped(catalog, identifier)
        except (NoSuchTableError, NoSuchNamespaceError) as error:
            hint = nearest(identifier, table_names(catalog, identifier.rpartition(".")[0]))
            where = redact(settings.catalog.uri)
            raise TableMissingError(
                f"no table {identifier} in the catalog {where}.{hint} `reqlake ingest` makes a request table"
            ) from error


def _load_swapped(catalog: Catalog, identifier: str) -> Table:
    """A table, also while a rebucket renames it: only in a catalog that is no SQL one is its name missing then."""
    for _ in range(SWAP_LOOKS):
        try:
            return catalog.load_table(identifier)
        except NoSuchTableError:
            if f"{identifier}{ASIDE}" not in table_names(catalog, identifier.rpartition(".")[0]):
                break
            time.sleep(SWAP_PAUSE)
    return catalog.load_table(identifier)


def table_names(catalog: Catalog, namespace: str) -> list[str]:
    """Full names of a namespace's tables; none where the namespace is not there."""
    try:
        return sorted(".".join(name) for name in catalog.list_tables(namespace))
    except NoSuchNamespaceError:
        return []


def _pyiceberg_properties(settings: Settings) -> dict[str, str]:
    catalog, s3 = settings.catalog, settings.s3
    properties: dict[str, str] = {"type": catalog.type}
    if catalog.uri:
        scheme, _, rest = catalog.uri.partition("://")
        properties["uri"] = f"postgresql+psycopg2://{rest}" if scheme == "postgresql" else catalog.uri
        if scheme == "postgresql":
            properties["pool_pre_ping"] = "true"  # connections of before a restart of the server are dead
        if catalog.is_sqlite:
            properties["uri"] = catalog.uri.replace("%", "%25")  # SQLAlchemy decodes it, Spark's driver does not
    if catalog.warehouse:
        properties["warehouse"] = catalog.warehouse
    if s3.endpoint:
        properties |= {
            "s3.endpoint": s3.endpoint,
            "s3.force-virtual-addressing": str(not s3.path_style).lower(),
        }
    if s3.access_key and s3.secret_key:
        properties |= {
            "s3.access-key-id": s3.access_key,
            "s3.secret-access-key": s3.secret_key.get_secret_value(),
        }
    # PyArrow's default request timeout of 3 s fails large row groups on a busy server.
    properties |= {"s3.region": s3.region, "s3.request-timeout": "60", "s3.connect-timeout": "10"}
    return properties | catalog.properties


def spark_catalog_conf(settings: Settings) -> dict[str, str]:
    """`spark.sql.catalog.<name>.*`: the same catalog as PyIceberg's, for a session or `spark-submit --conf`."""
    catalog, s3 = settings.catalog, settings.s3
    own = {"cache-enabled": "false"}  # or PyIceberg's commits stay invisible for 30 s
    if catalog.warehouse:
        own["warehouse"] = catalog.warehouse
    if catalog.type == "sql":
        own |= {"type": "jdbc", "jdbc.schema-version": "V1", "jdbc.init-catalog-tables": "false"} | _jdbc(catalog.uri)
    else:
        own |= {"type": catalog.type}
        if catalog.uri:
            own["uri"] = catalog.uri
    if catalog.warehouse.startswith("s3"):
        own |= {"io-impl": "org.apache.iceberg.aws.s3.S3FileIO", "client.region": s3.region}
        if s3.endpoint:
            own |= {"s3.endpoint": s3.endpoint, "s3.path-style-access": str(s3.path_style).lower()}
        if s3.access_key and s3.secret_key:
            own |= {
                "s3.access-key-id": s3.access_key,
                "s3.secret-access-key": s3.secret_key.get_secret_value(),
            }
    own |= catalog.spark_properties
    prefix = f"spark.sql.catalog.{catalog.in_spark}"
    return {prefix: "org.apache.iceberg.spark.SparkCatalog"} | {f"{prefix}.{k}": v for k, v in own.items()}


def _jdbc(uri: str) -> dict[str, str]:
    if uri.startswith("sqlite:"):
        return {"uri": f"jdbc:sqlite:{uri.removeprefix('sqlite:///')}"}
    parts = urlparse(uri)
    jdbc = {"uri": f"jdbc:postgresql://{parts.hostname}:{parts.port or 5432}{parts.path}"}
    if parts.username:
        jdbc["jdbc.user"] = unquote(parts.username)
    if parts.password:
        jdbc["jdbc.password"] = unquote(parts.password)
    return jdbc
