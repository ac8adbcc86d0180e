"""Whether a batch is like the last ones: its requests, its candidates, and the share of nulls of each column.

Medians, not means: one odd batch does not move what the next is held against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from lakehouse.errors import AuditError
from lakehouse.settings import QualitySettings
from lakehouse.spec import Column, DatasetSpec

REQUESTS, CANDIDATES, NULLS = "volume.requests", "volume.candidates", "nulls."
FEWEST = 3  # batches before which a median says nothing


@dataclass(frozen=True)
class Observation:
    """One number of a batch, and the median of the last ones (None while there are too few)."""

    name: str
    observed: float
    expected: float | None
    passed: bool

    @property
    def says(self) -> str:
        """What was observed, in words."""
        if self.name.startswith(NULLS):
            what = f"nulls of {self.name.removeprefix(NULLS)}: {self.observed:.1%}"
            return what if self.expected is None else f"{what}, {self.expected:.1%} in the last batches"
        what = f"{self.observed:,.0f} {self.name.rpartition('.')[2]}"
        return what if self.expected is None else f"{what}, {self.expected:,.0f} in the last batches"


def is_observation(name: str) -> bool:
    """Whether a result's name is that of an observation, and not of a rule."""
    return name.startswith(("volume.", NULLS))


def observe(frame: Any, spec: DatasetSpec) -> dict[str, float]:
    """Numbers of a Spark frame of request rows: one scan that counts, and keeps nothing."""
    watched = [c for c in spec.columns("request", "sequence", "candidate", "label") if c.nullable]
    sums = {c.name: f"sum({_nulls(c)})" for c in watched}
    row = frame.selectExpr(
        "count(*) AS _requests",
        "sum(size(item_id)) AS _candidates",
        *[f"{expression} AS `{name}`" for name, expression in sums.items()],
    ).collect()[0]
    requests, candidates = int(row["_requests"]), int(row["_candidates"] or 0)
    numbers = {REQUESTS: float(requests), CANDIDATES: float(candidates)}
    for column in watched:
        whole = candidates if column.per_candidate else requests
        numbers[f"{NULLS}{column.name}"] = float(row[column.name] or 0) / whole if whole else 0.0
    return numbers


def _nulls(column: Column) -> str:
    if column.per_candidate:
        nulls = f"size(filter(`{column.name}`, x -> x IS NULL))"
        return f"CASE WHEN `{column.name}` IS NULL THEN size(item_id) ELSE {nulls} END"
    return f"CASE WHEN `{column.name}` IS NULL THEN 1 ELSE 0 END"


def hold_against(
    numbers: Mapping[str, float], last: Iterable[Mapping[str, float]], settings: QualitySettings
) -> list[Observation]:
    """Each number beside the median of the last batches."""
    before = list(last)
    found = []
    for name, observed in numbers.items():
        values = [batch[name] for batch in before if name in batch]
        expected = median(values) if len(values) >= FEWEST else None
        found.append(Observation(name, observed, expected, _is_like(name, observed, expected, settings)))
    return found


def _is_like(name: str, observed: float, expected: float | None, settings: QualitySettings) -> bool:
    if expected is None:
        return True
    if name.startswith(NULLS):
        return abs(observed - expected) <= settings.null_share
    return expected / settings.volume_factor <= observed <= expected * settings.volume_factor


def warnings_of(observations: Iterable[Observation], settings: QualitySettings) -> tuple[str, ...]:
    """What to tell of a batch that is unlike the last ones. Raises AuditError where the settings refuse it."""
    odd = tuple(o.says for o in observations if not o.passed)
    if odd and settings.volume == "refuse":
        raise AuditError(
            f"unlike the last batches: {'; '.join(odd)}; nothing was published. Look at the log; where it is right, "
            f"ingest it with REQLAKE_QUALITY__VOLUME=warn"
        )
    return odd
