"""A way to an S3 server on which requests fail as they do on real networks: errors, cut answers, delays, expired keys.

With `lost` the server has done what was asked, and its answer never comes. Requests are passed on as they are, `Host`
included, so that their signatures stay valid.
"""

from __future__ import annotations

import http.client
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal["error", "reset", "lost", "cut", "late", "silent", "expired"]
EXPIRED = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>The token has expired</Message></Error>"
REFUSED: dict[str | None, tuple[int, list[tuple[str, str]], bytes]] = {
    "error": (503, [], b""),
    "expired": (403, [("Content-Type", "application/xml")], EXPIRED),
}
HOP = ("transfer-encoding", "connection", "content-length")


@dataclass
class FlakyS3:
    """The server's address, what went wrong so far, and what is to go wrong from now on."""

    endpoint: str = ""
    fault: Callable[[int, str], Fault | None] = lambda _number, _key: None
    """From a request's number and its access key: what becomes of it."""
    each: float = math.inf
    """How many requests for one file may go wrong; what is asked for again and again gets through in the end."""
    late_s: float = 0.05
    requests: int = 0
    faults: list[Fault] = field(default_factory=list)
    _by_file: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, key: str, path: str) -> Fault | None:
        """Count a request and say what becomes of it."""
        with self._lock:
            self.requests += 1
            fault = self.fault(self.requests, key) if self._by_file[path] < self.each else None
            if fault is not None:
                self.faults.append(fault)
                self._by_file[path] += 1
            return fault


@contextmanager
def flaky_s3(port: int) -> Iterator[FlakyS3]:
    """A flaky way to the S3 server at this port of the machine."""
    state, ending = FlakyS3(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            key = self.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]
            fault = state.next_fault(key, self.path.partition("?")[0])
            if fault == "reset":
                self.close_connection = True
                return
            if fault in REFUSED:
                self._answer(*REFUSED[fault])
                return
            if fault in ("late", "silent"):
                ending.wait(state.late_s if fault == "late" else None)
            with suppress(ConnectionError):  # the client may have given up
                self._pass_on(body, cut=fault == "cut", lost=fault == "lost")

        def _pass_on(self, body: bytes, *, cut: bool, lost: bool) -> None:
            upstream = http.client.HTTPConnection("127.0.0.1", port)
            try:
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() != "expect":  # answered here already
                        upstream.putheader(name, value)
                upstream.endheaders(body or None)
                answer = upstream.getresponse()
                told = answer.read()
            finally:
                upstream.close()
            if lost:
                self.close_connection = True
                return
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            headers = [(n, v) for n, v in answer.getheaders() if n.lower() not in HOP]
            self._answer(answer.status, headers, told, length=length, cut=cut)

        def _answer(
            self,
            status: int,
            headers: list[tuple[str, str]],
            body: bytes,
            *,
            length: str | None = None,
            cut: bool = False,
        ) -> None:
            self.send_response_only(status)
            for name, value in [*headers, ("Content-Length", length or str(len(body)))]:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = self.close_connection or cut

    for method in ("HEAD", "PUT", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.do_GET)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="flaky-s3")
    thread.start()
    try:
        yield state
    finally:
        ending.set()
        server.shutdown()
        thread.join()
        server.socket.close()
