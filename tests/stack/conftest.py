"""The real stack for a test session: Postgres, SeaweedFS and Trino, in a folder of its own, gone when pytest is.

In CI a stack that cannot start fails the tests; on a person's machine they skip and say what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NoReturn

import pytest
import trino
from pyiceberg.table import Table

from lakehouse.settings import Settings, load_settings
from lakehouse.stack.control import running_stack
from lakehouse.stack.errors import StackError
from lakehouse.stack.state import Stack
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

Query = Callable[..., list[list[Any]]]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All three services. The first run on a machine fetches Trino (540 MB) into the user's cache."""
    try:
        with running_stack(tmp_path_factory.mktemp("stack")) as running:
            yield running
    except StackError as error:
        cannot_start(error)


def cannot_start(error: StackError) -> NoReturn:
    """Fail in CI (`.ci/run` says that it is), else skip and name what is missing."""
    if os.environ.get("CI"):
        raise error
    pytest.skip(f"the local stack cannot start: {error}")


@pytest.fixture(scope="session")
def lake(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings that use the stack's Postgres and S3, as `reqlake stack up` writes them."""
    return load_settings(home=tmp_path_factory.mktemp("home"), **stack.settings(("postgres", "s3", "trino")))


@pytest.fixture(scope="session")
def feed(lake: Settings) -> Table:
    """The feed's request table on Postgres and S3, written by PyIceberg in two commits."""
    spec = SPECS["feed"]
    return write_request_table(lake, spec, reference_requests(raw_log(spec), spec))


@pytest.fixture(scope="session")
def query(stack: Stack) -> Query:
    """`query(sql, user="analyst", catalog="ro")`: rows from the real Trino."""

    def run(sql: str, user: str = "analyst", catalog: str = "ro") -> list[list[Any]]:
        port = stack.ports["trino"]
        with closing(trino.dbapi.connect(host="127.0.0.1", port=port, user=user, catalog=catalog)) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            rows: list[list[Any]] = cursor.fetchall()
            return rows

    return run
