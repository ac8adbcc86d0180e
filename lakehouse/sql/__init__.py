"""SQL over the lake without a server: Trino's SQL, run by DuckDB on the pinned snapshot's files.

>>> from lakehouse import sql
>>> sql.query(settings, "SELECT count(*) FROM movielens_impressions")  # doctest: +SKIP
"""

from lakehouse.sql.engine import Explanation, explain, names, query, stream
from lakehouse.sql.scan import ScanPlan

__all__ = ["Explanation", "ScanPlan", "explain", "names", "query", "stream"]
