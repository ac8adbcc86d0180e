"""The batch: cuts, joins and expansions keep every value in its place, in numpy and in torch alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_reader import Jagged, RequestBatch, collate
from feature_reader.decode import Decoder
from feature_reader.layout import build_layout, sequence_siblings
from feature_reader.testing import assert_batches_equal, batches, specs, tables
from lakehouse.schema import arrow_schema, iceberg_schema
from lakehouse.spec import DatasetSpec
from tests.feature_reader.plain import expected_rows, rows_of, same

made = specs().flatmap(batches)


@settings(deadline=None, max_examples=30)
@given(batch=made, data=st.data())
def test_cuts_and_joins_are_the_rows(batch: RequestBatch, data: st.DataObject) -> None:
    rows = rows_of(batch)
    at = data.draw(st.integers(0, batch.R))
    first, second = batch.slice(0, at), batch.slice(at, batch.R)
    assert same(rows_of(first) + rows_of(second), rows)
    assert_batches_equal(RequestBatch.concat([first, second]), batch)
    for part in (first, second):
        for sequence in {n.rsplit("_", 1)[0] for n in part.request if n.startswith("seq")}:
            offsets = {id(part.request[n].offsets) for n in part.request if n.startswith(f"{sequence}_")}
            assert len(offsets) == 1


@settings(deadline=None, max_examples=30)
@given(batch=made)
def test_expansion_repeats_the_request_for_each_candidate(batch: RequestBatch) -> None:
    expanded, rows = batch.expand(), rows_of(batch)
    index = batch.request_index
    assert index.tolist() == [r for r, row in enumerate(rows) for _ in row["item_id"]]
    for name, column in expanded.items():
        values = column.tolist()
        assert len(values) == batch.C
        wanted = (
            [rows[r][name] for r in index] if name in batch.request else [value for row in rows for value in row[name]]
        )
        assert same(values, wanted)


@settings(deadline=None, max_examples=15)
@given(batch=made)
def test_torch_gives_the_same_and_comes_back(batch: RequestBatch) -> None:
    tensors = batch.torch()
    assert_batches_equal(tensors.numpy(), batch)
    assert_batches_equal(tensors.slice(1, batch.R), batch.slice(1, batch.R))
    assert_batches_equal(RequestBatch.concat([tensors, tensors]), RequestBatch.concat([batch, batch]))
    assert tensors.to("cpu").nbytes == tensors.nbytes == batch.nbytes
    for name, column in batch.expand().items():
        other: Any = tensors.expand()[name]
        assert same(column.tolist(), other.tolist())


@settings(deadline=None, max_examples=30)
@given(batch=made, data=st.data())
@pytest.mark.parametrize("reach", [5, collate.REACH])
def test_a_window_gathers_any_requests_in_any_order(reach: int, batch: RequestBatch, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, batch.R))
    units = [batch.slice(0, at), *([batch.slice(at, batch.R)] if at < batch.R else [])]
    chosen = np.array(data.draw(st.lists(st.integers(0, batch.R - 1), min_size=1, max_size=12)))
    slot = (chosen >= at).astype(np.int64)
    wanted = rows_of(batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collate, "REACH", reach)  # 5: buffers of 32 bytes, as those beyond 2^30 are cut
        got = collate.Window(units).take(slot, chosen - slot * at)
    assert same(rows_of(got), [wanted[i] for i in chosen])
    assert all(np.asarray(c.values if isinstance(c, Jagged) else c).flags.writeable for c in got.request.values())


@settings(deadline=None, max_examples=40)
@given(data=st.data(), spec=specs())
def test_any_table_decodes_to_what_its_rows_say(data: st.DataObject, spec: DatasetSpec) -> None:
    table = data.draw(tables(spec))
    assert table.schema == arrow_schema(spec)
    schema = iceberg_schema(spec)
    decoder = Decoder(build_layout(spec, schema, None), sequence_siblings(spec, schema))
    rows = rows_of(decoder(table, {f.field_id: f.name for f in schema.fields}, "here"))
    assert same({row["request_id"]: row for row in rows}, expected_rows(table, spec))


def test_padding_has_no_weight_and_follows_cuts() -> None:
    batch = RequestBatch({"x": np.arange(4)}, {}, np.arange(5), padding=2)
    assert batch.weight.tolist() == [1, 1, 0, 0]
    assert batch.slice(1, 3).weight.tolist() == [1, 0]
    assert batch.slice(0, 2).padding == 0
    assert batch.torch().weight.tolist() == [1, 1, 0, 0]


def test_a_batch_describes_itself_and_names_what_it_lacks() -> None:
    offsets = np.array([0, 2])
    batch = RequestBatch({"h": Jagged(np.arange(2), offsets)}, {"i": np.arange(1)}, np.array([0, 1]))
    assert repr(batch).splitlines() == [
        "RequestBatch(R=1, C=1, padding=0)",
        "  request: h int64[1 rows, 2]",
        "  candidates: i int64[1]",
    ]
    with pytest.raises(KeyError, match="no column 'x' in the batch, it has h, i"):
        batch["x"]


def test_differences_are_named() -> None:
    a = RequestBatch({"x": np.arange(2)}, {}, np.arange(3))
    with pytest.raises(AssertionError, match="x: int64"):
        assert_batches_equal(a, RequestBatch({"x": np.arange(2.0)}, {}, np.arange(3)))
    with pytest.raises(AssertionError, match="columns"):
        assert_batches_equal(a, RequestBatch({}, {}, np.arange(3)))
