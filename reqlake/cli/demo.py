"""`reqlake demo`."""

from __future__ import annotations

from pathlib import Path

from reqlake.cli.terminal import out


def demo(*, folder: Path = Path("build/demo")) -> None:
    """The whole way on real data: raw log, request table, report, SQL, training, scores. Under six minutes.

    Args:
        folder: Where everything is made; cleared first.
    """
    from reqlake.demo.run import run_demo

    run_demo(folder, out())
