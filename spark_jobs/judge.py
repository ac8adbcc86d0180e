"""The verdict on a batch: what of it cannot stay, and whether so much may.

A batch of which too large a share is bad is refused as a whole, with its reasons and examples, sensitive ids masked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.settings import Settings
from spark_jobs.dedup import Dedup
from spark_jobs.errors import BatchRefusedError, NothingSoundError
from spark_jobs.narrow import WINNER
from spark_jobs.quarantine import Condemned

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row


def judge(dedup: Dedup, settings: Settings, *, even_empty: bool) -> Condemned:
    """The condemned rows. Raises BatchRefusedError where the bad ones are too large a share, or nothing is left."""
    condemned, books = dedup.condemned(), dedup.books
    if not dedup.log.rows:  # a change that only removed
        return condemned
    share, ceiling = condemned.bad / dedup.log.rows, settings.ingest.max_bad_share
    stays = books.requests or (dedup.known is not None and (even_empty or books.duplicates))
    if share > ceiling or not stays:
        counts = ", ".join(f"{reason} {count:,}" for reason, count in condemned.counts.items())
        examples: dict[str, Row] = {}
        for row in condemned.rows.limit(200).collect():
            examples.setdefault(f"{row['reason']} ({row['detail']})" if row["detail"] else row["reason"], row)
        shown = ", ".join(f"{why} at {_place(dedup, row)}" for why, row in list(examples.items())[:5])
        told = (
            f"{condemned.bad:,} of {dedup.log.rows:,} raw rows ({share:.1%}) would go to quarantine, the ceiling is "
            f"{ceiling:.1%}: nothing was published. Reasons: {counts}. Examples: {shown}. Mend the log or the spec, or "
            f"raise REQLAKE_INGEST__MAX_BAD_SHARE"
        )
        raise BatchRefusedError(told) if books.requests else NothingSoundError(told, condemned)
    return condemned


def _place(dedup: Dedup, row: Row) -> str:
    """Where a condemned row lies and whose it is, for people."""
    from pyspark.sql import functions as F

    keys = dedup.spec.keys
    lies = (F.xxhash64("_file") == row["file"]) & (F.col("_row") == row["row"])
    found = dedup.log.typed.where(lies).select("user_id", "request_id", "_file").collect()[0]
    user = "***" if keys.user_id.sensitive else found["user_id"]
    request = "***" if keys.request_id.sensitive else found["request_id"]
    return f"{found['_file'].rsplit('/', 1)[-1]} row {row['row']} (user {user}, request {request})"


def sound(requests: DataFrame) -> DataFrame:
    """Rows of the request table whose values break no rule."""
    return requests.where("_fault IS NULL").drop("_fault", *WINNER)


def faulty(requests: DataFrame) -> DataFrame:
    """The winners' places and `_fault` of requests whose values break a rule."""
    return requests.where("_fault IS NOT NULL").select(*WINNER, "_fault").persist()
