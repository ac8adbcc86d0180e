"""`reqlake.sql("SELECT …")`: a query with the settings of this process, its rows as Arrow."""

from __future__ import annotations

import pyarrow as pa

from lakehouse.settings import Settings, load_settings
from lakehouse.sql import engine


class Sql:
    """Call it for rows; its methods are those of `lakehouse.sql`, which take the settings first."""

    query = staticmethod(engine.query)
    stream = staticmethod(engine.stream)
    explain = staticmethod(engine.explain)
    names = staticmethod(engine.names)

    def __call__(
        self, text: str, *, settings: Settings | None = None, snapshot: int | None = None, tag: str | None = None
    ) -> pa.Table:
        """Rows of one Trino query, with the same types on a Trino server and without one.

        Without `settings`, those of the environment and `reqlake.toml`. Raises what `lakehouse.sql.query` raises.
        """
        return engine.query(settings or load_settings(), text, snapshot=snapshot, tag=tag)


sql = Sql()
