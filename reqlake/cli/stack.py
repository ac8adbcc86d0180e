"""`reqlake stack`: Postgres, SeaweedFS (S3) and Trino on this machine, without Docker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from reqlake.cli.terminal import err, out

FOLDER = Path("stack")


def up(only: str = "", folder: Path = FOLDER, config: Path = Path("reqlake.toml")) -> None:
    """Start the services that do not run yet, wait until they answer, and write reqlake.toml. Safe to run twice.

    Args:
        only: Some services, with commas: postgres, s3, trino (which brings the other two).
        folder: Where the services keep data, ports and passwords.
        config: The settings file to merge the addresses into; its other keys stay.
    """
    from lakehouse.stack.control import parse_services, status
    from lakehouse.stack.control import up as start
    from reqlake.show.stack import show_status

    console = err()
    start(folder, parse_services(only), config, lambda said: console.print(f"{said} …", style="dim"))
    show_status(out(), status(folder))
    console.print(f"settings are in {config}; stop with: reqlake stack down", soft_wrap=True)


def status(folder: Path = FOLDER) -> int:
    """Ask each service for an answer; the exit code is 0 if all that run answer, and one does.

    Args:
        folder: Where the services keep data, ports and passwords.
    """
    from lakehouse.stack.control import status as ask
    from reqlake.show.stack import show_status

    states = ask(folder)
    show_status(out(), states)
    return int(any(s.state == "not answering" for s in states) or all(s.state == "down" for s in states))


def down(folder: Path = FOLDER, purge: bool = False) -> None:
    """Stop the services; their data stay.

    Args:
        folder: Where the services keep data, ports and passwords.
        purge: Remove data, ports and passwords as well.
    """
    from lakehouse.stack.control import down as stop

    stopped = stop(folder, purge)
    err().print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


def logs(
    service: Positional[Literal["postgres", "s3", "trino", "all"]] = "all",
    /,
    folder: Path = FOLDER,
    follow: Annotated[bool, arg(aliases=["-f"])] = False,
) -> None:
    """Print the end of the services' logs.

    Args:
        service: One service, or all.
        folder: Where the services keep data, ports and passwords.
        follow: Go on with each new line, until Ctrl-C.
    """
    from lakehouse.stack.control import SERVICES
    from lakehouse.stack.logs import read_logs

    for name, line in read_logs(folder, tuple(SERVICES) if service == "all" else (service,), follow):
        print(f"{name:8} {line}" if service == "all" else line, flush=follow)
