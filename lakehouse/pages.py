"""HTML pages: filled from a package's `page.html`, and put on disk so that nobody sees half of one."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from string import Template


def fill_page(package: str, **values: str) -> str:
    """The text of a package's page; `$style` in it is the look that pages share (lakehouse/page.css)."""
    style = files("lakehouse").joinpath("page.css").read_text(encoding="utf-8").rstrip("\n")
    page = files(package).joinpath("page.html").read_text(encoding="utf-8")
    return Template(page).substitute(style=style, **values)


def write_page(text: str, path: str | Path) -> Path:
    """Put the page's text in its place at once; folders are made. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
