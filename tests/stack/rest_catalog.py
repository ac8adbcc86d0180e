"""A real Iceberg REST catalog: the server that Iceberg tests its clients with, beside the stack's S3.

It is a test fixture of Iceberg 1.10.1, without authentication, its backend a SQLite database in memory: fit for tests.
Hadoop, Jackson and Avro come from pyspark's jars.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path

from lakehouse.stack.artifacts import Artifact, cache_folder, fetch
from lakehouse.stack.guard import Guard
from lakehouse.stack.java import find_java
from lakehouse.stack.ports import LOOPBACK, free_ports
from lakehouse.stack.process import Command, recorded, spawn
from lakehouse.stack.state import Stack

_JARS = """
org.apache.iceberg:iceberg-api:1.10.1 9c806b96f20882d1e5e7a4b9a8d7bc1fa32917b509af4e6d139afaa09a288396
org.apache.iceberg:iceberg-common:1.10.1 167791c08975f299ebae6c508ea872b899673c33dc2911e4c265f95b96a656f1
org.apache.iceberg:iceberg-bundled-guava:1.10.1 05b79072e19071b1bcf7a4e382d624b3b2ccad6eaf79627676219bb48e4e834d
org.apache.iceberg:iceberg-core:1.10.1 5dc1472e3a393d9d5a713aedee7007cebdf62cabbe82c72feb6d3da8e50d7216
org.apache.iceberg:iceberg-core:1.10.1:tests 8c18111a61ea40ba23114e10e33bacfceca6cf36d2c9a932d880e0100f14af1e
org.apache.iceberg:iceberg-open-api:1.10.1:test-fixtures ec4dce1663933e3520227da8238a980d52b7eccac532c1953f337dc1e6ee597b
org.apache.iceberg:iceberg-aws:1.10.1 28229076a64512513e7142e7a5cf088dc18393c066887373d9c0616ba0c071b3
org.apache.iceberg:iceberg-aws-bundle:1.11.0 38f01da7e96850cdd05e6616d758b77b43314b712a8808e3f9a824d56976162f
dev.failsafe:failsafe:3.3.2 2c5dc879a6dac7ea3a7b29d795e27bd49b8e7908b05c2f3e56053c19d79850f5
org.xerial:sqlite-jdbc:3.50.3.0 a3f53a2aa15ae9425a9e793bbe9c8e5288febeb4b65ef5c1a4e80d4c2045cf08
com.github.ben-manes.caffeine:caffeine:2.9.3 1e0a7bbef1dd791653143f3f05d0e489934bf5481e58a87c9e619cd46b68729b
org.apache.httpcomponents.client5:httpclient5:5.5 496b4b0e8d5f3a8139a5d2638486d304758bac3a9c39d76989f663cfd9354fc9
org.apache.httpcomponents.core5:httpcore5:5.3.4 f2b2fd7a0164e8c3120cd8437bc9fea439239e165c17262b3e907daa7e979f80
org.eclipse.jetty:jetty-server:11.0.25 710652a7dccc0590cd0af2798dd3c4c93a777e7fb591d89d7cf02a4839bf0dd8
org.eclipse.jetty:jetty-servlet:11.0.25 641eb7725c8aa27ff4f35e71b826f6c3fff5ce745d6997e520eafb887e3623ec
org.eclipse.jetty:jetty-security:11.0.25 861a0be80a4dfa7935a89113d4ac4ed76505f079b22c9e2f1a84017908bbcd57
org.eclipse.jetty:jetty-http:11.0.25 7ae3f8055557e6cea13980eaa37eaf9d546cd57a2d358aa7cb2e5de7c4946169
org.eclipse.jetty:jetty-io:11.0.25 6d5859f4ce88156c86aac0fa62d27a768d8f100aa6da5c13a82ec3c9ea16a349
org.eclipse.jetty:jetty-util:11.0.25 801ce0baaaf9a269fade7172dadd290c707f3bcdaf22b4292c323f6548b05959
"""  # noqa: E501


@contextmanager
def rest_catalog(stack: Stack, folder: Path) -> Iterator[str]:
    """The server's address, for as long as the block lasts; its tables lie in the stack's S3 under `rest`."""
    jars = _jars()
    port = free_ports(1)[0]
    env = {
        "CATALOG_REST_PORT": str(port),
        "CATALOG_CATALOG__IMPL": "org.apache.iceberg.jdbc.JdbcCatalog",
        "CATALOG_WAREHOUSE": "s3://lake/rest",
        "CATALOG_IO__IMPL": "org.apache.iceberg.aws.s3.S3FileIO",
        "CATALOG_S3_ENDPOINT": stack.s3_endpoint,
        "CATALOG_S3_PATH__STYLE__ACCESS": "true",
        "CATALOG_S3_ACCESS__KEY__ID": stack.passwords["s3_access_key"],
        "CATALOG_S3_SECRET__ACCESS__KEY": stack.passwords["s3_secret_key"],
        "AWS_REGION": "us-east-1",
    }
    java = find_java(17)
    pyspark = find_spec("pyspark")
    assert java is not None
    assert pyspark is not None
    assert pyspark.submodule_search_locations
    path = f"{jars}/*:{pyspark.submodule_search_locations[0]}/jars/*"
    server = (str(java), "-Xmx256m", "-cp", path, "org.apache.iceberg.rest.RESTCatalogServer")
    with Guard(folder) as guard:
        guard.watch("rest")
        spawn(Command(server, folder, env), folder / "run" / "rest.json", folder / "rest.log")
        _wait(port, folder)
        yield f"http://{LOOPBACK}:{port}"


def _wait(port: int, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        connection = HTTPConnection(LOOPBACK, port, timeout=5)
        try:
            connection.request("GET", "/v1/config")
            if connection.getresponse().status == 200:
                return
        except OSError:
            log = (folder / "rest.log").read_text()
            assert recorded(folder / "run" / "rest.json"), f"the REST catalog died:\n{log[-2000:]}"
            assert time.monotonic() < deadline, f"the REST catalog does not answer:\n{log[-2000:]}"
            time.sleep(0.1)
        finally:
            connection.close()


def _jars() -> Path:
    """The server's jars in the user's cache, fetched once, by Maven or Ivy as Trino is."""
    wanted = []
    for line in _JARS.split("\n"):
        if line:
            coordinates, digest = line.split()
            group, name, version, *classifier = coordinates.split(":")
            wanted.append(Artifact(group, name, version, "jar", digest, *classifier))
    folder = cache_folder() / "iceberg-rest-1.10.1"
    missing = [jar for jar in wanted if not (folder / jar.file).exists()]
    if missing:
        fetch(missing, folder, print)
    return folder
