"""A batch as Arrow, pandas, TorchRec and HTML: the same values, shared memory where it can be, nothing sensitive."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_reader import Jagged, Reader, ReaderError, RequestBatch
from feature_reader.arrow import from_arrow
from feature_reader.testing import assert_batches_equal, batches, specs
from feature_reader.torchrec import keyed, pair
from lakehouse.settings import Settings
from tests.feature_reader.plain import rows_of, same
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

made = specs().flatmap(batches)


@settings(deadline=None, max_examples=40)
@given(batch=made, data=st.data())
def test_arrow_holds_a_request_in_a_row_and_comes_back(batch: RequestBatch, data: st.DataObject) -> None:
    rows = batch.to_arrow()
    rows.validate(full=True)
    assert same(rows.to_pylist(), rows_of(batch))
    assert_batches_equal(from_arrow(rows), batch)
    start = data.draw(st.integers(0, batch.R))
    cut = from_arrow(rows.slice(start))
    assert_batches_equal(cut, batch.slice(start, batch.R))
    sequences = [c.offsets for n, c in cut.request.items() if n.startswith("seq0_") and isinstance(c, Jagged)]
    assert all(offsets is sequences[0] for offsets in sequences)


def test_arrow_copies_no_number() -> None:
    ids, offsets, scores = np.arange(5), np.array([0, 2, 5]), np.arange(4.0).reshape(2, 2)
    batch = RequestBatch({"h": Jagged(ids, offsets), "v": scores}, {"i": np.arange(3)}, np.array([0, 1, 3]), padding=1)
    rows = batch.to_arrow()
    assert rows["h"].buffers()[1].address == offsets.ctypes.data
    assert rows["h"].values.buffers()[1].address == ids.ctypes.data
    assert rows["v"].values.buffers()[1].address == scores.ctypes.data
    assert rows["i"].values.buffers()[1].address == batch["i"].ctypes.data  # type: ignore[union-attr]
    assert from_arrow(rows).padding == 1


def test_arrow_of_columns_without_candidates_keeps_their_number() -> None:
    batch = RequestBatch({"h": np.arange(2)}, {}, np.array([0, 1, 3]))
    assert_batches_equal(from_arrow(batch.to_arrow()), batch)


@pytest.mark.parametrize("rows", [pa.record_batch({"x": [1]}), pa.record_batch({}, schema=pa.schema([]))])
def test_other_rows_are_no_batch(rows: pa.RecordBatch) -> None:
    with pytest.raises(ReaderError, match="not of to_arrow"):
        from_arrow(rows)


@settings(deadline=None, max_examples=20)
@given(batch=made)
def test_pandas_has_a_frame_of_requests_and_one_of_candidates(batch: RequestBatch) -> None:
    requests, candidates = batch.to_pandas()
    rows = rows_of(batch)
    for name in batch.request:
        got = [v.tolist() if isinstance(v, np.ndarray) else v for v in requests[name]]
        assert same(got, [row[name] for row in rows])
    assert candidates.index.tolist() == batch.request_index.tolist()
    for name in batch.candidates:
        got = [v.tolist() if isinstance(v, np.ndarray) else v for v in candidates[name]]
        assert same(got, [value for row in rows for value in row[name]])
    joined = candidates[["item_id"]].join(requests[["user_id"]], on="request")
    assert joined["user_id"].tolist() == batch.expand()["user_id"].tolist()


# ---- notebooks ------------------------------------------------------------------------------------------------------


def test_a_notebook_shows_shapes_and_values_but_nothing_sensitive(settings: Settings) -> None:
    spec = SPECS["shop"]
    table = write_request_table(settings, spec, reference_requests(raw_log(spec), spec))
    reader = Reader(table, batch_requests=5)
    batch = next(iter(reader))
    for shown in (batch, batch.slice(1, 3), batch.torch(), RequestBatch.concat([batch, batch])):
        page = shown._repr_html_()
        assert not [user for user in batch["user_id"].tolist() if str(user) in page]
        assert "***" in page
        assert str(shown["request_id"][0].item()) in page
    page = reader._repr_html_()
    assert "reqlake.shop_requests" in page
    assert f"{reader.plan.requests} requests in" in page
    assert "epoch 0, 5 requests consumed" in page
    assert "user_id" in page


# ---- TorchRec -------------------------------------------------------------------------------------------------------


class StandIn:
    """The part of TorchRec's layout that the bridge relies on (KeyedJaggedTensor's documentation): values by key,
    lengths by key and row, as many rows of a key as its stride, and for each key where an expanded row comes from."""

    def __init__(
        self,
        keys: list[str],
        values: torch.Tensor,
        lengths: torch.Tensor,
        stride: int | None = None,
        stride_per_key_per_rank: list[list[int]] | None = None,
        inverse_indices: tuple[list[str], torch.Tensor] | None = None,
    ) -> None:
        strides = [stride] * len(keys) if stride_per_key_per_rank is None else [sum(s) for s in stride_per_key_per_rank]
        assert values.dtype == torch.int64
        assert len(lengths) == sum(strides)  # type: ignore[arg-type]
        assert len(values) == int(lengths.sum())
        rows = iter(torch.split(values, lengths.tolist()))
        self._keys = keys
        self.rows = {key: [next(rows).tolist() for _ in range(n)] for key, n in zip(keys, strides, strict=True)}  # type: ignore[arg-type]
        self.inverse = inverse_indices

    def keys(self) -> list[str]:
        return self._keys

    def stride(self) -> int:
        assert self.inverse is not None
        return int(self.inverse[1].shape[1])


def lists(tensor: Any) -> dict[str, list[list[int]]]:
    """Key to its rows of ids."""
    if isinstance(tensor, StandIn):
        return tensor.rows
    found = tensor.to_dict()
    return {key: [row.tolist() for row in found[key].to_dense()] for key in found}


def inverse(tensor: Any) -> dict[str, list[int]]:
    """Key to the row that each expanded row comes from."""
    keys, index = tensor.inverse if isinstance(tensor, StandIn) else tensor.inverse_indices()
    return dict(zip(keys, index.tolist(), strict=True))


@pytest.fixture(autouse=True, scope="module")
def torchrec() -> Any:
    """The real one where it can be imported, else the stand-in."""
    patch = pytest.MonkeyPatch()
    try:
        import torchrec as real  # noqa: F401
    except (ImportError, OSError):
        module = ModuleType("torchrec")
        module.KeyedJaggedTensor = StandIn  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "torchrec", module)
    yield
    patch.undo()


def ids_of(batch: RequestBatch) -> list[str]:
    """Columns that hold ids, one or several a row."""
    found = []
    for name, column in [*batch.request.items(), *batch.candidates.items()]:
        values = column.values if isinstance(column, Jagged) else column
        if values.dtype in (np.int64, np.int32):
            found.append(name)
    return found


def plain(batch: RequestBatch, name: str) -> list[list[int]]:
    column = batch[name].tolist()
    return [row if isinstance(row, list) else [row] for row in column]


@settings(deadline=None, max_examples=30)
@given(batch=made)
def test_torchrec_gets_each_request_once_and_each_candidate(batch: RequestBatch) -> None:
    names = ids_of(batch)
    requests, candidates = pair(batch, names)
    assert list(requests.keys()) == [name for name in names if name in batch.request]
    assert lists(requests) | lists(candidates) == {name: plain(batch, name) for name in names}
    both = keyed(batch, {f"key_{name}": name for name in names})
    assert lists(both) == {f"key_{name}": plain(batch, name) for name in names}
    assert both.stride() == batch.C
    expanded = batch.expand()
    for name in names:
        column = expanded[name].tolist()
        wanted = [row if isinstance(row, list) else [row] for row in column]
        assert [lists(both)[f"key_{name}"][i] for i in inverse(both)[f"key_{name}"]] == wanted


def test_torchrec_takes_ids_alone() -> None:
    batch = RequestBatch({"x": np.arange(2.0)}, {"i": np.arange(3)}, np.array([0, 1, 3]))
    with pytest.raises(ReaderError, match=r"column 'x' holds torch\.float64, no ids"):
        pair(batch, ["x"])
    with pytest.raises(KeyError, match="no column 'y'"):
        keyed(batch, {"a": "y"})
    requests, candidates = pair(batch, {"item": "i"})
    assert (list(requests.keys()), lists(candidates)) == ([], {"item": [[0], [1], [2]]})
