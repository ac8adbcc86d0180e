"""The wide pass: the request features of each request, read from the one raw row that supplies them.

The groups' keys are broadcast to the scan while they fit, so that only winners leave it and no wide row is shuffled
but for the table's own partitioning. A request whose values break a rule gets a verdict in `_fault`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.spec import DatasetSpec, FeatureType
from spark_jobs.checks import request_checks, verdict
from spark_jobs.direct import HASH, with_fingerprint
from spark_jobs.mapping import LOSSY_REQUEST
from spark_jobs.narrow import ALL_ROWS, WINNER
from spark_jobs.raw import RawLog
from spark_jobs.scan import FILE, ROW

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

BROADCAST_GROUPS = 32 << 20  # bytes, as cached, of whole groups that go to every task
BROADCAST_WINNERS = 20_000_000  # groups whose two-number winners do (half a GB)


def complete_requests(
    spec: DatasetSpec, log: RawLog, groups: DataFrame, count: int, size: int, *, hashed: bool
) -> DataFrame:
    """The request table's rows, the winners' places, and `_fault`. Unless `hashed`, fingerprints are taken here.

    `groups` are `count` requests of about `size` bytes. Small ones are broadcast whole; else their winners' places
    are, and the winners join their groups by key; else the winners are found by a shuffled join.
    """
    from pyspark.sql import functions as F

    names = [c.name for c in spec.columns()]
    supplied = [c.name for c in spec.columns("request", "sequence")]
    supplied += [name for name in ("user_id_raw", "request_id_raw") if name in names]
    own = [c for c in groups.columns if not c.startswith("_")]
    taken = log.direct is not None and count <= BROADCAST_WINNERS
    rows = log.taken(groups.select(*WINNER), supplied) if taken else log.typed
    place = (F.xxhash64(FILE).alias(WINNER[0]), F.col(ROW).alias(WINNER[1]))
    unhashed = spec.conflict == "split" and not hashed
    if not taken:
        rows = _without_negative_zeros(spec, rows)
    wide = rows.select(*supplied, LOSSY_REQUEST, *place, *([HASH] if taken else []))
    narrow = groups.select(*own, *WINNER)
    if taken and size > BROADCAST_GROUPS:
        joined = wide.join(narrow, list(WINNER))
    elif size <= BROADCAST_GROUPS:
        joined = wide.join(F.broadcast(narrow), list(WINNER))
    else:
        winners = groups.select(*WINNER)
        winners = F.broadcast(winners) if count <= BROADCAST_WINNERS else winners.hint("shuffle_hash")
        joined = wide.join(winners, list(WINNER)).join(narrow, list(WINNER))
    if unhashed and taken:
        joined = joined.withColumn("request_hash", F.col(HASH))
    elif unhashed:
        joined = with_fingerprint(joined, {c.name: c for c in spec.columns("request", "sequence")}, "request_hash")
    return joined.select(*names, *WINNER, verdict(request_checks(spec)).alias("_fault"))


def _without_negative_zeros(spec: DatasetSpec, rows: DataFrame) -> DataFrame:
    """`0.0` for `-0.0` in request features, as spark_jobs/arrow_fingerprint.py has it."""
    from pyspark.sql import functions as F

    def plain(name: str, kind: FeatureType) -> Column:
        zero = F.lit(0.0).cast(kind.element)
        return F.col(name) + zero if kind.shape == "scalar" else F.transform(name, lambda x: x + zero)

    floats = {c.name: c.type for c in spec.columns("request", "sequence") if c.type.is_float}
    return rows.withColumns({name: plain(name, kind) for name, kind in floats.items()})


def rows_of(groups: DataFrame) -> DataFrame:
    """Every raw row of groups: its place as `file`, `row`, beside what else the groups carry."""
    from pyspark.sql import functions as F

    places = F.arrays_zip(*ALL_ROWS)
    rest = [c for c in groups.columns if c not in ALL_ROWS]
    return groups.select(*rest, F.explode(places).alias("_place")).select(
        *rest, F.col("_place._row_files").alias("file"), F.col("_place._row_numbers").alias("row")
    )
