"""From a dataset spec to what the model reads: `describe` lists the inputs, `fit` standardises them by the data.

Rules, by what the spec says and never by a name: a feature with an embedding is looked up; a number, bool or time
without one is a number; a list of numbers is its mean; a string without an embedding says nothing that can be learned
and is listed as ignored. A time becomes the log2 of the seconds from it to the request.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import torch

from lakehouse.errors import nearest
from lakehouse.spec import Column, DatasetSpec
from training.errors import TrainingError
from training.models.description import Dense, Lookup, ModelInputs, Sequence, Table, Task
from training.models.values import Batch, raw_numbers
from training.statistics import Statistics


def describe(
    spec: DatasetSpec, *, history: str | None = None, task_weights: Mapping[str, float] | None = None
) -> ModelInputs:
    """The inputs and tasks of a spec, not standardised yet. `history` names the sequence to attend to: the first.

    A label within [0, 1] is learned as a probability with weight 1, another as a number with weight 0.3 (it helps, but
    must not lead); `task_weights` overrides, 0 leaves a label out. Raises TrainingError for unknown names.
    """
    if history is not None and history not in spec.sequences:
        known = ", ".join(spec.sequences) or "none"
        raise TrainingError(
            f"history: no sequence {history!r} in {spec.name}.{nearest(history, spec.sequences)} Known: {known}"
        )
    attended = history or next(iter(spec.sequences), None)
    used: dict[str, None] = {}
    sequences = {name: _sequence(spec, name, used) for name in spec.sequences}
    request, candidate = spec.columns("request"), spec.columns("candidate")
    pooled = tuple(s for name, s in sequences.items() if name != attended and (s.lookups or s.dense or s.time))
    read = [*request, *candidate, *spec.columns("sequence")]
    return ModelInputs(
        tasks=_tasks(spec, task_weights or {}),
        tables=tuple((name, Table(rows=t.rows, dim=t.dim)) for name, t in spec.embeddings.items()),
        history=sequences[attended] if attended else None,
        pooled=pooled,
        request_dense=tuple(d for c in request if (d := _dense(c, used))),
        request_lookups=tuple(x for c in request if (x := _lookup(c, used))),
        candidate_dense=tuple(d for c in candidate if (d := _dense(c, used))),
        candidate_lookups=tuple(x for c in candidate if (x := _lookup(c, used))),
        ignored=tuple(c.name for c in read if c.name not in used),
    )


def fit(inputs: ModelInputs, batches: Iterable[Batch]) -> ModelInputs:
    """The inputs with transforms, means, deviations and gaps from one pass over training batches (torch tensors).

    Raises TrainingError where there is nothing to learn from.
    """
    found = Statistics()
    for batch in batches:
        _collect(inputs, batch, found)
    if not found.candidates:
        raise TrainingError("no candidates to train on: the table is empty, or the filter leaves nothing")

    def fitted(dense: Dense) -> Dense:
        column = found.columns[dense.column]
        log = dense.transform == "identity" and column.prefers_log
        moments = column.log if log else column.plain
        return dataclasses.replace(
            dense,
            transform="log1p" if log else dense.transform,
            mean=tuple(moments.mean.tolist()),
            std=tuple(moments.std.tolist()),
            missing=column.missing > 0,
        )

    def sequence(s: Sequence) -> Sequence:
        return dataclasses.replace(s, dense=tuple(fitted(d) for d in s.dense))

    def task(t: Task) -> Task:
        known = found.columns[t.label].plain
        if not float(known.count):
            raise TrainingError(f"label {t.label!r} is unknown in all training rows: set its task weight to 0")
        if t.loss == "bce":
            return t
        return dataclasses.replace(t, mean=float(known.mean), std=float(known.std))

    return dataclasses.replace(
        inputs,
        history=sequence(inputs.history) if inputs.history else None,
        pooled=tuple(sequence(s) for s in inputs.pooled),
        request_dense=tuple(fitted(d) for d in inputs.request_dense),
        candidate_dense=tuple(fitted(d) for d in inputs.candidate_dense),
        tasks=tuple(task(t) for t in inputs.tasks),
    )


def _collect(inputs: ModelInputs, batch: Batch, found: Statistics) -> None:
    asked = batch.request["request_ts"]
    assert isinstance(asked, torch.Tensor)
    per_candidate = torch.repeat_interleave(asked, batch.candidate_offsets.diff())
    values = {d.column: raw_numbers(batch.request[d.column], d, asked) for d in inputs.request_dense}
    values |= {d.column: raw_numbers(batch.candidates[d.column], d, per_candidate) for d in inputs.candidate_dense}
    for sequence in ([inputs.history] if inputs.history else []) + list(inputs.pooled):
        for d in sequence.dense:
            events = batch.request[d.column]
            assert not isinstance(events, torch.Tensor)
            values[d.column] = raw_numbers(events.values, d, torch.repeat_interleave(asked, events.offsets.diff()))
    for task in inputs.tasks:
        label = batch.candidates[task.label]
        assert isinstance(label, torch.Tensor)
        values[task.label] = label.double()[:, None]
    found.add(values)
    found.requests, found.candidates = found.requests + len(asked), found.candidates + len(per_candidate)


def _sequence(spec: DatasetSpec, name: str, used: dict[str, None]) -> Sequence:
    sequence = spec.sequences[name]
    columns = [c for c in spec.columns("sequence") if c.group == name]
    time = f"{name}_{sequence.time}" if sequence.time else None
    if time:
        used[time] = None
    rest = [dataclasses.replace(c, type=dataclasses.replace(c.type, shape="scalar")) for c in columns if c.name != time]
    lookups = tuple(x for c in rest if (x := _lookup(c, used)))
    dense = tuple(d for c in rest if (d := _dense(c, used)))
    read = {x.column for x in lookups} | {x.column for x in dense}
    return Sequence(
        name=name,
        first=columns[0].name,
        newest_first=sequence.order == "newest_first",
        time=time,
        lookups=lookups,
        dense=dense,
        aligned=tuple(
            (c.name, sequence.fields[str(c.field)].candidate or "")
            for c in columns
            if c.name in read and sequence.fields[str(c.field)].candidate
        ),
    )


def _lookup(column: Column, used: dict[str, None]) -> Lookup | None:
    table = column.feature.embedding if column.feature else None
    if table is None:
        return None
    used[column.name] = None
    return Lookup(column=column.name, table=table)


def _dense(column: Column, used: dict[str, None]) -> Dense | None:
    kind = column.type
    if column.feature is None or column.feature.embedding or kind.element == "string":
        return None
    used[column.name] = None
    size = kind.size or 1
    return Dense(
        column=column.name,
        size=size,
        transform="age" if kind.element == "timestamp" else "identity",
        mean=(0.0,) * size,
        std=(1.0,) * size,
    )


def _tasks(spec: DatasetSpec, weights: Mapping[str, float]) -> tuple[Task, ...]:
    for name in weights:
        if name not in spec.labels:
            raise TrainingError(f"task_weights: no label {name!r} in {spec.name}.{nearest(name, spec.labels)}")
    tasks = []
    for name, label in spec.labels.items():
        chance = label.type.element == "bool" or label.range == (0, 1)
        weight = weights.get(name, 1.0 if chance else 0.3)
        if weight > 0:
            tasks.append(Task(label=name, loss="bce" if chance else "mse", weight=weight))
    if not tasks:
        raise TrainingError(
            f"{spec.name} has no label to learn: declare one under labels, or give one a task weight above 0"
        )
    return tuple(tasks)
