"""A way to a server by TCP that is cut at a chosen moment: before the server hears something, or before it answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class CutWay:
    """The way's port, and when it is cut: at the first bytes from a client that hold `at`, once."""

    port: int = 0
    at: bytes | None = None
    when: Literal["before", "after"] = "before"
    """`before` the server is told, or `after` it was told: it does what was asked, and nobody hears of it."""
    cuts: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)
    _answering: socket.socket | None = None
    """The way to the server that ends with its next answer."""

    def cut(self) -> None:
        """End every connection."""
        self.at, self._answering, self.cuts = None, None, self.cuts + 1
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()


@contextmanager
def cut_way(port: int) -> Iterator[CutWay]:
    """A way to the server at this port of the machine."""
    way, server = CutWay(), socket.create_server(("127.0.0.1", 0))
    way.port = server.getsockname()[1]

    def copy(source: socket.socket, target: socket.socket, *, from_client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                found = from_client and way.at is not None and way.at in data
                if (found and way.when == "before") or source is way._answering:
                    way.cut()
                    return
                if found:
                    way.at, way._answering = None, target
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                try:
                    upstream = socket.create_connection(("127.0.0.1", port))
                except ConnectionRefusedError:  # the server is down: as it would be without this way
                    client.close()
                    continue
                way._sockets += [client, upstream]
                for ends, mine in (((client, upstream), True), ((upstream, client), False)):
                    threading.Thread(target=copy, args=ends, kwargs={"from_client": mine}, daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield way
    finally:
        way.cut()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()
