"""What the reader yields: each request once, its candidates as jagged rows.

Shapes: `R` requests, `C` candidates of the batch (sum over requests), `V` values of a jagged column, `n` vector size.
Arrays are numpy; `RequestBatch.torch()` gives the same class over torch tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from feature_reader.arrays import Array, arange, concat, is_tensor, offsets_of, repeat, tensor_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Jagged:
    """Rows of unequal length: row i is `values[offsets[i]:offsets[i + 1]]`.

    `values` [V], `offsets` [rows + 1], int64, from 0 to V. Columns that are aligned share one offsets object.
    """

    values: Array
    offsets: Array

    def __len__(self) -> int:
        return int(self.offsets.shape[0]) - 1

    @property
    def lengths(self) -> Array:
        """Length of each row, int64 [rows]."""
        return self.offsets[1:] - self.offsets[:-1]

    def row(self, i: int) -> Array:
        """Row i, a view."""
        return self.values[int(self.offsets[i]) : int(self.offsets[i + 1])]

    def take(self, index: Array) -> Jagged:
        """Rows in the order of `index` int64 [m]; a row may come any number of times."""
        lengths = self.lengths[index]
        offsets = offsets_of(lengths)
        total = int(offsets[-1])
        shift = repeat(self.offsets[:-1][index] - offsets[:-1], lengths, total)
        return Jagged(self.values[shift + arange(total, offsets)], offsets)

    def tolist(self) -> list[list[Any]]:
        """The rows as Python lists."""
        return [self.row(i).tolist() for i in range(len(self))]


Columns: TypeAlias = Mapping[str, "Array | Jagged"]


@dataclass(frozen=True, eq=False)
class Origin:
    """Where each request of a batch was read: `files[file[i]]`, row group and row within the group, [R] each."""

    files: Sequence[str]
    file: np.ndarray
    row_group: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def slice(self, start: int, stop: int) -> Origin:
        """The origins of requests start … stop-1."""
        return Origin(self.files, self.file[start:stop], self.row_group[start:stop], self.row[start:stop])

    def take(self, index: np.ndarray) -> Origin:
        """The origins of these requests, in this order."""
        return Origin(self.files, self.file[index], self.row_group[index], self.row[index])

    def places(self) -> list[tuple[str, int, int]]:
        """(file, row group, row) of each request."""
        files = [self.files[i] for i in self.file]
        return list(zip(files, self.row_group.tolist(), self.row.tolist(), strict=True))

    @classmethod
    def concat(cls, origins: Sequence[Origin]) -> Origin:
        """All origins in order; they are of one plan."""
        return cls(
            origins[0].files,
            np.concatenate([o.file for o in origins]),
            np.concatenate([o.row_group for o in origins]),
            np.concatenate([o.row for o in origins]),
        )


@dataclass(frozen=True)
class Position:
    """A place in the order: an epoch, and how many of its requests all ranks together have been given."""

    epoch: int
    requests_consumed: int
    damage: tuple[tuple[str, int, int], ...] = ()
    """What the process that read the batch has had to leave out: (file, row group, requests) of each place."""


@dataclass(frozen=True, eq=False)
class RequestBatch:
    """R requests and their C candidates.

    `request`: user_id, request_id, request_ts (µs UTC), request_hash, request features (scalar [R], vector [R, n],
    list Jagged over R), and each sequence field as `<sequence>_<field>`, Jagged over R (fields of one sequence share
    one offsets object). `candidates`: item_id, position, impression_ts, candidate features (scalar [C], vector [C, n],
    list Jagged over C) and the labels by name (float32 [C], NaN where unknown). Candidates of request i are
    `candidate_offsets[i]:candidate_offsets[i + 1]` (int64 [R + 1]).

    `after` is the reader's place once this batch is used: `Reader.state_dict(batch)` is the state to resume from.
    The last `padding` requests are repeats that only even out the ranks' steps: give them no weight (`weight`).
    Two batches are never `==`: compare with `feature_reader.testing.assert_batches_equal`.
    """

    request: Columns
    candidates: Columns
    candidate_offsets: Array
    padding: int = 0
    origin: Origin | None = None
    after: Position | None = None
    sensitive: frozenset[str] = frozenset()
    """Columns whose values are not to be shown (`_repr_html_`)."""

    def __len__(self) -> int:
        return self.R

    @property
    def R(self) -> int:  # noqa: N802 - the shape letter of the whole project
        """Requests of the batch."""
        return int(self.candidate_offsets.shape[0]) - 1

    @property
    def C(self) -> int:  # noqa: N802
        """Candidates of the batch."""
        return int(self.candidate_offsets[-1])

    @property
    def request_index(self) -> Array:
        """The request of each candidate, int64 [C]."""
        offsets = self.candidate_offsets
        return repeat(arange(self.R, offsets), offsets[1:] - offsets[:-1], self.C)

    @property
    def weight(self) -> Array:
        """1 for each request, 0 for padding: float32 [R]."""
        real = arange(self.R, self.candidate_offsets) < self.R - self.padding
        return real.float() if is_tensor(real) else real.astype(np.float32)

    def __getitem__(self, name: str) -> Array | Jagged:
        """A column by name, of the requests or of the candidates."""
        if name in self.request:
            return self.request[name]
        if name in self.candidates:
            return self.candidates[name]
        known = ", ".join([*self.request, *self.candidates])
        raise KeyError(f"no column {name!r} in the batch, it has {known}")

    def __contains__(self, name: object) -> bool:
        return name in self.request or name in self.candidates

    # ---- other cuts of the same data ------------------------------------------------------------------------------

    def slice(self, start: int, stop: int) -> RequestBatch:
        """Requests start … stop-1 with their candidates: views, but for the offsets."""
        start, stop, _ = slice(start, stop).indices(self.R)
        stop = max(start, stop)
        first, last = int(self.candidate_offsets[start]), int(self.candidate_offsets[stop])
        cut = _Cut()
        return replace(
            self,
            request={name: cut(column, start, stop) for name, column in self.request.items()},
            candidates={name: cut(column, first, last) for name, column in self.candidates.items()},
            candidate_offsets=cut.offsets(self.candidate_offsets, start, stop),
            padding=max(0, stop - max(start, self.R - self.padding)),
            origin=self.origin.slice(start, stop) if self.origin is not None else None,
            after=None,
        )

    def expand(self) -> dict[str, Array | Jagged]:
        """The C impression rows: request columns repeated for each candidate, candidate columns as they are."""
        index, total = self.request_index, self.C
        counts = self.candidate_offsets[1:] - self.candidate_offsets[:-1]
        rows: dict[str, Array | Jagged] = {}
        for name, column in self.request.items():
            rows[name] = column.take(index) if isinstance(column, Jagged) else repeat(column, counts, total)
        return rows | dict(self.candidates)

    @classmethod
    def concat(cls, batches: Sequence[RequestBatch]) -> RequestBatch:
        """The requests of all batches in order. The batches have the same columns; only the last may be padded."""
        if len(batches) == 1:
            return batches[0]
        join = _Join()
        first = batches[0]
        origins = [b.origin for b in batches]
        return cls(
            {name: join([b.request[name] for b in batches]) for name in first.request},
            {name: join([b.candidates[name] for b in batches]) for name in first.candidates},
            join.offsets([b.candidate_offsets for b in batches]),
            batches[-1].padding,
            Origin.concat([o for o in origins if o is not None]) if None not in origins else None,
            sensitive=first.sensitive,
        )

    # ---- other faces ----------------------------------------------------------------------------------------------

    def to_arrow(self) -> pa.RecordBatch:
        """One row a request, its candidates as lists; numbers are not copied (feature_reader.arrow)."""
        from feature_reader.arrow import to_arrow

        return to_arrow(self)

    def to_pandas(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """A frame of the requests, and one of the candidates indexed by their request's row."""
        from feature_reader.arrow import to_pandas

        return to_pandas(self)

    def _repr_html_(self) -> str:
        from feature_reader.notebook import batch_html

        return batch_html(self)

    # ---- where the arrays lie -------------------------------------------------------------------------------------

    def torch(self, device: Any = None) -> RequestBatch:
        """The same batch over torch tensors, which share the arrays' memory on the CPU; on `device` if given."""
        batch = self if is_tensor(self.candidate_offsets) else self.map(tensor_of)
        return batch if device is None else batch.to(device)

    def numpy(self) -> RequestBatch:
        """The same batch over numpy arrays."""
        return self.map(lambda x: x.cpu().numpy()) if is_tensor(self.candidate_offsets) else self

    def to(self, device: Any, *, non_blocking: bool = False) -> RequestBatch:
        """The same batch as tensors on a device: one copy for each dtype."""
        from feature_reader.transfer import moved

        return self.torch().map_all(lambda tensors: moved(tensors, device, non_blocking=non_blocking))

    def pin_memory(self) -> RequestBatch:
        """The same batch as tensors in page-locked memory, for a copy that does not block."""
        from feature_reader.transfer import packed

        return self.torch().map_all(lambda tensors: packed(tensors, pin=True))

    def record_stream(self, stream: Any) -> None:
        """Tell the CUDA allocator that `stream` uses these tensors."""
        self.map(lambda x: x.record_stream(stream))

    def map_all(self, change: Callable[[list[Array]], list[Array]]) -> RequestBatch:
        """The same batch with all its arrays changed at once; shared arrays are given once and stay shared."""
        arrays: list[Array] = []
        self.map(arrays.append)
        changed = dict(zip(map(id, arrays), change(arrays), strict=True))
        return self.map(lambda x: changed[id(x)])

    def map(self, change: Callable[[Array], Array]) -> RequestBatch:
        """The same batch with each array changed; arrays that columns share are changed once and stay shared."""
        done: dict[int, tuple[Array, Array]] = {}  # the original is kept, or its id could be used again

        def once(array: Array) -> Array:
            if id(array) not in done:
                done[id(array)] = (array, change(array))
            return done[id(array)][1]

        def column(c: Array | Jagged) -> Array | Jagged:
            return Jagged(once(c.values), once(c.offsets)) if isinstance(c, Jagged) else once(c)

        return replace(
            self,
            request={name: column(c) for name, c in self.request.items()},
            candidates={name: column(c) for name, c in self.candidates.items()},
            candidate_offsets=once(self.candidate_offsets),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays; shared offsets count once."""
        seen: dict[int, int] = {}
        self.map(lambda x: seen.setdefault(id(x), int(x.nbytes)))
        return sum(seen.values())

    def __repr__(self) -> str:
        where = f", {self.candidate_offsets.device}" if is_tensor(self.candidate_offsets) else ""
        lines = [f"RequestBatch(R={self.R}, C={self.C}{where}, padding={self.padding})"]
        for part, columns in (("request", self.request), ("candidates", self.candidates)):
            lines += [f"  {part}: " + ", ".join(_describe(name, column) for name, column in columns.items())]
        return "\n".join(lines)


class _Cut:
    """Slices columns to a row range; shared offsets stay shared."""

    def __init__(self) -> None:
        self._done: dict[tuple[int, int, int], Array] = {}

    def offsets(self, offsets: Array, start: int, stop: int) -> Array:
        key = (id(offsets), start, stop)
        if key not in self._done:
            self._done[key] = offsets[start : stop + 1] - offsets[start]
        return self._done[key]

    def __call__(self, column: Array | Jagged, start: int, stop: int) -> Array | Jagged:
        if not isinstance(column, Jagged):
            return column[start:stop]
        low, high = int(column.offsets[start]), int(column.offsets[stop])
        return Jagged(column.values[low:high], self.offsets(column.offsets, start, stop))


class _Join:
    """Concatenates columns; shared offsets stay shared."""

    def __init__(self) -> None:
        self._done: dict[tuple[int, ...], Array] = {}

    def offsets(self, parts: list[Array]) -> Array:
        key = tuple(id(p) for p in parts)
        if key not in self._done:
            self._done[key] = offsets_of(concat([p[1:] - p[:-1] for p in parts]))
        return self._done[key]

    def __call__(self, parts: Sequence[Array | Jagged]) -> Array | Jagged:
        if isinstance(parts[0], Jagged):
            return Jagged(concat([p.values for p in parts]), self.offsets([p.offsets for p in parts]))
        return concat(list(parts))


def _describe(name: str, column: Array | Jagged) -> str:
    values = column.values if isinstance(column, Jagged) else column
    shape = f"{len(column)} rows, {values.shape[0]}" if isinstance(column, Jagged) else "×".join(map(str, values.shape))
    return f"{name} {str(values.dtype).removeprefix('torch.')}[{shape}]"
