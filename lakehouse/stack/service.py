"""What the control knows of a service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lakehouse.stack.process import Command
from lakehouse.stack.state import Stack

Say = Callable[[str], None]


@dataclass(frozen=True)
class Service:
    """One service of the stack. `ready` returns once the service answers a real request, and raises until then."""

    name: str
    port_names: tuple[str, ...]
    needs: tuple[str, ...]
    check: Callable[[Say], None]  # finds or fetches its programs, before anything is started; MissingProgramError
    prepare: Callable[[Stack], None]
    command: Callable[[Stack], Command]
    ready: Callable[[Stack], None]
    patience: float  # seconds until it must be ready
