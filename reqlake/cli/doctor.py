"""`reqlake doctor`."""

from __future__ import annotations

from reqlake.cli.terminal import out, working


def doctor() -> int:
    """Say what is installed, which Java, which catalog and warehouse, what is missing and how to get it."""
    from reqlake.doctor import diagnose
    from reqlake.show.doctor import show_findings

    with working("looking around"):
        findings = diagnose()
    show_findings(out(), findings)
    return int(any(f.state == "broken" for f in findings))
