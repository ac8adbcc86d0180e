"""What a reader reads from: one table or several, each at a snapshot and a schema of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.table import Table

from feature_reader.damage import Damage
from feature_reader.decode import Decoder
from feature_reader.errors import ReaderError
from feature_reader.files import DataFiles, streaming_bytes
from feature_reader.filters import RowFilter
from feature_reader.layout import Field, Layout, build_layout, default_columns, measured_lists, sequence_siblings
from feature_reader.options import pinned_schema, pinned_snapshot
from feature_reader.plan import Plan, Planner, ReadUnit
from feature_reader.predicates import Predicate, Screen
from feature_reader.state import TablePin
from feature_reader.storage import Credentials, Storage
from lakehouse.schema import table_spec

PAGE_BYTES, PAGE_BYTES_DEFAULT = "write.parquet.page-size-bytes", 1 << 20


@dataclass(frozen=True)
class Source:
    """One of several tables, or tags of a table, that a reader reads: its current snapshot unless one is named."""

    table: Table
    tag: str | None = None
    snapshot_id: int | None = None
    schema_id: int | None = None

    @property
    def name(self) -> str:
        """The table's full name."""
        return ".".join(self.table.name())


class PinnedSource:
    """A table at one snapshot, with all that reading it takes. It goes to worker processes without its catalog."""

    def __init__(
        self,
        source: Source,
        label: str,
        *,
        columns: Iterable[str] | None,
        row_filter: str | BooleanExpression | None,
        batch_by: str,
        credentials: Credentials | None,
        cached: bool,
        predicates: Sequence[Predicate],
        wants_users: bool,
        damage: Damage,
    ) -> None:
        self.label, self.table = label, source.table
        self.is_pinned = source.snapshot_id is not None or source.tag is not None
        self.snapshot_id = pinned_snapshot(source.table, source.snapshot_id, source.tag)
        self.spec = table_spec(source.table, source.schema_id)
        schema = pinned_schema(source.table, source.schema_id)
        self.schema_id = schema.schema_id
        self.layout = build_layout(self.spec, schema, columns)
        self.filter = RowFilter(row_filter if row_filter is not None else AlwaysTrue(), schema)
        self.files = DataFiles(Storage(source.table, credentials), source.table.name_mapping())
        siblings = sequence_siblings(self.spec, schema)
        self.decoder = Decoder(self.layout, siblings)
        self._cached = cached
        self._screen = Screen(predicates, self.spec, schema, self.files, users=wants_users)
        self._damage = damage
        self._measured = measured_lists(batch_by, schema, siblings)
        self.planner = self._planner()

    def _planner(self) -> Planner:
        schema = pinned_schema(self.table, self.schema_id)
        return Planner(
            self.table,
            schema,
            self.filter,
            self.files,
            self.decoder,
            self._screen,
            self._damage,
            self._measured,
            self._cached,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("planner", "table")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.table = self.files.storage.table
        self.planner = self._planner()

    @property
    def pin(self) -> TablePin:
        """What a state holds of it."""
        return TablePin(str(self.table.metadata.table_uuid), self.snapshot_id, self.schema_id)

    def has_snapshot(self, snapshot_id: int) -> bool:
        """Whether the table still knows a snapshot."""
        return self.table.metadata.snapshot_by_id(snapshot_id) is not None

    def streaming_bytes(self, path: str, row_group: int) -> int:
        """Bytes that going through a row group takes, if its pages are as large as the table's properties say."""
        page = int(self.table.properties.get(PAGE_BYTES, PAGE_BYTES_DEFAULT))
        return streaming_bytes(self.files.footer(path), row_group, self.columns_of(path), path, page)

    def stored_bytes(self, path: str, row_group: int) -> int:
        """Bytes of a row group's columns as they lie in its file."""
        footer = self.files.footer(path)
        group = footer.metadata.row_group(row_group)
        leaves = [leaf for name in self.columns_of(path) for leaf in footer.leaves[name]]
        return sum(group.column(leaf).total_compressed_size for leaf in leaves)

    def columns_of(self, path: str) -> list[str]:
        """The names that a file gives the columns to read."""
        present = self.files.footer(path).present
        return [present[f.field_id] for f in self.decoder.needs(present)]


def open_sources(
    given: Table | Sequence[Table | Source],
    *,
    tag: str | None,
    snapshot_id: int | None,
    schema_id: int | None,
    columns: Iterable[str] | None,
    row_filter: str | BooleanExpression | None,
    batch_by: str,
    credentials: Credentials | None,
    cached: bool,
    predicates: Sequence[Predicate],
    wants_users: bool,
    damage: Damage,
) -> tuple[PinnedSource, ...]:
    """The tables in the order of their labels, so that it does not matter in which order they are given.

    A label is the table's name, with the tag or snapshot where one table is given more than once. Raises ReaderError
    for tables whose columns differ.
    """
    sources = [s if isinstance(s, Source) else Source(s) for s in ([given] if isinstance(given, Table) else given)]
    if not sources:
        raise ReaderError("no table to read: give one, or a list of tables and Sources")
    if len(sources) > 1 and (snapshot_id is not None or schema_id is not None):
        raise ReaderError("snapshot_id and schema_id are one table's: give them with Source(table, snapshot_id=…)")
    if tag is not None or snapshot_id is not None or schema_id is not None:
        sources = [
            replace(
                s,
                tag=s.tag if s.tag is not None or s.snapshot_id is not None else tag,
                snapshot_id=s.snapshot_id if s.snapshot_id is not None else snapshot_id,
                schema_id=s.schema_id if s.schema_id is not None else schema_id,
            )
            for s in sources
        ]
    names = None if columns is None else list(columns)
    labelled = sorted(_labels(sources).items())
    _same_defaults([s for _, s in labelled], names)
    pinned = [
        PinnedSource(
            source,
            label,
            columns=names,
            row_filter=row_filter,
            batch_by=batch_by,
            credentials=credentials,
            cached=cached,
            predicates=predicates,
            wants_users=wants_users,
            damage=damage,
        )
        for label, source in labelled
    ]
    for other in pinned[1:]:
        _same_columns(pinned[0], other)
    return tuple(pinned)


def plan_sources(sources: Sequence[PinnedSource]) -> Plan:
    """One plan of all tables, one after the other. Raises ReaderError where two share files."""
    plans = [source.planner.plan(source.snapshot_id) for source in sources]
    _share_no_file(sources, plans)
    files: list[str] = []
    units: list[ReadUnit] = []
    for plan in plans:
        units += [replace(unit, file=unit.file + len(files)) for unit in plan.units] if files else plan.units
        files += plan.files
    return Plan(
        tuple(source.snapshot_id for source in sources),
        tuple(files),
        tuple(units),
        sum(plan.deleted for plan in plans),
        sum(plan.filtered for plan in plans),
        tuple(i for i, plan in enumerate(plans) for _ in plan.files),
        tuple(sum(dropped) for dropped in zip(*(plan.left_out for plan in plans if plan.left_out), strict=True)),
    )


def _labels(sources: Sequence[Source]) -> dict[str, Source]:
    times = Counter(source.name for source in sources)
    labels: dict[str, Source] = {}
    for source in sources:
        place = source.tag if source.tag is not None else pinned_snapshot(source.table, source.snapshot_id, None)
        label = source.name if times[source.name] == 1 else f"{source.name}@{place}"
        if label in labels:
            raise ReaderError(f"{label} is given twice: its requests would come twice in an epoch")
        labels[label] = source
    return labels


def _same_defaults(sources: Sequence[Source], columns: list[str] | None) -> None:
    if columns is not None or len(sources) < 2:
        return
    first, *others = [(source.name, set(default_columns(table_spec(source.table)))) for source in sources]
    for name, found in others:
        if found != first[1]:
            only = [
                f"{', '.join(sorted(a - b))} only in {n}"
                for a, b, n in ((first[1], found, first[0]), (found, first[1], name))
                if a - b
            ]
            raise ReaderError(
                f"{first[0]} and {name} have different columns ({'; '.join(only)}): give columns=[…] that both have"
            )


def _same_columns(first: PinnedSource, other: PinnedSource) -> None:
    """Give `other` the first one's order of columns. Raises ReaderError that names what differs."""
    theirs = {field.name: field for field in other.layout.fields}
    for field in first.layout.fields:
        one, two = _meaning(field), _meaning(theirs[field.name])
        if one != two:
            raise ReaderError(
                f"column {field.name!r} is {one} in {first.label}, but {two} in {other.label}: no batch holds both"
            )
    ordered = tuple(theirs[field.name] for field in first.layout.fields)
    other.layout = Layout(ordered, other.layout.anchors)
    other.decoder.layout = other.layout


def _meaning(field: Field) -> str:
    size = f", {field.size}" if field.size else ""
    kind = field.element if field.shape == "scalar" else f"{field.shape}<{field.element}{size}>"
    place = (
        f"a {kind} of the sequence {field.group}"
        if field.part == "request" and field.group
        else f"a {field.part}'s {kind}"
    )
    return f"{place} with default {field.fill}"


def _share_no_file(sources: Sequence[PinnedSource], plans: Sequence[Plan]) -> None:
    seen: dict[str, str] = {}
    for source, plan in zip(sources, plans, strict=True):
        shared = [path for path in plan.files if path in seen]
        if shared:
            raise ReaderError(
                f"{seen[shared[0]]} and {source.label} share {len(shared)} data files: their requests would come twice "
                "in an epoch. Read one of them, or tables that hold different requests"
            )
        if len(sources) > 1:
            seen |= dict.fromkeys(plan.files, source.label)
