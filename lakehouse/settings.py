"""Settings: one object from the environment (`REQLAKE_CATALOG__URI=…`) and from `reqlake.toml`; environment first.

The default is the embedded lake: a SQLite catalog and local files under `./lake`. Postgres and S3, a REST, Glue or Hive
catalog are settings alone; no code path asks which one it is, but for the one that writes an engine's properties.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from lakehouse.durations import Duration
from lakehouse.errors import SettingsError

CONFIG_FILE = "reqlake.toml"
TAG_NAMES = {"day": "daily-%Y-%m-%d", "week": "weekly-%G-W%V", "month": "monthly-%Y-%m", "year": "yearly-%Y"}


class Section(BaseModel):
    """A part of the settings; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


class CatalogSettings(Section):
    """Which Iceberg catalog, and what each engine calls it (the name is part of a JDBC catalog's keys)."""

    type: Literal["sql", "rest", "glue", "hive"] = "sql"
    name: str = Field(
        "lake", description="name in PyIceberg, Spark and Trino, unless one of the next two says otherwise"
    )
    spark_name: str | None = None
    trino_name: str | None = None
    uri: str = Field("", description="sqlite:///…, postgresql://user:password@host:port/db, or the service's address")
    warehouse: str = Field("", description="where tables lie: a folder, file:///… or s3://bucket/path")
    properties: dict[str, str] = Field({}, description="more catalog properties, PyIceberg's names")
    spark_properties: dict[str, str] = Field({}, description="more properties of spark.sql.catalog.<name>")

    @property
    def in_spark(self) -> str:
        """The catalog's name in Spark."""
        return self.spark_name or self.name

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded catalog: one file."""
        return self.type == "sql" and self.uri.startswith("sqlite:")


class S3Settings(Section):
    """An S3 server other than what the AWS environment says."""

    endpoint: str | None = None
    region: str = "us-east-1"
    access_key: str | None = None
    secret_key: SecretStr | None = None
    path_style: bool = True


class SparkSettings(Section):
    """The Spark session that jobs build where none is given."""

    master: str = "local[*]"
    driver_memory: str = "2g"
    shuffle_partitions: int = Field(8, ge=1)
    java_home: str | None = Field(None, description="a Java 17 or 21; else JAVA_HOME, PATH, and last the wheel's")
    jars: tuple[str, ...] = Field((), description="more Maven coordinates")
    conf: dict[str, str] = {}


class TrinoSettings(Section):
    """A Trino server over the same catalog (`reqlake stack up` writes its address); none by default."""

    uri: str | None = Field(None, description="http://host:port, or https://… with password authentication")
    user: str = Field("analyst", description="who asks; the local stack lets only `reqlake` write")
    catalog: str = Field("ro", description="the catalog's name there: `ro` reads, `lake` is the service user's")
    service_user: str = Field("reqlake", description="who makes views (`reqlake views apply`)")
    service_catalog: str = Field("lake", description="the catalog in which the service user writes")


class IngestSettings(Section):
    """Limits of one ingest."""

    max_bad_share: float = Field(
        0.05, ge=0, le=1, description="share of quarantined rows above which a batch is refused"
    )
    check_conflicts: bool = Field(
        True, description="hash every request feature of every row to find rows that disagree"
    )


class QualitySettings(Section):
    """What is kept of the suite's results, and how a batch is held against the last ones."""

    keep_results: bool = Field(True, description="each batch's results go into <dataset>_suite_results")
    volume_batches: int = Field(
        0, ge=0, description="batches whose medians a batch's volume and null shares are held against; 0: none"
    )
    volume_factor: float = Field(4, gt=1, description="times more or fewer rows than the median that are told")
    null_share: float = Field(0.2, gt=0, le=1, description="difference from the median share of nulls that is told")
    volume: Literal["warn", "refuse"] = Field("warn", description="what becomes of a batch that is told")
    page: Path | None = Field(None, description="a folder in which each ingest writes <dataset>.html, its data docs")


class TagRule(Section):
    """Training sets that `reqlake maintain` makes by itself: one a period; the oldest go when there are too many."""

    every: Literal["day", "week", "month", "year"] = Field(description="a set is made once in each (weeks by ISO, UTC)")
    keep: int = Field(ge=1, description="newest sets of this rule that stay; sets made by hand are never dropped")
    name: str = Field("", description="strftime pattern of their names, by default `weekly-%G-W%V` and the like")

    @model_validator(mode="after")
    def _names_tell_periods(self) -> TagRule:
        if not self.name:
            self.name = TAG_NAMES[self.every]
        days = [datetime(2019, 12, 1, tzinfo=UTC) + timedelta(days=n) for n in range(3 * 366)]
        names: dict[str, datetime] = {}
        for day in days:
            start = names.setdefault(day.strftime(self.name), self.start(day))
            if start != self.start(day):
                raise ValueError(
                    f"{self.name!r} names two {self.every}s alike, such as {start:%Y-%m-%d} and {day:%Y-%m-%d}"
                )
        if len(names) > len({self.start(day) for day in days}):
            raise ValueError(f"{self.name!r} names one {self.every} in several ways: leave the finer fields out")
        return self

    def start(self, at: datetime) -> datetime:
        """The first midnight of a time's period."""
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.every == "week":
            return day - timedelta(days=day.weekday())
        return day.replace(day=day.day if self.every == "day" else 1, month=1 if self.every == "year" else day.month)


class MaintenanceSettings(Section):
    """When a table is due for maintenance, and what a job may remove."""

    small_file_bytes: int = Field(16 << 20, ge=1, description="a data file below this is small")
    small_files: int = Field(4, ge=2, description="small files of one partition that make it due for compaction")
    overlap_depth: int = Field(4, ge=2, description="files of a partition that may hold one user before it is due")
    deleted_share: float = Field(0.05, gt=0, le=1, description="share of deleted rows that makes a partition due")
    target_file_bytes: int = Field(256 << 20, ge=1, description="bytes that a rewritten file aims at")
    manifests: int = Field(50, ge=2, description="manifests above which they are rewritten")
    keep_days: float = Field(7, ge=0, description="age from which a snapshot that nothing holds expires")
    keep_snapshots: int = Field(1, ge=1, description="newest snapshots that stay whatever their age")
    retention: dict[str, Duration] = Field({}, description="by dataset: age at which partitions go, `90d`")
    tags: dict[str, tuple[TagRule, ...]] = Field({}, description="by dataset: training sets that are made by rule")
    orphan_hours: float = Field(24, ge=0, description="age from which a file that nothing references is removed")

    @model_validator(mode="after")
    def _rules_have_names_of_their_own(self) -> MaintenanceSettings:
        for dataset, rules in self.tags.items():
            if len({rule.name for rule in rules}) < len(rules):
                raise ValueError(f"tags of {dataset}: two rules make sets of one name, give one another pattern")
        return self


class PriceSettings(Section):
    """What a year costs in `reqlake report`; no price, no figure."""

    per_gb_month: float | None = Field(None, ge=0, description="price of storing a GB for a month")
    per_vcpu_hour: float | None = Field(None, ge=0, description="price of a vCPU for an hour")
    reads_per_year: float = Field(365, ge=0, description="times a year that the whole table is read")


class Settings(BaseSettings):
    """All settings of reqlake. `load_settings()` reads them; parts can be given by hand in tests and notebooks."""

    model_config = SettingsConfigDict(
        env_prefix="REQLAKE_", env_nested_delimiter="__", extra="forbid", toml_file=CONFIG_FILE
    )

    home: Path = Field(Path("lake"), description="folder of the embedded catalog, the warehouse, reports and runs")
    catalog: CatalogSettings = CatalogSettings()
    s3: S3Settings = S3Settings()
    spark: SparkSettings = SparkSettings()
    trino: TrinoSettings = TrinoSettings()
    ingest: IngestSettings = IngestSettings()
    quality: QualitySettings = QualitySettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    prices: PriceSettings = PriceSettings()
    kernels: Literal["auto", "reference", "triton"] = "auto"

    @model_validator(mode="after")
    def _fill_embedded(self) -> Settings:
        home = self.home.expanduser().resolve()
        catalog = self.catalog
        if catalog.type == "sql":
            uri = catalog.uri or f"sqlite:///{home / 'catalog.db'}"
            catalog = catalog.model_copy(
                update={"uri": uri, "warehouse": catalog.warehouse or _file_uri(home / "warehouse")}
            )
        if catalog.warehouse and "://" not in catalog.warehouse and catalog.type != "rest":  # there it may be a name
            folder = Path(catalog.warehouse).expanduser().resolve()
            catalog = catalog.model_copy(update={"warehouse": _file_uri(folder)})
        if catalog.type == "sql" and urlparse(catalog.uri).scheme.split("+")[0] not in (
            "sqlite",
            "postgresql",
        ):
            raise ValueError(f"catalog.uri: {catalog.uri!r} is neither sqlite:///… nor postgresql://…")
        if catalog.type in ("rest", "hive") and not catalog.uri:
            raise ValueError(f"catalog.uri: a {catalog.type} catalog needs the address of its service")
        self.home, self.catalog = home, catalog
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic names these two
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then `reqlake.toml` in the current folder."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def _file_uri(folder: Path) -> str:
    """A folder as both PyIceberg and Spark read it: `file://` and the path as it is.

    Neither decodes `%20`, so a space stays a space; what a URI gives a meaning to is refused. Raises ValueError.
    """
    if special := sorted(set(str(folder)) & set("#?")):
        raise ValueError(f"{folder}: engines misread {' and '.join(special)} in a warehouse's path, rename it")
    return f"file://{folder}"


def load_settings(**given: object) -> Settings:
    """The settings of this process. Raises SettingsError that names each setting and its value."""
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg'].removeprefix('Value error, ')}"
            + ("" if isinstance(e["input"], dict) else f" (got {e['input']!r})")
            for e in error.errors()
        ]
        raise SettingsError(
            f"bad settings (environment REQLAKE_…, {CONFIG_FILE} in {Path.cwd()}):\n" + "\n".join(lines)
        ) from error
