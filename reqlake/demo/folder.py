"""The demo's folder: cleared at each start, but only if a demo made it."""

from __future__ import annotations

import shutil
from pathlib import Path

from lakehouse.settings import CatalogSettings, Settings, load_settings
from reqlake.demo.errors import DemoError

MARK = ".reqlake-demo"


def clean_folder(folder: Path) -> Path:
    """An empty folder at this path. Raises DemoError if it holds what no demo has put there."""
    folder = folder.expanduser().resolve()
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise DemoError(
                f"{folder} is not empty and no demo made it: give another folder with --folder, or empty it"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    return folder


def demo_settings(folder: Path) -> Settings:
    """The embedded lake in the demo's folder, whatever catalog the environment names."""
    home = folder / "lake"
    catalog = CatalogSettings(uri=f"sqlite:///{home / 'catalog.db'}", warehouse=str(home / "warehouse"))
    return load_settings(home=home, catalog=catalog)
