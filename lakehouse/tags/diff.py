"""What changed between two training sets: requests, label rates, feature drift."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

from pyiceberg.catalog import Catalog

from lakehouse.errors import TagError
from lakehouse.schema import open_request_table, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec
from lakehouse.tags.drift import Drift, LabelRate, feature_drift
from lakehouse.tags.rows import RowChanges, row_changes
from lakehouse.tags.sets import TrainingSet, tag_of


@dataclass(frozen=True)
class TagDiff:
    """Two sets of one dataset. `share` of the users stand for drift and label rates; requests are counted whole."""

    dataset: str
    before: TrainingSet
    after: TrainingSet
    requests: RowChanges
    labels: tuple[LabelRate, ...]
    drift: tuple[Drift, ...]
    sensitive: frozenset[str]
    share: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; bins of sensitive features are left out."""
        drift = [
            {
                "column": d.column,
                "part": d.part,
                "psi": d.psi,
                "verdict": d.verdict,
                "values": list(d.values),
                "bins": [] if d.column in self.sensitive else [list(b) for b in d.bins],
            }
            for d in self.drift
        ]
        return {
            "dataset": self.dataset,
            "before": {"tag": self.before.name, "requests": self.before.requests},
            "after": {"tag": self.after.name, "requests": self.after.requests},
            "requests": dataclasses.asdict(self.requests),
            "labels": [dataclasses.asdict(r) for r in self.labels],
            "drift": drift,
            "share": self.share,
            "seconds": self.seconds,
        }


def diff_tags(
    catalog: Catalog, spec: DatasetSpec, settings: Settings, before: str, after: str, *, share: float = 1.0
) -> TagDiff:
    """Compare two training sets. Raises TableMissingError for an unknown name, TagError for a share outside (0, 1]."""
    if not 0 < share <= 1:
        raise TagError(f"share {share}: give the part of the users to read, above 0 and at most 1")
    started = time.perf_counter()
    old, new = (tag_of(catalog, spec, settings, name) for name in (before, after))
    table = open_request_table(catalog, spec, settings)
    spec = table_spec(table)
    snapshots = old.snapshot_of(spec.table()), new.snapshot_of(spec.table())
    changes = row_changes(table, *snapshots)
    drift, labels = feature_drift(table, spec, *snapshots, share=share)
    return TagDiff(
        spec.name,
        old,
        new,
        changes,
        tuple(labels),
        tuple(drift),
        frozenset(c.name for c in spec.columns() if c.sensitive),
        share,
        time.perf_counter() - started,
    )
