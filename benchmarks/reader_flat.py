"""Readers of flat rows, one row per impression, each with the same plain collate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from feature_reader.arrays import tensor_of


def flat_readers(paths: list[Path], threads: int, batch_rows: int) -> dict[str, Callable[[], Any]]:
    """Ways to go through flat Parquet files once, by name; Hugging Face's reads in one thread, as it does."""
    names = [str(path) for path in paths]
    data = ds.dataset(names)
    loader = DataLoader(FlatRows(paths), batch_size=None, num_workers=threads)
    stream = datasets.load_dataset("parquet", data_files=names, split="train", streaming=True).with_format("arrow")

    def scan() -> None:
        for chunk in data.scanner(batch_size=batch_rows, batch_readahead=4, fragment_readahead=threads).to_batches():
            flat_batch(chunk)

    def hugging_face() -> None:
        for chunk in stream.iter(batch_size=batch_rows):
            flat_batch(chunk.combine_chunks())

    return {
        "pyarrow.dataset": scan,
        "DataLoader workers": lambda: sum(1 for _ in loader),
        "HF datasets streaming": hugging_face,
    }


class FlatRows(IterableDataset[dict[str, Any]]):
    """Row groups of flat files as tensors, dealt to worker processes: what a plain PyTorch pipeline does."""

    def __init__(self, paths: list[Path]) -> None:
        self.groups = [(p, g) for p in paths for g in range(pq.ParquetFile(p).num_row_groups)]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        for path, group in self.groups[worker.id :: worker.num_workers] if worker else self.groups:
            yield flat_batch(pq.ParquetFile(path).read_row_group(group, use_threads=False).combine_chunks())


def flat_batch(rows: pa.Table | pa.RecordBatch) -> dict[str, Any]:
    """A plain collate of flat rows: values and offsets as tensors, strings as codes."""
    out: dict[str, Any] = {}
    for name in rows.schema.names:
        column = rows[name]
        array = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        if pa.types.is_list(array.type):
            out[name] = tensor_of(array.flatten().view(_number(array.type.value_type)).to_numpy(zero_copy_only=False))
            out[f"{name}.offsets"] = tensor_of(array.offsets.to_numpy().astype(np.int64))
        elif pa.types.is_string(array.type):
            out[name] = tensor_of(array.dictionary_encode().indices.to_numpy())
        else:
            out[name] = tensor_of(array.view(_number(array.type)).to_numpy(zero_copy_only=False))
    return out


def _number(kind: pa.DataType) -> pa.DataType:
    return pa.int64() if pa.types.is_timestamp(kind) else kind
