"""`python -m reqlake`, and the file by which `spark-submit` runs any command on a cluster (docs/schedule.md)."""

from __future__ import annotations

import sys

from reqlake.cli import main

if __name__ == "__main__":
    sys.exit(main())
