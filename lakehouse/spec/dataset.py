"""`DatasetSpec`: one declaration that everything else follows from.

`columns()` lays out the request table: schema, job, suite, views, batches and models all walk that one list.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Literal

import pyarrow as pa
from pydantic import Field, PrivateAttr, model_validator

from lakehouse.durations import Duration
from lakehouse.errors import nearest
from lakehouse.spec.fields import (
    ColumnRetention,
    EmbeddingTable,
    Feature,
    Keys,
    Label,
    LabelFiles,
    Name,
    Part,
    Partition,
    Sequence,
    SequenceField,
)
from lakehouse.spec.retention import check_retention
from lakehouse.spec.types import FeatureType

IdKind = Literal["user_id", "request_id", "item_id"]
Role = Literal["key", "request", "sequence", "candidate_key", "candidate", "label", "rank"]
LONG, INT, STRING, TIME = (FeatureType(e) for e in ("long", "int", "string", "timestamp"))
REQUEST_KEY = ("user_id", "request_id", "request_hash")


@dataclass(frozen=True)
class Column:
    """One column of the request table.

    `type` is that of one request's value, or, where `per_candidate`, of one candidate's: the table then holds a list of
    it, parallel to `item_id`. A sequence column's `type` is a list; `group` names its sequence and `field` the field.
    """

    name: str
    role: Role
    type: FeatureType
    nullable: bool = True
    doc: str = ""
    group: str | None = None
    field: str | None = None
    feature: Feature | None = None

    @property
    def per_candidate(self) -> bool:
        """Whether the table holds a list of one value per candidate."""
        return self.role in ("candidate_key", "candidate", "label") or self.name.startswith("candidate_")

    def arrow(self) -> pa.DataType:
        """The column's Arrow type in the table."""
        return pa.list_(self.type.arrow()) if self.per_candidate else self.type.arrow()

    @property
    def raw(self) -> str:
        """The raw log's column that this one is read from, by the spec's mapping."""
        return (self.feature.column if self.feature else None) or self.name

    @property
    def sensitive(self) -> bool:
        """Whether values are masked in whatever people read."""
        return self.feature is not None and self.feature.sensitive


class DatasetSpec(Part):
    """A dataset: keys, features, sequences, labels, and how the raw log and the table hold them."""

    reqlake: Literal[1] = Field(1, description="version of the spec's format")
    name: Name = Field(description="of the dataset: the table is `<namespace>.<name>_requests`")
    namespace: Name = Field("reqlake", description="Iceberg namespace of its tables and views")
    doc: str = Field("", description="what the dataset is")
    keys: Keys = Field(description="what names a user, a request, its time and its candidates")
    request_features: dict[Name, Feature] = Field({}, description="the same on every row of a request; kept once")
    sequences: dict[Name, Sequence] = Field({}, description="histories: aligned lists, kept once per request")
    candidate_features: dict[Name, Feature] = Field({}, description="of a candidate in a request")
    labels: dict[Name, Label] = Field({}, description="what a candidate led to")
    label_files: LabelFiles = Field(LabelFiles(), description="files that bring labels after their impressions")
    conflict: Literal["split", "first", "latest"] = Field(
        "split", description="for rows of one request that disagree on it"
    )
    impression_key: Literal["item", "position"] = Field(
        "item", description="`position` where an item may be shown twice"
    )
    request_span: Duration = Field(timedelta(hours=6), description="how far apart rows of one request may lie")
    key_horizon: Duration = Field(
        timedelta(days=7), description="how far from a row's time its request is looked for, to tell ids used again"
    )
    label_horizon: Duration = Field(timedelta(days=7), description="how long a label may come after its impression")
    partition: Partition = Field(Partition(), description="how the table is cut into files")
    ids: tuple[IdKind, ...] = Field(
        ("user_id", "request_id", "item_id"),
        description="keys whose strings, where they are strings, `<dataset>_ids` keeps beside their hashes",
    )
    retention: dict[Name, ColumnRetention] = Field(
        {}, description="groups of columns that are emptied in periods of some age"
    )
    embeddings: dict[Name, EmbeddingTable] = Field({}, description="tables that id features are looked up in, by name")

    _later: frozenset[str] = PrivateAttr(frozenset())
    _evolved: bool = PrivateAttr(False)

    # ---- what must hold between the parts -------------------------------------------------------------------------

    @model_validator(mode="after")
    def _names_are_unique(self) -> DatasetSpec:
        seen: dict[str, str] = {}
        for column in self._layout():
            if column.name in seen:
                raise ValueError(
                    f"two columns would be named {column.name!r} ({seen[column.name]} and {column.role}): rename one"
                )
            seen[column.name] = column.role
        return self

    @model_validator(mode="after")
    def _references_exist(self) -> DatasetSpec:
        for where, feature in self._features():
            if feature.embedding is not None and feature.embedding not in self.embeddings:
                hint = nearest(feature.embedding, self.embeddings)
                raise ValueError(
                    f"{where}.embedding: no table {feature.embedding!r}.{hint} Declare it under embeddings"
                )
            if isinstance(feature, SequenceField) and feature.candidate is not None:
                known = ["item_id", *self.candidate_features]
                if feature.candidate not in known:
                    hint = nearest(feature.candidate, known)
                    raise ValueError(f"{where}.candidate: no candidate column {feature.candidate!r}.{hint}")
        for part, named in (("labels", self.label_files.labels), ("times", self.label_files.times)):
            for name in named:
                if name not in self.timed_labels:
                    raise ValueError(
                        f"label_files.{part}: {name!r} is no label with a time.{nearest(name, self.timed_labels)} "
                        f"Declare it, and its `time`, under labels: it decides which of two values stands"
                    )
        for name in self.partition.columns:
            feature_ = self.request_features.get(name)
            if feature_ is None or feature_.type.shape != "scalar":
                raise ValueError(f"partition.columns: {name!r} is not a scalar request feature")
        if self.keys.request_id.gap is not None and self.keys.impression_ts is None:
            raise ValueError("keys.impression_ts: request_id.gap needs the time of each impression, name its column")
        if self.impression_key == "position" and self.keys.position is None:
            raise ValueError("keys.position: impression_key 'position' needs the raw column of the position, name it")
        check_retention(self)
        return self

    def _features(self) -> Iterator[tuple[str, Feature]]:
        for part in ("request_features", "candidate_features", "labels"):
            for name, feature in getattr(self, part).items():
                yield f"{part}.{name}", feature
        for name, sequence in self.sequences.items():
            for field, feature in sequence.fields.items():
                yield f"sequences.{name}.fields.{field}", feature

    # ---- the table ------------------------------------------------------------------------------------------------

    def _layout(self) -> Iterator[Column]:
        keys = self.keys
        yield Column("user_id", "key", LONG, nullable=False, doc="the user, int64 (a string's xxhash64)")
        yield Column("request_id", "key", LONG, nullable=False, doc="the request, int64 (a string's xxhash64)")
        yield Column("request_ts", "key", TIME, nullable=False, doc="least request time over the request's rows, UTC")
        yield Column(
            "request_hash",
            "key",
            LONG,
            nullable=False,
            doc="64-bit hash of the request features; 0 unless `split`",
        )
        if keys.user_id.type == "string" or keys.user_id.fallback:
            yield Column("user_id_raw", "key", STRING, doc="the user as the raw log names it")
        if keys.request_id.type == "string":
            yield Column("request_id_raw", "key", STRING, doc="the request as the raw log names it")
        for name, feature in self.request_features.items():
            yield Column(name, "request", feature.type, not feature.required, feature.doc, feature=feature)
        for group, sequence in self.sequences.items():
            for field, feature in sequence.fields.items():
                listed = FeatureType(feature.type.element, "list")
                yield Column(f"{group}_{field}", "sequence", listed, True, feature.doc, group, field, feature)
        yield Column("item_id", "candidate_key", LONG, nullable=False, doc="the candidates, in position order")
        if keys.item_id.type == "string":
            yield Column("item_id_raw", "candidate_key", STRING, doc="the candidates as the raw log names them")
        yield Column("position", "candidate_key", INT, nullable=False, doc="position of each candidate")
        if keys.impression_ts is not None:
            yield Column("impression_ts", "candidate_key", TIME, doc="time of each impression, UTC")
        for name, feature in self.candidate_features.items():
            yield Column(name, "candidate", feature.type, not feature.required, feature.doc, feature=feature)
        for name, label in self.labels.items():
            yield Column(name, "label", label.type, True, label.doc, feature=label)
            if label.time is not None:
                yield Column(f"{name}_time", "label", TIME, doc=f"when {name} was set, UTC")
        if keys.row_version is not None:
            yield Column("request_version", "rank", LONG, doc="row version that the request features come from")
            yield Column("candidate_version", "rank", LONG, doc="row version of each candidate")
        if self.conflict != "split":
            # Under `split` a row's rank follows from what the table holds; a hash per candidate would not compress.
            yield Column("request_rank", "rank", LONG, doc="row hash that the request features come from")
            yield Column("candidate_rank", "rank", LONG, doc="row hash of each candidate")

    @cached_property
    def _columns(self) -> dict[str, Column]:
        return {column.name: column for column in self._layout()}

    def columns(self, *roles: Role) -> tuple[Column, ...]:
        """The request table's columns in order; with roles, those of these roles only."""
        return tuple(c for c in self._columns.values() if not roles or c.role in roles)

    def column(self, name: str) -> Column:
        """One column by name. Raises KeyError that suggests the nearest."""
        if name not in self._columns:
            raise KeyError(f"no column {name!r} in {self.name}.{nearest(name, self._columns)}")
        return self._columns[name]

    @property
    def string_ids(self) -> tuple[IdKind, ...]:
        """Keys of `ids` that are strings in the raw log."""
        return tuple(kind for kind in self.ids if f"{kind}_raw" in self._columns)

    @property
    def timed_labels(self) -> tuple[str, ...]:
        """Labels whose time is known: of two values of one impression, the one of the greater (time, hash) stands."""
        return tuple(name for name, label in self.labels.items() if label.time is not None)

    def table(
        self,
        kind: Literal[
            "requests", "quarantine", "ledger", "events", "scores", "ids", "pending_labels", "suite_results"
        ] = "requests",
    ) -> str:
        """`<namespace>.<dataset>_<kind>`."""
        return f"{self.namespace}.{self.name}_{kind}"

    # ---- what a table knows of it (lakehouse/schema.py) -----------------------------------------------------------

    @property
    def later(self) -> frozenset[str]:
        """Columns that came after the table was made: raw files and rows of before do not have them."""
        return self._later

    @property
    def evolved(self) -> bool:
        """Whether the table has rows of another schema: their `request_hash` is that of their features at the time."""
        return self._evolved

    def of_table(self, later: frozenset[str], *, evolved: bool) -> DatasetSpec:
        """The same spec, with what its table knows."""
        told = self.model_copy()
        told._later, told._evolved = later, evolved  # noqa: SLF001 - a copy's own
        return told

    # ---- identity -------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Canonical JSON: equal specs give equal text."""
        return json.dumps(
            self.model_dump(mode="json", exclude_defaults=True) | {"reqlake": self.reqlake},
            separators=(",", ":"),
        )

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]
