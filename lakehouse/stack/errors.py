"""What can go wrong with the local stack.

ReqlakeError
└── StackError               the stack cannot do what was asked
    ├── MissingProgramError  a program is not on this machine; says how to get it
    ├── FetchError           a download failed, or what came is not what was published
    └── ServiceError         a service died or does not answer; ends with the tail of its log
        └── PortTakenError   another process took a port between choosing and binding it
"""

from __future__ import annotations

from lakehouse.errors import ReqlakeError


class StackError(ReqlakeError):
    """The stack cannot do what was asked."""


class MissingProgramError(StackError):
    """A program is not on this machine."""


class FetchError(StackError):
    """A download failed, or what came is not what was published."""


class ServiceError(StackError):
    """A service died or does not answer."""


class PortTakenError(ServiceError):
    """Another process took a port between choosing and binding it."""
