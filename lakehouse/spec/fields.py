"""The parts of a dataset spec: keys, features, sequences, labels, partitioning, embedding tables.

Every model is frozen and refuses unknown fields. A feature may be written as its type alone: `hour: int`.
`column` is the raw log's column (a dotted path reaches into structs and lists of structs) and defaults to the
feature's own name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lakehouse.durations import Duration
from lakehouse.spec.types import FeatureType

Range = tuple[float, float]
NAME = r"^[a-z][a-z0-9_]*$"
Name = Annotated[str, Field(pattern=NAME)]


class Part(BaseModel):
    """A frozen piece of a spec that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class IdColumn(Part):
    """An identifier: int64 as it is, or a string, stored as its xxhash64 (seed 42) beside the original."""

    column: str = Field(description="raw column")
    type: Literal["long", "string"] = Field("long", description="what the raw column holds")
    sensitive: bool = Field(False, description="masked in errors, reports and previews")

    @model_validator(mode="before")
    @classmethod
    def from_name(cls, value: Any) -> Any:
        """`user_id: uid` is short for `user_id: {column: uid}`."""
        return {"column": value} if isinstance(value, str) else value


class UserId(IdColumn):
    """The user; where the column is null, the first non-null fallback, hashed as `<column>:<value>`."""

    fallback: tuple[str, ...] = Field((), description="raw columns to take, in this order, where the user is null")


class RequestId(Part):
    """The request: a column, a Spark SQL expression over the raw columns, or a pause between a user's impressions.

    With `gap`, a request is a run of one user's impressions in time without a pause longer than it. The id is
    made from the user and the run's first time, so it needs the whole run in one batch.
    """

    column: str | None = Field(None, description="raw column")
    expression: str | None = Field(None, description="Spark SQL over the raw columns")
    gap: Duration | None = Field(None, description="the pause between impressions that ends a request")
    type: Literal["long", "string"] = Field("long", description="what the column or the expression gives")
    sensitive: bool = Field(False, description="masked in errors, reports and previews")

    @model_validator(mode="before")
    @classmethod
    def from_name(cls, value: Any) -> Any:
        """`request_id: rid` is short for `request_id: {column: rid}`."""
        return {"column": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def one_way(self) -> RequestId:
        """Exactly one of the three ways."""
        if sum(way is not None for way in (self.column, self.expression, self.gap)) != 1:
            raise ValueError("give exactly one of column, expression or gap")
        return self


class TimeColumn(Part):
    """A point in time. `unit` is for integers since the epoch, `zone` for timestamps without a zone."""

    column: str = Field(description="raw column")
    unit: Literal["s", "ms", "us"] | None = Field(None, description="what an integer counts since 1970")
    zone: str | None = Field(None, description="of a timestamp that has none, as in `UTC` or `Europe/Berlin`")

    @model_validator(mode="before")
    @classmethod
    def from_name(cls, value: Any) -> Any:
        """`request_ts: ts` is short for `request_ts: {column: ts}`."""
        return {"column": value} if isinstance(value, str) else value


class Keys(Part):
    """What names a user, a request, its time and its candidates."""

    user_id: UserId = Field(description="who the feed was opened by")
    request_id: RequestId = Field(description="one opening of the feed; unique within a user")
    request_ts: TimeColumn = Field(description="when it was opened: the least over the request's rows")
    item_id: IdColumn = Field(description="what was scored or shown")
    position: str | None = Field(
        None, description="raw column of the position shown; else the rank by (impression_ts, item_id)"
    )
    impression_ts: TimeColumn | None = Field(None, description="when each item was shown")
    row_version: str | None = Field(
        None, description="raw integer column: of two rows of one impression, the greater is newer"
    )


class Feature(Part):
    """One request, candidate or sequence feature."""

    type: FeatureType = Field(description="what one request, candidate or event holds")
    column: str | None = Field(None, description="raw column, the feature's name by default")
    range: Range | None = Field(None, description="closed interval that values have to lie in")
    required: bool = Field(False, description="null is bad data, unless there is a default")
    default: float | int | bool | str | None = Field(
        None, description="what the reader fills nulls with (0, empty, NaN for floats)"
    )
    unit: Literal["s", "ms", "us"] | None = Field(None, description="of a timestamp that the raw log holds as integers")
    zone: str | None = Field(None, description="of a timestamp that the raw log holds without a zone")
    embedding: Name | None = Field(None, description="embedding table that this id feature is looked up in")
    sensitive: bool = Field(False, description="masked in errors, reports and previews")
    renamed_from: Name | None = Field(None, description="its name before: `reqlake spec apply` then keeps its values")
    doc: str = Field("", description="becomes the column's comment in the table")

    @model_validator(mode="before")
    @classmethod
    def from_type(cls, value: Any) -> Any:
        """`hour: int` is short for `hour: {type: int}`."""
        return {"type": value} if isinstance(value, str | FeatureType) else value

    @model_validator(mode="after")
    def fits(self) -> Feature:
        """A range needs numbers, an embedding needs ids, a unit or zone needs a time."""
        if self.range is not None and not self.type.is_number:
            raise ValueError(f"range: {self.type} has no order that a range could bound")
        if self.range is not None and self.range[0] > self.range[1]:
            raise ValueError(f"range: {list(self.range)} is empty, write [low, high]")
        if self.embedding is not None and self.type.element not in ("int", "long", "string", "bool"):
            raise ValueError(f"embedding: {self.type} is not an id; use int, long or string, or drop the embedding")
        if (self.unit or self.zone) and self.type.element != "timestamp":
            raise ValueError(f"unit and zone belong to timestamps, this is {self.type}")
        return self


class SequenceField(Feature):
    """One of the aligned lists of a sequence; `type` is that of one event's value."""

    candidate: Name | None = Field(
        None, description="the candidate column of the same meaning, for the candidate's token"
    )

    @field_validator("type")
    @classmethod
    def scalar(cls, value: FeatureType) -> FeatureType:
        """An event's value is a scalar: the list is the sequence's."""
        if value.shape != "scalar":
            raise ValueError(f"{value} inside a sequence: write the element type alone, the list is the sequence's")
        return value


class Sequence(Part):
    """Aligned lists, one entry per event, oldest first unless `order` says otherwise."""

    fields: dict[Name, SequenceField] = Field(min_length=1, description="the lists, all of one length in a row")
    time: Name | None = Field(None, description="the field that holds each event's time; strictly before request_ts")
    order: Literal["oldest_first", "newest_first"] = Field("oldest_first", description="how the events lie")
    max_length: int | None = Field(None, ge=1, description="longest list that the raw log may hold")
    renamed_from: Name | None = Field(None, description="its name before: `reqlake spec apply` then keeps its lists")
    doc: str = Field("", description="what the events are")

    @model_validator(mode="after")
    def time_is_a_time(self) -> Sequence:
        """The time field exists and is a timestamp."""
        if self.time is not None:
            if self.time not in self.fields:
                raise ValueError(f"time: no field {self.time!r}, fields are {', '.join(self.fields)}")
            if self.fields[self.time].type.element != "timestamp":
                raise ValueError(f"time: field {self.time!r} is {self.fields[self.time].type}, not timestamp")
        return self


class Label(Feature):
    """What a candidate led to; null until known."""

    time: TimeColumn | None = Field(None, description="when the label was set: the latest wins")

    @field_validator("type")
    @classmethod
    def scalar_number(cls, value: FeatureType) -> FeatureType:
        """A label is one number."""
        if value.shape != "scalar" or not (value.is_number or value.element == "bool"):
            raise ValueError(f"{value} is not a label: a label is one number or bool")
        return value


class LabelFiles(Part):
    """Files of labels that come after their impressions: which of their columns are which, where not as in the log."""

    user_id: str | None = Field(None, description="raw column of the user")
    request_id: str | None = Field(None, description="raw column of the request")
    item_id: str | None = Field(None, description="raw column of the item")
    position: str | None = Field(None, description="raw column of the position; read with `impression_key: position`")
    request_ts: TimeColumn | None = Field(
        None, description="the request's time; files without it are searched for over `label_horizon`"
    )
    labels: dict[Name, str] = Field({}, description="raw column of each label")
    times: dict[Name, TimeColumn] = Field({}, description="when each label was set")


class Partition(Part):
    """How the table is cut into files: nearly irreversible, so `reqlake spec check` advises on it."""

    grain: Literal["none", "year", "month", "day"] = Field("none", description="of request_ts")
    buckets: int = Field(4, ge=1, le=65536, description="files of a period, by a hash of user_id")
    columns: tuple[Name, ...] = Field((), description="scalar request features to partition by as well")


class ColumnRetention(Part):
    """A group of columns that is kept for a shorter time than its requests."""

    columns: tuple[Name, ...] = Field(
        min_length=1, description="sequences (as a whole), request features and candidate features"
    )
    after: Duration = Field(description="age of a period of the table at which `reqlake maintain` empties them")


class EmbeddingTable(Part):
    """A hashed embedding table that features share by naming it."""

    rows: int = Field(ge=1, description="rows that ids are hashed into")
    dim: int = Field(16, ge=1, description="numbers of one row")
