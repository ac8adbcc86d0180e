"""Settings: the embedded default, the environment, `reqlake.toml`, and refusals that name the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.catalog import redact, spark_catalog_conf
from lakehouse.errors import SettingsError
from lakehouse.settings import load_settings


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_default_is_one_file_and_local_folders(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.catalog.is_sqlite
    assert settings.catalog.uri == f"sqlite:///{tmp_path / 'lake' / 'catalog.db'}"
    assert settings.catalog.warehouse == f"file://{tmp_path}/lake/warehouse"


def test_a_space_in_the_home_stays_a_space_and_a_hash_is_refused(tmp_path: Path) -> None:
    assert load_settings(home=tmp_path / "my lake").catalog.warehouse == f"file://{tmp_path}/my lake/warehouse"
    with pytest.raises(SettingsError, match=r"lake#1.*misread #"):
        load_settings(home=tmp_path / "lake#1")


def test_environment_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reqlake.toml").write_text('home = "from-file"\n[spark]\ndriver_memory = "3g"\n')
    assert load_settings().home == tmp_path / "from-file"
    monkeypatch.setenv("REQLAKE_HOME", str(tmp_path / "from-env"))
    assert load_settings().home == tmp_path / "from-env"
    assert load_settings().spark.driver_memory == "3g"


def test_postgres_and_s3_are_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQLAKE_CATALOG__URI", "postgresql://me:se%40cret@127.0.0.1:5433/lake")
    monkeypatch.setenv("REQLAKE_CATALOG__WAREHOUSE", "s3://lake/warehouse")
    monkeypatch.setenv("REQLAKE_S3__ENDPOINT", "http://127.0.0.1:8333")
    monkeypatch.setenv("REQLAKE_S3__ACCESS_KEY", "a")
    monkeypatch.setenv("REQLAKE_S3__SECRET_KEY", "b")
    settings = load_settings()
    conf = spark_catalog_conf(settings)
    assert conf["spark.sql.catalog.lake.uri"] == "jdbc:postgresql://127.0.0.1:5433/lake"
    assert conf["spark.sql.catalog.lake.jdbc.password"] == "se@cret"
    assert conf["spark.sql.catalog.lake.io-impl"].endswith("S3FileIO")
    assert "cret" not in redact(settings.catalog.uri)
    assert "secret_key=b" not in repr(settings)


def test_engines_may_know_the_catalog_by_other_names() -> None:
    settings = load_settings(
        catalog={"type": "rest", "uri": "http://127.0.0.1:8181", "name": "lake", "spark_name": "prod"}
    )
    assert spark_catalog_conf(settings)["spark.sql.catalog.prod.type"] == "rest"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"hoem": "x"}, "hoem"),
        ({"catalog": {"uri": "mysql://h/d"}}, "neither sqlite:///… nor postgresql://…"),
        ({"catalog": {"type": "rest"}}, "needs the address of its service"),
        ({"ingest": {"max_bad_share": 2}}, "ingest.max_bad_share"),
        ({"spark": {"shuffle_partitions": "many"}}, "many"),
    ],
)
def test_bad_settings_are_named(given: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match="bad settings") as caught:
        load_settings(**given)
    assert says in str(caught.value)
