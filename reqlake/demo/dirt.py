"""A few real kinds of dirt, put into the raw log on purpose, so that the demo shows what becomes of them.

Every kind is an *extra* row, a second delivery of a real impression that went wrong on the way, so that all real
impressions stay whole; but for the conflicts, which change one feature on some of a request's rows in place, as a
feature service does that is updated while a page is being served.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reqlake.demo.pages import Ints, Pages

Copies = tuple[pa.Table, Ints]


@dataclass(frozen=True)
class Dirt:
    """Rows of each kind. All but `conflicting_requests` are extra rows."""

    exact_duplicates: int = 60
    null_user: int = 12
    rating_out_of_range: int = 10
    nan_feature: int = 10
    event_not_before_request: int = 10
    unequal_lists: int = 10
    conflicting_requests: int = 25

    @property
    def extra_rows(self) -> int:
        """Rows that the raw log holds beyond the real impressions."""
        return sum(int(getattr(self, f.name)) for f in fields(self)) - self.conflicting_requests

    @property
    def bad_rows(self) -> int:
        """Rows that belong into quarantine."""
        return self.extra_rows - self.exact_duplicates


def copies(requests: pa.Table, source: Ints, rows: pa.Table, dirt: Dirt, rng: np.random.Generator) -> list[Copies]:
    """Extra rows of each kind as whole raw rows, each with the impressions that they are copies of.

    `rows` [N] are the candidate columns, `requests` the request columns, `source` [N] the row of `requests` of each.
    """
    history = requests["history_ts"].combine_chunks().value_lengths().to_numpy()
    with_history = np.flatnonzero(history[source] >= 2)
    made = []
    for kind, change in CHANGES.items():
        of = np.sort(rng.choice(with_history, min(getattr(dirt, kind), len(with_history)), replace=False))
        whole = join(requests.take(pa.array(source[of])), rows.take(pa.array(of)))
        made.append((change(whole), of))
    return made


def join(requests: pa.Table, rows: pa.Table) -> pa.Table:
    """Request columns and candidate columns of the same rows, side by side."""
    return pa.table({name: table[name] for table in (requests, rows) for name in table.column_names})


def disagree(requests: pa.Table, pages: Pages, how_many: int, rng: np.random.Generator) -> tuple[pa.Table, Ints]:
    """A second variant of some requests: `user_mean` as a later version of the feature service gives it.

    Returns the requests followed by the variants and, per event [N], the row of that table which holds its request:
    the second half of a changed page has the variant.
    """
    size = np.diff(np.r_[pages.start, len(pages.request)])
    big = np.flatnonzero(size >= 4)
    changed = np.sort(rng.choice(big, min(how_many, len(big)), replace=False))
    variants = requests.take(pa.array(changed))
    variants = _replace(variants, "user_mean", pc.add(variants["user_mean"], pa.scalar(0.01, pa.float32())))
    source = pages.request.copy()
    for place, request in enumerate(changed):
        begin = pages.start[request]
        source[begin + size[request] // 2 : begin + size[request]] = len(requests) + place
    return pa.concat_tables([requests, variants]).combine_chunks(), source


def _replace(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, pc.cast(values, field.type))


def _null_user(table: pa.Table) -> pa.Table:
    return _replace(table, "user", pa.nulls(len(table), pa.int64()))


def _rating_out_of_range(table: pa.Table) -> pa.Table:
    return _replace(table, "rating", pa.array(np.full(len(table), 11.0, np.float32)))


def _nan_feature(table: pa.Table) -> pa.Table:
    return _replace(table, "user_mean", pa.array(np.full(len(table), np.nan, np.float32)))


def _event_not_before_request(table: pa.Table) -> pa.Table:
    opened = table["page_opened_at"].to_pylist()
    times = [[*events[:-1], at] for events, at in zip(table["history_ts"].to_pylist(), opened, strict=True)]
    return _replace(table, "history_ts", pa.array(times, table.schema.field("history_ts").type))


def _unequal_lists(table: pa.Table) -> pa.Table:
    shorter = [events[:-1] for events in table["history_rating"].to_pylist()]
    return _replace(table, "history_rating", pa.array(shorter, table.schema.field("history_rating").type))


CHANGES = {
    "exact_duplicates": lambda table: table,
    "null_user": _null_user,
    "rating_out_of_range": _rating_out_of_range,
    "nan_feature": _nan_feature,
    "event_not_before_request": _event_not_before_request,
    "unequal_lists": _unequal_lists,
}
