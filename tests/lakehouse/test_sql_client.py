"""A Trino that is busy: asked again, and after four times one clear error. The server here speaks Trino's protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from tenacity import wait_none

from lakehouse.errors import ServerError, SqlError
from lakehouse.settings import load_settings
from lakehouse.sql.client import ATTEMPTS, connected

pytest.importorskip("trino")

Answer = tuple[int, dict[str, Any]]
DONE = {"id": "q1", "infoUri": "http://x", "stats": {"state": "FINISHED"}}
BIGINT = {"name": "n", "type": "bigint", "typeSignature": {"rawType": "bigint", "arguments": []}}
ROWS: Answer = (200, DONE | {"columns": [BIGINT], "data": [[7]]})


def failing(name: str, kind: str = "INSUFFICIENT_RESOURCES") -> Answer:
    error = {"message": f"{name} it is", "errorCode": 1, "errorName": name, "errorType": kind}
    return 200, DONE | {"error": error}


@contextmanager
def server(answer: Callable[[int], Answer]) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the statements that it was sent; `answer(i)` is what the i-th gets."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            status, body = answer(len(asked) - 1)
            payload = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", asked
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse.sql.client.wait_exponential", lambda **_: wait_none())


def rows(uri: str) -> list[list[Any]]:
    with connected(load_settings(trino={"uri": uri})) as client:
        return client.rows("SELECT 7 AS n")


@pytest.mark.parametrize("name", ["QUERY_QUEUE_FULL", "SERVER_STARTING_UP", "CLUSTER_OUT_OF_MEMORY"])
def test_a_busy_server_is_asked_again(name: str) -> None:
    with server(lambda i: failing(name) if i < ATTEMPTS - 1 else ROWS) as (uri, asked):
        assert rows(uri) == [[7]]
    assert len(asked) == ATTEMPTS


def test_a_server_that_stays_busy_is_one_clear_error() -> None:
    busy = r"Trino at http://127\.0\.0\.1:\d+ is busy \(QUERY_QUEUE_FULL: .*\), 4 times in a row: run this again later"
    with server(lambda _: failing("QUERY_QUEUE_FULL")) as (uri, asked), pytest.raises(ServerError, match=busy):
        rows(uri)
    assert len(asked) == ATTEMPTS


def test_what_is_wrong_with_the_query_is_not_tried_again() -> None:
    with (
        server(lambda _: failing("COLUMN_NOT_FOUND", "USER_ERROR")) as (uri, asked),
        pytest.raises(SqlError, match="Trino says: COLUMN_NOT_FOUND it is"),
    ):
        rows(uri)
    assert len(asked) == 1


def test_a_gateway_without_its_server_is_one_clear_error() -> None:
    down = r"Trino at .* does not answer .*503.*`reqlake stack status`"
    with server(lambda _: (503, {})) as (uri, asked), pytest.raises(ServerError, match=down):
        rows(uri)
    assert len(asked) == ATTEMPTS


def test_a_refused_login_is_said() -> None:
    with server(lambda _: (401, {})) as (uri, _), pytest.raises(ServerError, match="refused the login"):
        rows(uri)
