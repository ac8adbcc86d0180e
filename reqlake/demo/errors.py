"""Errors of the demo.

ReqlakeError
└── DemoError   a step failed, or the folder is not the demo's to clear
"""

from __future__ import annotations

from lakehouse.errors import ReqlakeError


class DemoError(ReqlakeError):
    """A step of the demo failed, or its folder holds something else."""
