"""A session of Spark Connect is refused by name, before anything is done."""

from __future__ import annotations

import pytest

from lakehouse.settings import Settings
from spark_jobs import ingest
from spark_jobs.errors import SessionError
from tests.support.datasets import SPECS

pytest.importorskip("grpc", reason="Spark Connect's client is in none of the extras; make test-spark35 installs it")


def test_spark_connect_is_refused(settings: Settings) -> None:
    from pyspark.sql.connect.session import SparkSession

    session = SparkSession("sc://localhost:1")  # nobody answers there: it is not asked
    with pytest.raises(SessionError, match=r"Spark Connect.*spark-submit"):
        ingest.run(session, settings, SPECS["feed"], ["log"])
