"""The fingerprint of request features: equal for equal values however they lie, different for different ones."""

from __future__ import annotations

import importlib
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_jobs.arrow_fingerprint import TYPES, Wide, column_words, conform, newest_events, row_fingerprints
from spark_jobs.worker import forget_archives

LONGS, LONG = Wide("x", "long", listed=True), Wide("x", "long", listed=False)
LISTS = [None, [], [1], [1, 2], [2, 1], [0], [None], [None, None], [1, None], [None, 1], [0, None], [None, 0]]
OF_ELEMENT = {
    "bool": [True, False],
    "int": [1, -1, 0],
    "long": [1, -1, 2**62],
    "float": [1.5, float("inf"), 0.0],
    "double": [1.5, float("-inf"), 0.0],
    "string": ["a", "", "ü", "ab"],
    "timestamp": [0, 1, -1],
}


def prints(*columns: tuple[pa.Array, Wide]) -> list[int]:
    words = [column_words(conform(array, column), column) for array, column in columns]
    return row_fingerprints(words, len(columns[0][0])).tolist()


def test_lists_that_differ_are_told_apart() -> None:
    pairs = [(a, b) for a in LISTS for b in LISTS]
    kind = pa.list_(pa.int64())
    found = prints((pa.array([a for a, _ in pairs], kind), LONGS), (pa.array([b for _, b in pairs], kind), LONGS))
    assert len(set(found)) == len(pairs)


def test_nulls_and_zeros_in_scalars_are_told_apart() -> None:
    pairs = [(a, b) for a in (None, 0, 1) for b in (None, 0, 1)]
    found = prints((pa.array([a for a, _ in pairs]), LONG), (pa.array([b for _, b in pairs]), LONG))
    assert len(set(found)) == len(pairs)


def test_texts_that_join_to_the_same_are_told_apart() -> None:
    values = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["", "abc"], [None, "abc"]]
    assert len(set(prints((pa.array(values), Wide("x", "string", listed=True))))) == len(values)


@pytest.mark.parametrize("element", TYPES)
def test_every_element_tells_its_values_apart(element: str) -> None:
    values = pa.array([*OF_ELEMENT[element], None], TYPES[element])
    assert len(set(prints((values, Wide("x", element, listed=False))))) == len(values)
    lists = pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), values)
    assert len(set(prints((lists, Wide("x", element, listed=True))))) == len(values)


def test_negative_zero_is_zero_and_every_nan_is_one() -> None:
    odd = np.array([0x7FF8000000000001, 0x7FF8000000000000, 0xFFF8000000000000], np.uint64).view(np.float64)
    column = Wide("x", "double", listed=False)
    assert len(set(prints((pa.array(odd), column)))) == 1
    assert len(set(prints((pa.array([0.0, -0.0]), column)))) == 1
    assert len(set(prints((pa.array([[0.0], [-0.0]]), Wide("x", "double", listed=True))))) == 1


@given(st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-100, 100)))), min_size=1), st.data())
def test_slices_chunks_and_raw_widths_make_no_difference(values: list[Any], data: st.DataObject) -> None:
    whole = prints((pa.array(values, pa.list_(pa.int64())), LONGS))
    start = data.draw(st.integers(0, len(values) - 1))
    for kind in (pa.list_(pa.int8()), pa.list_(pa.int32()), pa.large_list(pa.int64())):
        array = pa.array(values, kind)
        assert prints((array, LONGS)) == whole
        assert prints((array.slice(start), LONGS)) == whole[start:]


def test_a_null_list_over_values_is_null() -> None:
    held = pa.ListArray.from_arrays(pa.array([0, 2, 3]), pa.array([1, 2, 3]), mask=pa.array([True, False]))
    assert prints((held, LONGS)) == prints((pa.array([None, [3]]), LONGS))


def test_the_fingerprint_is_what_it_was() -> None:
    """Tables hold it as a key: it may never change."""
    lists, numbers = pa.array([[1, 2], [], [1, None], None]), pa.array([7, None, -1, 0])
    texts = pa.array([["ü", None], ["a"], [], None])
    found = prints((lists, LONGS), (numbers, LONG), (texts, Wide("x", "string", listed=True)))
    assert found == GOLDEN
    assert prints((pa.array([1.5, None]), Wide("x", "float", listed=False))) == GOLDEN_FLOAT


def test_no_columns_have_the_fingerprint_zero() -> None:
    assert row_fingerprints([], 2).tolist() == [0, 0]


def test_the_newest_event_is_at_the_ends_of_the_lists() -> None:
    kind = pa.list_(TYPES["timestamp"])
    rising, falling = pa.array([[1, 5], [], None, None], kind), pa.array([[4, 2], [3, 1], [9], None], kind)
    found = newest_events([(rising, True), (falling, False)], 4)
    assert found.cast(pa.int64()).to_pylist() == [5, 3, 9, None]
    assert newest_events([], 2).to_pylist() == [None, None]


GOLDEN = [-7972288194583423202, 5752576652019672022, 7708865375346927449, -3799809341901447166]
GOLDEN_FLOAT = [6446429866839101742, 3547760990396968576]


def test_finders_of_zipped_packages_are_dropped_and_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "zipped.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("zipped_pack/__init__.py", "")
        packed.writestr("zipped_pack/one.py", "value = 1")
    monkeypatch.syspath_prepend(archive)
    importlib.import_module("zipped_pack")
    assert str(archive) in sys.path_importer_cache
    forget_archives()
    assert str(archive) not in sys.path_importer_cache
    assert importlib.import_module("zipped_pack.one").value == 1
    for name in ("zipped_pack", "zipped_pack.one"):
        sys.modules.pop(name)
