"""Up, down, status and logs of a stack: what the command line and the tests call."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lakehouse.catalog import open_catalog
from lakehouse.errors import nearest
from lakehouse.settings import CONFIG_FILE, load_settings
from lakehouse.stack import postgres, seaweed, trino
from lakehouse.stack.config import merge_settings
from lakehouse.stack.errors import PortTakenError, ServiceError, StackError
from lakehouse.stack.guard import Guard
from lakehouse.stack.logs import log_tail
from lakehouse.stack.process import recorded, spawn, stop
from lakehouse.stack.service import Say, Service
from lakehouse.stack.state import Stack, choose_ports, locked, open_stack, read_stack

SERVICES: dict[str, Service] = {s.name: s for s in (postgres.SERVICE, seaweed.SERVICE, trino.SERVICE)}


@dataclass(frozen=True)
class Status:
    """One service: `up` (it answered a request), `not answering`, or `down`."""

    service: str
    state: Literal["up", "not answering", "down"]
    pid: int | None
    address: str | None


def up(
    folder: Path,
    only: tuple[str, ...] = (),
    config: Path | None = Path(CONFIG_FILE),
    say: Say = lambda _: None,
) -> Stack:
    """Start what does not run yet, wait until it answers, and write the settings to `config`. Safe to run twice.

    Args:
        folder: where the stack keeps its data, ports and passwords.
        only: some services, with what they need; all by default.
        config: the `reqlake.toml` to merge the settings into; None for none.
        say: told what is going on, in short sentences without passwords.

    Raises:
        StackError: nothing that this call started is left running.
    """
    folder = folder.expanduser().resolve()
    with _starting(folder, only, say) as (stack, guard, services):
        if config is not None:
            merge_settings(config, stack.settings(services))
        guard.keep()
    return stack


@contextlib.contextmanager
def running_stack(folder: Path, only: tuple[str, ...] = (), say: Say = lambda _: None) -> Iterator[Stack]:
    """A stack for as long as the block lasts; its services die with this process, however it dies."""
    with _starting(folder.expanduser().resolve(), only, say) as (stack, _, _):
        yield stack


@contextlib.contextmanager
def _starting(folder: Path, only: tuple[str, ...], say: Say) -> Iterator[tuple[Stack, Guard, tuple[str, ...]]]:
    wanted = with_needs(only)
    with Guard(folder) as guard:
        with locked(folder):
            for service in wanted:
                service.check(say)
            stack = open_stack(folder)
            for wave in _waves(wanted):
                for service in wave:
                    stack = _start(stack, service, guard, say)
                for service in wave:
                    stack = _await(stack, service, guard, say)
                if "postgres" in (s.name for s in wave):
                    _make_catalog(stack)
        running = tuple(name for name in SERVICES if recorded(stack.record(name)))
        yield stack, guard, running


def with_needs(only: tuple[str, ...]) -> list[Service]:
    """The services to start, in order. Raises StackError for an unknown name."""
    unknown = [name for name in only if name not in SERVICES]
    if unknown:
        raise StackError(f"no service {unknown[0]!r}.{nearest(unknown[0], SERVICES)} There are {', '.join(SERVICES)}")
    names = set(only or SERVICES) | {need for name in only for need in SERVICES[name].needs}
    return [service for name, service in SERVICES.items() if name in names]


def parse_services(words: str) -> tuple[str, ...]:
    """`postgres,s3` as a tuple; none for an empty text. Raises StackError for an unknown name."""
    names = tuple(word.strip() for word in words.split(",") if word.strip())
    with_needs(names)
    return names


def _waves(services: list[Service]) -> list[list[Service]]:
    """Those that need nobody, side by side; then the others."""
    return [wave for wave in ([s for s in services if not s.needs], [s for s in services if s.needs]) if wave]


def _start(stack: Stack, service: Service, guard: Guard, say: Say) -> Stack:
    record = stack.record(service.name)
    if recorded(record):
        return stack
    say(f"starting {service.name}")
    stack = choose_ports(stack, service.port_names)
    try:
        service.prepare(stack)
        guard.watch(service.name)
        spawn(service.command(stack), record, stack.log(service.name))
    except OSError as error:
        raise StackError(
            f"{service.name} cannot be started: {error}. Is the disk full, or the folder not ours?"
        ) from error
    return stack


def _await(stack: Stack, service: Service, guard: Guard, say: Say) -> Stack:
    """Wait until the service is ready; once more on other ports if a port was taken meanwhile."""
    try:
        _wait_until_ready(stack, service)
    except PortTakenError:
        say(f"a port of {service.name} was taken, trying others")
        stop(stack.record(service.name))
        stack = _start(stack, service, guard, say)
        _wait_until_ready(stack, service)
    return stack


def _wait_until_ready(stack: Stack, service: Service) -> None:
    deadline = time.monotonic() + service.patience
    while True:
        try:
            service.ready(stack)
        except Exception as error:
            if recorded(stack.record(service.name)) is None:
                raise _died(stack, service) from error
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{service.name} runs, but did not answer within {service.patience:.0f} s ({error}). "
                    f"`reqlake stack down`, then try again; its log {stack.log(service.name)} ends with:\n"
                    + log_tail(stack.log(service.name))
                ) from error
            time.sleep(0.1)
        else:
            return


def _died(stack: Stack, service: Service) -> ServiceError:
    tail = log_tail(stack.log(service.name))
    message = f"{service.name} did not start; its log {stack.log(service.name)} ends with:\n{tail}"
    if "in use" in tail.lower():
        return PortTakenError(message)
    if "no space left" in tail.lower():
        return ServiceError(f"the disk is full: free some space. {message}")
    return ServiceError(message)


def _make_catalog(stack: Stack) -> None:
    """PyIceberg makes the catalog's tables (V1); Spark and Trino expect to find them."""
    catalog = stack.settings(("postgres",))["catalog"] | {"warehouse": stack.warehouse}
    open_catalog(load_settings(catalog=catalog))


def down(folder: Path, purge: bool = False) -> list[str]:
    """Stop all services, the dependent ones first. With `purge`, remove their data and passwords too."""
    folder = folder.expanduser().resolve()
    if not folder.exists():
        return []
    with locked(folder):
        stack = read_stack(folder)
        stopped = [name for name in reversed(SERVICES) if stop(stack.record(name))]
        if purge:
            for name in (*SERVICES, "run", "logs", "postgres.new"):
                shutil.rmtree(folder / name, ignore_errors=True)
            for name in ("secrets.json", "stack.json"):
                (folder / name).unlink(missing_ok=True)
    return stopped


def status(folder: Path) -> list[Status]:
    """What each service does now; each running one is asked."""
    stack = read_stack(folder)
    if not stack.ports:
        return [Status(name, "down", None, None) for name in SERVICES]
    stack = open_stack(folder)
    return [_status(stack, service) for service in SERVICES.values()]


def _status(stack: Stack, service: Service) -> Status:
    process = recorded(stack.record(service.name))
    if process is None:
        return Status(service.name, "down", None, None)
    address = f"127.0.0.1:{stack.ports[service.name]}"
    try:
        service.ready(stack)
    except Exception:  # noqa: BLE001 - whatever its client raises: it does not answer
        return Status(service.name, "not answering", process.pid, address)
    return Status(service.name, "up", process.pid, address)
