"""Raw rows to requests: both passes, the books of what happened, and the rows that are condemned on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lakehouse.spec import DatasetSpec
from spark_jobs.checks import EVENT, IMPRESSION, SPAN
from spark_jobs.merge import STORED_WINNER, Known
from spark_jobs.narrow import WINNER, group_requests, narrow_rows
from spark_jobs.quarantine import Condemned
from spark_jobs.raw import RawLog
from spark_jobs.small import cut_off, is_small, kept
from spark_jobs.wide import complete_requests, rows_of

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


@dataclass(frozen=True)
class Books:
    """Counts over the groups of a batch: of its raw rows, but for `requests`, which counts rows to write.

    `accepted` is what the table gains: a late row that takes a stored one's place counts nothing here.
    """

    requests: int
    rows: int
    accepted: int
    duplicates: int
    conflicting: int
    condemned: int

    @classmethod
    def of(cls, groups: DataFrame, known: Known | None = None) -> Books:
        """Count them: one job, which also fills the groups' cache. `known` candidates are not the batch's."""
        from pyspark.sql import functions as F

        def total(count: Column) -> Column:
            return F.coalesce(F.sum(F.coalesce(count, F.lit(0))), F.lit(0)).cast("bigint")

        late, reaching, losing = (F.coalesce(F.size(n), F.lit(0)) for n in ("_late", "_reaching", "_losing"))

        row = groups.agg(
            F.count("*").alias("requests"),
            total(F.col("_size") + late + reaching).alias("rows"),
            total(F.size("item_id")).alias("accepted"),
            total(F.col("_duplicates")).alias("duplicates"),
            total(F.col("_conflicting")).alias("conflicting"),
            total(late + reaching + losing).alias("condemned"),
        ).collect()[0]
        books, stored, settled = cls(**row.asDict()), known.candidates if known else 0, known.settled if known else 0
        rows, duplicates = books.rows - stored + settled, books.duplicates + settled
        return replace(books, rows=rows, accepted=books.accepted - stored, duplicates=duplicates)


@dataclass(frozen=True)
class Dedup:
    """A batch between its two passes: narrow rows, groups (kept), and their books."""

    spec: DatasetSpec
    log: RawLog
    check_conflicts: bool
    rows: DataFrame
    groups: DataFrame
    books: Books
    narrow_rows: int
    """How many `rows` has at most: those of the batch, and stored candidates."""
    known: Known | None = None

    @classmethod
    def start(cls, spec: DatasetSpec, log: RawLog, *, check_conflicts: bool, known: Known | None = None) -> Dedup:
        """The narrow pass; candidates of `known` requests are grouped with the batch's."""
        rows, count = narrow_rows(spec, log, check_conflicts=check_conflicts), log.rows
        if known is not None:
            rows, count = known.joined(rows), count + known.candidates
        rows = cut_off(rows, count)
        groups = kept(group_requests(spec, rows), count)
        return cls(spec, log, check_conflicts, rows, groups, Books.of(groups, known), count, known)

    def complete(self) -> DataFrame:
        """The wide pass: the request table's rows and `_fault`."""
        size = 0  # which is not known of frames without a plan
        if not is_small(self.narrow_rows):
            plan = self.groups._jdf.queryExecution().withCachedData()  # noqa: SLF001
            size = int(str(plan.stats().sizeInBytes()))
        count, hashed = self.books.requests, self.check_conflicts
        if self.known is None:
            return complete_requests(self.spec, self.log, self.groups, count, size, hashed=hashed)
        raw = complete_requests(
            self.spec, self.log, self.groups.where(f"NOT ({STORED_WINNER})"), count, size, hashed=hashed
        )
        requests = raw.unionByName(self.known.complete(self.groups.where(STORED_WINNER)))
        return self.known.kept_hashes(requests)

    @property
    def row_faults(self) -> int:
        """Raw rows that are condemned by themselves."""
        return self.log.rows - self.books.rows

    def condemned(self) -> Condemned:
        """Every raw row that is not in the requests and not a duplicate, with its reason; counted by reason."""
        from pyspark.sql import functions as F

        total = self.row_faults + self.books.condemned
        faults = self.rows.where(F.col("_fault").isNotNull()).select(
            F.col("_file_id").alias("file"),
            F.col("_row_number").alias("row"),
            F.col("_fault.reason").alias("reason"),
            F.col("_fault.column").alias("detail"),
        )
        grouped = [("_late", SPAN, "request_ts"), ("_reaching", EVENT, "newest event"), ("_losing", IMPRESSION, "")]
        for column, reason, detail in grouped:
            places = self.groups.select(F.explode(column).alias("place")).select(
                "place.file", "place.row", F.lit(reason).alias("reason"), F.lit(detail).alias("detail")
            )
            faults = faults.unionByName(places)
        if total == 0:
            return Condemned(faults, {})
        faults = cut_off(faults, self.narrow_rows)
        told = (
            faults.groupBy("reason")
            .agg(F.count("*").alias("rows"), F.count_if(F.col("row") < 0).alias("stored"))
            .collect()
        )
        counts = {row["reason"]: int(row["rows"]) for row in told}
        return Condemned(faults, dict(sorted(counts.items())), sum(int(row["stored"]) for row in told))

    def without(self, faulty: DataFrame) -> tuple[Dedup, bool]:
        """The same batch without requests whose values broke a rule; and whether other requests changed by that.

        `faulty` holds the winners' places and `_fault`. Where such a request has sound variants or condemned rows
        beside it, it may have given them their time, so the batch is grouped again; else its groups are left out.
        """
        from pyspark.sql import functions as F

        bad = self.groups.join(F.broadcast(faulty), list(WINNER))
        places = rows_of(bad.select("_row_files", "_row_numbers", "_fault")).select(
            F.col("file").alias("_file_id"), F.col("row").alias("_row_number"), F.col("_fault").alias("_request_fault")
        )
        rows = self.rows.join(F.broadcast(places.persist()), ["_file_id", "_row_number"], "left")
        rows = rows.withColumn("_fault", F.coalesce("_fault", "_request_fault")).drop("_request_fault")
        rows = cut_off(rows, self.narrow_rows)
        key = ["user_id", "request_id"]
        sound = self.groups.join(F.broadcast(faulty.select(*WINNER)), list(WINNER), "left_anti")
        sound = kept(sound, self.narrow_rows)
        beside = sound.join(bad.select(*key), key, "left_semi")
        judged = bad.where((F.size("_late") > 0) | (F.size("_reaching") > 0))
        if beside.isEmpty() and judged.isEmpty():
            return replace(self, rows=rows, groups=sound, books=Books.of(sound, self.known)), False
        groups = kept(group_requests(self.spec, rows), self.narrow_rows)
        again = replace(self, rows=rows, groups=groups, books=Books.of(groups, self.known))
        # What a group holds follows from its variant's rows and the request's time.
        new = again.groups.join(sound, [*key, "request_hash", "request_ts"], "left_anti")
        changed = not new.isEmpty()
        sound.unpersist()
        self.groups.unpersist()
        return again, changed
