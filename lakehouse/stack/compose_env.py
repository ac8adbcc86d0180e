"""`make compose-env`: random passwords for docker-compose.yml, in `.env`, mode 600. Needs Python alone.

What `.env` holds already stays, so that running it again locks nobody out of his data.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from lakehouse.stack.process import write_private

PASSWORDS = ("LAKE_DB_PASSWORD", "LAKE_S3_ACCESS_KEY", "LAKE_S3_SECRET_KEY", "GRAFANA_PASSWORD")


def complete(text: str) -> str:
    """The text of a `.env` with a random value for each password that it lacks or leaves empty."""
    lines = text.splitlines()
    known = dict(line.split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith("#"))
    missing = [name for name in PASSWORDS if not known.get(name)]
    kept = [line for line in lines if line.split("=", 1)[0] not in missing]
    return "\n".join([*kept, *(f"{name}={secrets.token_urlsafe(24)}" for name in missing)]) + "\n"


def write_env(file: Path) -> None:
    """Complete a `.env` in place; it is readable by its owner alone from then on."""
    write_private(file, complete(file.read_text(encoding="utf-8") if file.exists() else ""))


if __name__ == "__main__":
    write_env(Path(sys.argv[1] if len(sys.argv) > 1 else ".env"))
