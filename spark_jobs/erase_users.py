"""The users to erase, read from a file, as the tables hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from lakehouse.spec import DatasetSpec
from spark_jobs.errors import EraseError

SEED = 42


@dataclass(frozen=True)
class Users:
    """Ids as the tables hold them, the texts that the raw log names them by, and a digest to tell lists apart."""

    ids: frozenset[int]
    texts: frozenset[str]
    digest: str


def read_users(path: Path, spec: DatasetSpec) -> Users:
    """One user a line (or the first column of a Parquet file), as the raw log names them.

    `column:value` names one by a fallback column of the spec. Raises EraseError: no file, no user, a line that is none.
    """
    try:
        if path.suffix == ".parquet":
            lines = [str(v) for v in pq.read_table(path).column(0).drop_null().unique().to_pylist()]
        else:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise EraseError(f"cannot read the users of {path}: {error}. Give one a line, or Parquet") from error
    return users_of(lines, spec, str(path))


def users_of(lines: Iterable[str], spec: DatasetSpec, where: str = "the list") -> Users:
    """Users by the names that the raw log gives them. Raises EraseError."""
    ids, texts = set(), set()
    fallback = tuple(f"{column}:" for column in spec.keys.user_id.fallback)
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        if spec.keys.user_id.type == "string" or (fallback and line.startswith(fallback)):
            ids.add(hashed(line))
        elif (line.removeprefix("-")).isascii() and line.lstrip("-").isdigit():
            ids.add(int(line))
        else:
            raise EraseError(f"line {number} of {where} is no user id of {spec.name}, whose ids are integers")
        texts.add(line)
    if not ids:
        raise EraseError(f"{where} names no user: give one a line")
    digest = hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()[:16]
    return Users(frozenset(ids), frozenset(texts), digest)


def hashed(text: str) -> int:
    """A string id as the tables hold it."""
    value: int = xxhash.xxh64_intdigest(text.encode(), SEED)
    return value - (1 << 64) if value >= 1 << 63 else value
