"""Folders that are there whole or not at all: written beside their place, synced, then renamed into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

PARTIAL = ".partial-"


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Make the folder `path` of what `write` puts into the empty folder it is given; one that is there stays.

    Killed at any line, either all of it is there or none; a later call clears what a killed one left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{PARTIAL}*"):
        shutil.rmtree(left)
    partial = path.parent / f"{PARTIAL}{path.name}"
    partial.mkdir()
    write(partial)
    for file in partial.iterdir():
        file.chmod(partial.stat().st_mode & 0o666)  # safetensors lets the owner alone read
        sync(file)
    sync(partial)
    if path.exists():
        shutil.rmtree(partial)
        return
    partial.rename(path)
    sync(path.parent)


def write_file(path: Path, text: str) -> None:
    """Replace a small text file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{PARTIAL}{path.name}")
    partial.write_text(text, encoding="utf-8")
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def remove_folder(path: Path) -> None:
    """Take a folder away at once, then delete it; readers see all of it or none."""
    doomed = path.with_name(f"{PARTIAL}removed-{path.name}")
    path.rename(doomed)
    shutil.rmtree(doomed)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
