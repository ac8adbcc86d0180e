"""Batches for TorchRec: `KeyedJaggedTensor`s in which each request's ids lie once.

`pair(batch, …)` gives a tensor over the R requests and one over the C candidates, for two embedding collections that
share their tables. `keyed(batch, …)` gives one for both, with a stride of R or C for each key and `inverse_indices`,
which TorchRec's pooled collections expand to the C candidates after their look-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from feature_reader.arrays import Array
from feature_reader.batch import Columns, Jagged, RequestBatch
from feature_reader.errors import ReaderError
from lakehouse.errors import NotInstalledError

try:
    import torch
except ModuleNotFoundError as missing:
    raise NotInstalledError("torch", "train") from missing

Features = Mapping[str, str] | Iterable[str]


def pair(batch: RequestBatch, features: Features) -> tuple[Any, Any]:
    """(KJT of the request columns, stride R; KJT of the candidate columns, stride C) of the named id columns.

    `features` are names of integer columns, or a TorchRec key for each: `{"clip": "watched_clip"}`. Raises ReaderError
    for a column that holds no ids.
    """
    batch = batch.torch()
    kinds = _by_part(batch, features)
    device = batch.candidate_offsets.device
    return (
        _keyed(kinds["request"], batch.request, device, stride=batch.R),
        _keyed(kinds["candidates"], batch.candidates, device, stride=batch.C),
    )


def keyed(batch: RequestBatch, features: Features) -> Any:
    """One KJT whose pooled embeddings are [C, …] for every key: a request's are looked up once and then repeated."""
    batch = batch.torch()
    kinds = _by_part(batch, features)
    keys = [*kinds["request"], *kinds["candidates"]]
    values, lengths = _columns(
        [*_named(kinds["request"], batch.request), *_named(kinds["candidates"], batch.candidates)],
        batch.candidate_offsets.device,
    )
    owner = batch.request_index
    itself = torch.arange(batch.C, device=owner.device)
    inverse = [owner] * len(kinds["request"]) + [itself] * len(kinds["candidates"])
    strides = [[batch.R]] * len(kinds["request"]) + [[batch.C]] * len(kinds["candidates"])
    return _tensor()(
        keys=keys,
        values=values,
        lengths=lengths,
        stride_per_key_per_rank=strides,
        inverse_indices=(keys, torch.stack(inverse) if inverse else owner.new_zeros(0, batch.C)),
    )


def _tensor() -> Any:
    try:
        return import_module("torchrec").KeyedJaggedTensor
    except ModuleNotFoundError as error:
        raise ReaderError("torchrec is not installed: pip install torchrec, in the version for your torch") from error


def _by_part(batch: RequestBatch, features: Features) -> dict[str, dict[str, str]]:
    """TorchRec's key to the column, of the requests and of the candidates."""
    named = dict(features) if isinstance(features, Mapping) else {name: name for name in features}
    for column in named.values():
        batch[column]
    return {
        part: {key: column for key, column in named.items() if column in getattr(batch, part)}
        for part in ("request", "candidates")
    }


def _named(keys: Mapping[str, str], columns: Columns) -> list[tuple[str, Array | Jagged]]:
    return [(column, columns[column]) for column in keys.values()]


def _keyed(keys: Mapping[str, str], columns: Columns, device: Any, *, stride: int) -> Any:
    values, lengths = _columns(_named(keys, columns), device)
    return _tensor()(keys=list(keys), values=values, lengths=lengths, stride=stride)


def _columns(columns: list[tuple[str, Array | Jagged]], device: Any) -> tuple[Array, Array]:
    """The columns' ids one after the other, int64, and the lengths of their rows, int32."""
    values = [torch.zeros(0, dtype=torch.int64, device=device)]
    lengths = [torch.zeros(0, dtype=torch.int32, device=device)]
    for name, column in columns:
        ids = column.values if isinstance(column, Jagged) else column
        if ids.dtype not in (torch.int64, torch.int32) or (isinstance(column, Jagged) and ids.ndim > 1):
            raise ReaderError(f"column {name!r} holds {ids.dtype}, no ids: TorchRec looks up integers")
        width = 1 if ids.ndim == 1 else ids.shape[1]
        rows = column.lengths if isinstance(column, Jagged) else torch.full((len(ids),), width, device=device)
        values.append(ids.reshape(-1).to(torch.int64))
        lengths.append(rows.to(torch.int32))
    return torch.cat(values), torch.cat(lengths)
