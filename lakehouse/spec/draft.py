"""The YAML of an inferred spec: one line a feature, and beside it what has to be confirmed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from lakehouse.spec.advice import Volume, megabytes
from lakehouse.spec.sample import Sample

COMMENT_COLUMN = 60
NESTED = ("keys", "request_features", "sequences", "candidate_features", "labels", "embeddings")


def write_draft(
    data: dict[str, Any], comments: dict[str, str], left_out: dict[str, str], sample: Sample, volume: Volume
) -> str:
    """The spec as YAML with comments; reads back as `data`."""
    seen = f"{sample.table.num_rows:,} of {sample.total_rows:,} rows"
    lines = [
        f"# Drafted by `reqlake spec infer` from {seen} in {sample.total_files} files.",
        "# Read each comment, correct what is wrong, then run `reqlake spec check` on this file.",
        f"# Expected: {volume.requests:,.0f} requests that decode to {megabytes(volume.bytes_in('none'))} in all.",
    ]
    lines += [f"# Left out: {column} ({why})" for column, why in left_out.items()]
    for key, value in data.items():
        if key in NESTED:
            lines.append(f"{key}:")
            lines += _entries(value, (key,), comments, 1)
        else:
            lines.append(f"{key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def _entries(entries: dict[str, Any], place: tuple[str, ...], comments: dict[str, str], depth: int) -> Iterator[str]:
    for key, value in entries.items():
        here = (*place, key)
        note = comments.get(".".join(here))
        pad = "  " * depth
        if key == "fields" or (isinstance(value, dict) and "fields" in value):
            yield _line(f"{pad}{key}:", note)
            yield from _entries(value, here, comments, depth + 1)
        else:
            yield _line(f"{pad}{key}: {_flow(value)}", note)


def _line(text: str, note: str | None) -> str:
    return f"{text.ljust(COMMENT_COLUMN - 1)} # {note}" if note else text


def _flow(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"type"}:
        value = value["type"]
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("...\n").strip()
