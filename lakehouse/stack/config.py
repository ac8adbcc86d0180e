"""`reqlake.toml`, changed key by key: what the user wrote stays, comments and order included.

The file is edited as text, because a TOML writer would drop comments; then it is read back and compared with what it
should say, so that a file too clever for the edit is refused and left as it was.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lakehouse.stack.errors import StackError
from lakehouse.stack.process import write_private

Sections = Mapping[str, Mapping[str, Any]]


def merge_settings(file: Path, sections: Sections) -> None:
    """Set these keys in the file, which becomes readable by its owner alone. Raises StackError."""
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        before = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise StackError(f"cannot read {file}: {error}. Mend it, then run this again") from error
    wanted: dict[str, Any] = copy.deepcopy(before)
    for section, values in sections.items():
        place = wanted.setdefault(section, {})
        if not isinstance(place, dict):
            raise StackError(f"{file}: {section} is {place!r}, not a section: rename or remove it")
        place.update(values)
    if wanted == before:
        file.chmod(0o600)
        return
    for section, values in sections.items():
        text = merge_text(text, section, values)
    if not _says(text, wanted):
        listed = "\n".join(f"[{s}] {k}" for s, values in sections.items() for k in values)
        raise StackError(
            f"{file} is laid out so that it cannot be changed safely (inline tables, or long strings?). "
            f"Write each of these as a line of its own under its [section], then run this again:\n{listed}"
        )
    write_private(file, text)


def merge_text(text: str, section: str, values: Mapping[str, Any]) -> str:
    """The text with these keys set in this section: known keys in their line, others after the section's last key."""
    lines = text.splitlines()
    header = re.compile(rf"\s*\[\s*{re.escape(section)}\s*\]\s*(#.*)?$")
    start = next((i for i, line in enumerate(lines) if header.match(line)), None)
    if start is None:
        lines += ([""] if lines and lines[-1].strip() else []) + [f"[{section}]"]
        start = len(lines) - 1
    end = next((i for i in range(start + 1, len(lines)) if lines[i].lstrip().startswith("[")), len(lines))
    for key, value in values.items():
        line = f"{key} = {_toml(value)}"
        known = re.compile(rf"\s*(\"{re.escape(key)}\"|{re.escape(key)})\s*=")
        at = next((i for i in range(start + 1, end) if known.match(lines[i])), None)
        if at is not None:
            lines[at] = line
            continue
        at = end
        while at > start + 1 and not lines[at - 1].strip():
            at -= 1
        lines.insert(at, line)
        end += 1
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    # JSON's strings, booleans and numbers are TOML's as well.
    return json.dumps(value)


def _says(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False
