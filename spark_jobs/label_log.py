"""Label files as a log of their own: the spec that reads them, what is wrong with their rows, and their entries."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.errors import RawDataError, SpecError
from lakehouse.spec import DatasetSpec
from lakehouse.spec.fields import Keys, Label, RequestId, TimeColumn
from spark_jobs.checks import Check, row_checks, verdict
from spark_jobs.labels import KEY, impression_key
from spark_jobs.raw import RawLog
from spark_jobs.scan import FILE, ROW

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

NO_LABEL = "no_label"


@dataclass(frozen=True)
class LabelLog:
    """How label files are read: a spec of keys and labels alone, and whether they carry the request's time."""

    spec: DatasetSpec
    dated: bool


def label_log(spec: DatasetSpec, names: Collection[str]) -> LabelLog:
    """How label files with columns `names` are read, by the dataset's spec.

    Raises SpecError where no label has a time or requests have no id in a log; RawDataError where no label is there.
    """
    files = spec.label_files
    if not spec.timed_labels:
        raise SpecError(
            f"{spec.name}: no label has a time, so that nothing tells which of two values is newer: declare it, as in "
            f"`labels: {{click: {{type: float, time: clicked_at}}}}`"
        )
    labels = {
        name: _late(spec.labels[name], files.labels.get(name), files.times.get(name), name)
        for name in spec.timed_labels
    }
    labels = {name: label for name, label in labels.items() if _there(label.column or name, names)}
    if not labels:
        raise RawDataError(
            f"the label files hold none of {', '.join(spec.timed_labels)}: their columns are "
            f"{', '.join(sorted(names))}. Map them under `label_files` in the spec"
        )
    times = [label.time for label in labels.values() if label.time is not None]
    asked = files.request_ts or spec.keys.request_ts
    dated = files.request_ts is not None or _there(asked.column, names)
    keys = spec.keys
    own = Keys(
        user_id=keys.user_id.model_copy(update={"column": files.user_id or keys.user_id.column}),
        request_id=_request(spec),
        request_ts=asked if dated else times[0],
        item_id=keys.item_id.model_copy(update={"column": files.item_id or keys.item_id.column}),
        position=(files.position or keys.position) if spec.impression_key == "position" else None,
    )
    read = DatasetSpec(name=spec.name, namespace=spec.namespace, keys=own, labels=labels, conflict="first")
    return LabelLog(read, dated)


def _late(label: Label, column: str | None, time: TimeColumn | None, name: str) -> Label:
    return label.model_copy(
        update={"column": column or label.column or name, "time": time or label.time, "required": False}
    )


def _there(column: str, names: Collection[str]) -> bool:
    return column in names or column.split(".", maxsplit=1)[0] in names


def _request(spec: DatasetSpec) -> RequestId:
    request, column = spec.keys.request_id, spec.label_files.request_id
    if request.gap is not None:
        raise SpecError(
            f"{spec.name}: requests are told by pauses (keys.request_id.gap), so that no label file can name one: give "
            f"the log a request id, or bring labels with the impressions"
        )
    return request.model_copy(update={"column": column, "expression": None}) if column else request


def judged(log: LabelLog, raw: RawLog) -> DataFrame:
    """The typed rows with `_fault`: null keys and times, values out of range, NaN, and rows that say nothing."""
    from pyspark.sql import functions as F

    checks = row_checks(log.spec)
    if not log.dated:  # its stand-in is a label's time
        checks = [check for check in checks if check.column != "request_ts"]
    none = F.lit(True)
    for name in log.spec.labels:
        untimed = F.col(name).isNotNull() & F.col(f"{name}_time").isNull()
        checks.append(Check("null_label_time", f"{name}_time", untimed))
        none = none & F.col(name).isNull()
    checks.append(Check(NO_LABEL, "", none))
    return raw.typed.withColumn("_fault", verdict(checks))


def entries_of(spec: DatasetSpec, log: LabelLog, rows: DataFrame) -> DataFrame:
    """One entry per value of the sound rows (spark_jobs/labels.py), with `_asked`, `_file` and `_row`.

    `_asked`: the request's time where the files carry it, else null.
    """
    from pyspark.sql import functions as F

    each = [
        F.struct(
            F.lit(name).alias("label"), F.col(name).cast("string").alias("value"), F.col(f"{name}_time").alias("time")
        )
        for name in log.spec.labels
    ]
    asked = F.col("request_ts") if log.dated else F.lit(None).cast("timestamp")
    sound = rows.where(F.col("_fault").isNull())
    told = sound.select(
        *KEY, *impression_key(spec), asked.alias("_asked"), F.explode(F.array(*each)).alias("_told"), FILE, ROW
    )
    return told.where("_told.value IS NOT NULL").select(
        *KEY, *impression_key(spec), "_told.label", "_told.value", "_told.time", "_asked", FILE, ROW
    )
