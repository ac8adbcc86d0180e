"""The stored requests that labels speak of: where they lie, with their labels brought up, and what they lack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.spec import DatasetSpec
from spark_jobs.labels import KEY, applies, by_request, impression_key, with_labels
from spark_jobs.merge import NO_REACH, Reach, find_keys, touched_partitions
from spark_jobs.pending import impressions

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class Met:
    """The stored requests of a batch's labels: partitions, rows with `_updates`, impressions."""

    spec: DatasetSpec
    where: str
    rows: DataFrame | None
    impressions: DataFrame | None

    def missing(self, entries: DataFrame) -> DataFrame:
        """The entries whose impression is not among them."""
        from pyspark.sql import functions as F

        if self.impressions is None:
            return entries
        key = [*KEY, *impression_key(self.spec)]
        known = self.impressions.withColumnsRenamed({name: f"_{name}" for name in self.impressions.columns})
        same = applies(self.spec, F.col("time"), F.col("_request_ts"))
        for name in key:
            same = same & (F.col(name) == F.col(f"_{name}"))
        return entries.join(known, same, "left_anti")


def find_labelled(
    spec: DatasetSpec, frame: DataFrame | None, catalog: str, told: DataFrame, late: DataFrame | None
) -> Met:
    """The requests of `frame`, the request table, that labels speak of, found by their keys alone.

    Entries of `told` with `_asked` are looked up around that time; the others, and overdue ones (`late`), over
    `label_horizon` before their own. `frame` is None where the table is empty.
    """
    from pyspark.sql import functions as F

    columns = [*KEY, *impression_key(spec), "label", "value", "time"]
    if frame is None:
        return Met(spec, "", None, None)
    entries = told.select(*columns) if late is None else told.select(*columns).unionByName(late.select(*columns))
    searched = told.where("_asked IS NULL").select(*KEY, F.col("time").alias("request_ts"))
    if late is not None:
        searched = searched.unionByName(late.select(*KEY, F.col("time").alias("request_ts")))
    asked = told.where("_asked IS NOT NULL").select(*KEY, F.col("_asked").alias("request_ts"))
    near: Reach = (spec.request_span, spec.request_span)
    far: Reach = (spec.label_horizon, spec.request_span)
    parts = [find_keys(spec, keys, frame, catalog, reach) for keys, reach in ((asked, near), (searched, far))]
    found = [part[0] for part in parts if part is not None]
    if not found:
        return Met(spec, "", None, None)
    met = (found[0] if len(found) == 1 else found[0].unionByName(found[1])).distinct().localCheckpoint()
    where = touched_partitions(spec, met, catalog, NO_REACH)
    stored = frame.where(where).join(F.broadcast(met.select(*KEY).distinct()), KEY, "left_semi")
    rows = with_labels(spec, stored, by_request(spec, entries).localCheckpoint())
    shown = impressions(spec, stored.select(*KEY, "request_ts", *impression_key(spec))).localCheckpoint()
    return Met(spec, where, rows, shown)
