"""Which columns of a sample are its keys: guessed by name, checked by what has to hold between keys.

A request has one user, one time and one history; an item appears once in it. What cannot be told from the data is said
in a comment of the draft, so that a person confirms it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lakehouse.errors import SpecError
from lakehouse.spec import naming
from lakehouse.spec.dataset import DatasetSpec
from lakehouse.spec.sample import Groups, Sample, is_list
from lakehouse.spec.types import FeatureType

CONSTANT = 0.95  # share of requests in which a column has to agree with itself to be the request's
LEAST_GROUPS = 20
GAP = "30m"
EPOCHS = {"s": 1, "ms": 1_000, "us": 1_000_000}
SANE_YEARS = (631_152_000, 4_102_444_800)  # 1990 … 2100 in seconds


@dataclass(frozen=True)
class Time:
    """A column that holds times, and what a spec has to say to read them."""

    column: str
    unit: str | None = None
    zone: str | None = None

    def entry(self) -> str | dict[str, str]:
        """The column as a spec writes it."""
        more = {k: v for k, v in (("unit", self.unit), ("zone", self.zone)) if v}
        return {"column": self.column} | more if more else self.column


@dataclass
class Keys:
    """The guessed keys, the rows' request groups, and what to confirm about each."""

    user: str
    request: str | None  # None: by a gap in time
    request_ts: Time
    item: str
    impression_ts: Time | None = None
    position: str | None = None
    version: str | None = None
    groups: Groups = field(default_factory=lambda: Groups(np.zeros(0, np.int64)))  # the requests
    repeats_items: bool = False  # an item is shown at several positions of a request
    comments: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> set[str]:
        """The raw columns that the keys are read from."""
        times = {t.column for t in (self.request_ts, self.impression_ts) if t}
        return {c for c in (self.user, self.request, self.item, self.position, self.version) if c} | times


def element_of(kind: pa.DataType) -> str | None:
    """The spec's element of an Arrow type, or None where there is none."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = {
        "bool": pa.types.is_boolean,
        "long": lambda t: pa.types.is_int64(t) or pa.types.is_uint32(t),
        "int": lambda t: pa.types.is_integer(t) and not pa.types.is_uint64(t),
        "double": pa.types.is_float64,
        "float": pa.types.is_floating,
        "string": lambda t: pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t),
        "timestamp": pa.types.is_timestamp,
    }
    return next((name for name, test in tests.items() if test(kind)), None)


def type_of(kind: pa.DataType) -> FeatureType | None:
    """The spec's type of an Arrow type, or None: maps, decimals, binaries and lists of lists have none."""
    if pa.types.is_fixed_size_list(kind) and (element := element_of(kind.value_type)):
        return FeatureType(element, "vector", kind.list_size)  # type: ignore[arg-type]
    element = element_of(kind.value_type if is_list(kind) else kind)
    return FeatureType(element, "list" if is_list(kind) else "scalar") if element else None  # type: ignore[arg-type]


def time_of(column: str, values: pa.ChunkedArray) -> Time | None:
    """How to read a column (or a list's elements) as times; None where it holds none."""
    kind = values.type
    if pa.types.is_timestamp(kind):
        return Time(column, zone=None if kind.tz else "UTC")
    if pa.types.is_integer(kind) and naming.TIME & set(naming.words(column)) and values.null_count < len(values):
        middle = float(pc.approximate_median(values).as_py())
        unit = next((u for u, scale in EPOCHS.items() if SANE_YEARS[0] <= middle / scale <= SANE_YEARS[1]), None)
        return Time(column, unit=unit) if unit else None
    return None


def guess_keys(sample: Sample) -> Keys:
    """The keys of a sample. Raises SpecError that says which key could not be found and how to go on."""
    ids = [n for n in sample.names if element_of(sample.table.schema.field(n).type) in ("int", "long", "string")]
    times = [
        t for n in sample.names if (t := time_of(n, sample.table[n])) and not is_list(sample.table.schema.field(n).type)
    ]
    ids = [n for n in ids if n not in {t.column for t in times}]
    if not times:
        raise SpecError(
            f"no column of {sample.source} holds times, so none can be the request's: add one (timestamp, or epoch)"
        )
    user = _user(sample, ids)
    request = _request(sample, ids, user)
    groups = sample.groups(user, request) if request else _by_gap(sample, user, times)
    request_ts, impression_ts = _times(sample, times, groups)
    item = _item(sample, [n for n in ids if n not in (user, request)], groups)
    keys = Keys(user, request, request_ts, item, impression_ts, groups=groups)
    _order(sample, [n for n in ids if n not in keys.columns], keys)
    _comment(sample, keys)
    return keys


def keys_of(spec: DatasetSpec, sample: Sample) -> Keys:
    """The keys that a spec names, over a sample; where it names no request column, runs of a user in time."""
    of = spec.keys
    request_ts = Time(of.request_ts.column, of.request_ts.unit, of.request_ts.zone)
    user, request = of.user_id.column, of.request_id.column
    impression = of.impression_ts.column if of.impression_ts else request_ts.column
    groups = sample.groups(user, request) if request else _by_gap(sample, user, [Time(impression)])
    return Keys(user, request, request_ts, of.item_id.column, groups=groups)


def _user(sample: Sample, ids: list[str]) -> str:
    named = [n for n in ids if naming.score(n, naming.USER) and sample.share_null(n) < 0.5]
    if not named:
        raise SpecError(
            f"no column of {sample.source} is named like a user (user, user_id, member_id, device_id …), columns are "
            f"{', '.join(sample.names)}. Rename one, or write the spec by hand: docs/spec.md"
        )
    return max(named, key=lambda n: (naming.score(n, naming.USER), -ids.index(n)))


def _request(sample: Sample, ids: list[str], user: str) -> str | None:
    """The column that, with the user, fixes what a request's rows share: the lists, or the most other columns."""
    lists = [n for n in sample.names if is_list(sample.table.schema.field(n).type)]
    best: tuple[float, str] | None = None
    for name in (n for n in ids if n != user):
        groups = sample.groups(user, name)
        if groups.count > 0.95 * len(groups.of) or groups.count == sample.distinct(user):
            continue  # one row each, or no more than the user itself
        shares = [sample.agreement(other, groups) for other in sample.names if other not in (user, name)]
        fixed = np.array(shares) >= CONSTANT
        wide = [sample.agreement(other, groups) >= CONSTANT for other in lists]
        named = naming.score(name, naming.REQUEST)
        # Half of the lists: the candidates' own lists (genres, tags) differ inside a request.
        if (wide and np.mean(wide) < 0.5) or not (fixed.any() and (named or wide)):
            continue
        rating = named + 3 * float(fixed.mean()) + (element_of(sample.table.schema.field(name).type) == "string")
        if best is None or rating > best[0]:
            best = rating, name
    return best[1] if best else None


def _by_gap(sample: Sample, user: str, times: list[Time]) -> Groups:
    """Runs of a user's rows without a pause of 30 minutes, by the time that varies most."""
    time = max(times, key=lambda t: sample.distinct(t.column))
    seconds = _seconds(sample, time)
    order = np.lexsort((seconds, sample.codes(user)))
    who, at = sample.codes(user)[order], seconds[order]
    starts = np.r_[True, (who[1:] != who[:-1]) | (np.diff(at) > 1800)]
    groups = np.empty(len(order), np.int64)
    groups[order] = np.cumsum(starts) - 1
    return Groups(groups)


def _seconds(sample: Sample, time: Time) -> NDArray[np.float64]:
    values = sample.table[time.column].combine_chunks()
    if pa.types.is_timestamp(values.type):
        values, scale = values.cast(pa.timestamp("us", values.type.tz), safe=False).cast(pa.int64()), 1_000_000
    else:
        scale = EPOCHS[time.unit or "s"]
    seconds: NDArray[np.float64] = pc.fill_null(values.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False) / scale
    return seconds


def _times(sample: Sample, times: list[Time], groups: Groups) -> tuple[Time, Time | None]:
    """The request's time (constant in it, if any is) and the impression's (the first that is not)."""
    fixed = [t for t in times if sample.agreement(t.column, groups) >= CONSTANT]
    varied = [t for t in times if t not in fixed and not _is_label_time(sample, t.column)]
    of = max(fixed or times, key=lambda t: (naming.score(t.column, naming.REQUEST_TIME), not t.unit))
    return of, next((t for t in varied if t != of), None) if fixed else of


def _is_label_time(sample: Sample, column: str) -> bool:
    """Whether it reads like the time of an outcome: `click_time`, or `x_time` beside a column `x`."""
    first = naming.words(column)[:1]
    return naming.is_label(column) or any(naming.words(n) == first for n in sample.names)


def _item(sample: Sample, ids: list[str], groups: Groups) -> str:
    varied = [n for n in ids if sample.agreement(n, groups) < CONSTANT]
    if not varied:
        raise SpecError(
            f"no id column of {sample.source} differs between the rows of one request, so none can be the item. Are "
            "the rows impressions (one row per request and item)? If so, write the spec by hand: docs/spec.md"
        )
    lists = [n for n in sample.names if is_list(sample.table.schema.field(n).type) and n not in ids]
    listed = [n for n in lists if sample.agreement(n, groups) >= CONSTANT]

    def rating(name: str) -> tuple[float, int]:
        in_history = max((overlap(sample.table[n], sample.table[name]) for n in listed), default=0.0)
        return naming.score(name, naming.ITEM) + 3 * in_history, sample.distinct(name)

    return max(varied, key=rating)


def overlap(listed: pa.ChunkedArray, values: pa.ChunkedArray) -> float:
    """Share of a list column's distinct values that a scalar column of the same type holds too."""
    if listed.type.value_type != values.type:
        return 0.0
    inside = pc.unique(pc.list_flatten(listed)).drop_null()
    known = pc.is_in(inside, value_set=pc.unique(values))
    return float(pc.mean(known.cast(pa.int8())).as_py() or 0.0) if len(inside) else 0.0


def _order(sample: Sample, ids: list[str], keys: Keys) -> None:
    """The position and the row version, where columns are named so and behave so."""
    for name in ids:
        integer = element_of(sample.table.schema.field(name).type) in ("int", "long")
        if not integer or naming.STATISTIC & set(naming.words(name)):
            continue
        if (
            naming.POSITION & set(naming.words(name))
            and keys.position is None
            and sample.agreement(name, keys.groups) < CONSTANT
        ):
            keys.position = name
        elif naming.VERSION & set(naming.words(name)) and keys.version is None:
            keys.version = name


def _comment(sample: Sample, keys: Keys) -> None:
    say = keys.comments
    rows, count = len(keys.groups.of), keys.groups.count
    say["keys.user_id"] = f"{sample.distinct(keys.user):,} users in the sample"
    if keys.request:
        say["keys.request_id"] = (
            f"{rows / count:.1f} rows a request in the sample; confirm that it names one opening of a feed"
        )
    else:
        say["keys.request_id"] = (
            f"no column names the request: runs of a user's rows without a pause of {GAP}; confirm the pause"
        )
    share = sample.agreement(keys.request_ts.column, keys.groups)
    say["keys.request_ts"] = (
        f"one time in {share:.1%} of the requests"
        if share >= CONSTANT
        else "not constant in a request: its least is taken; confirm"
    )
    pairs = sample.groups(keys.user, *([keys.request] if keys.request else []), keys.item)
    repeats = 1 - pairs.count / rows
    say["keys.item_id"] = "confirm that it names what was shown" + (
        f"; {repeats:.1%} of the rows repeat one" if repeats > 0 else ""
    )
    if keys.request_ts.zone:
        say["keys.request_ts"] += "; the log has no time zone: confirm the zone"
    if keys.impression_ts and keys.impression_ts.column != keys.request_ts.column:
        say["keys.impression_ts"] = "differs inside a request"
    if keys.position and repeats > 0:
        by_place = sample.groups(keys.user, *([keys.request] if keys.request else []), keys.position)
        keys.repeats_items = by_place.count > pairs.count
    if keys.version:
        say["keys.row_version"] = "of two rows of one impression the greater is taken to be newer; confirm"
