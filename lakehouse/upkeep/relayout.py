"""A request table's layout anew: what the other table is called, how it begins, and what it says of where it came from.

The other table is made from the first one's metadata, with the same schemas under the same ids, so that a training set
keeps the schema that it was pinned with; its partitioning, its folder and its UUID are its own.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

from lakehouse.catalog import catalog_errors
from lakehouse.schema import SPEC, SPEC_HASH, partition_spec, table_spec
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec, Partition, parse_spec
from lakehouse.tags.sets import MAP, SUCCESSOR
from lakehouse.upkeep.emptied import EMPTIED

ANEW, BEFORE = "_anew", "_before"
"""After the request table's name: the one that is being built, and the one that was there before the swap."""
RECORD, FORMER = "reqlake.rebucket", "reqlake.former-uuids"
OF_READERS = "reqlake.reader-until."
SUFFIX = re.compile(r"-[0-9a-f]{8}$")


@dataclass(frozen=True)
class Record:
    """What a table says of the one that it was built from.

    `source` is that table's UUID; `snapshots` leads from its snapshots to the ones here that hold the same rows;
    `heads` are both main's snapshots when they were compared, and `ready` whether everything was.
    """

    source: str
    layout: str
    snapshots: dict[int, int] = field(default_factory=dict)
    heads: tuple[int | None, int | None] = (None, None)
    ready: bool = False

    def to_json(self) -> str:
        """As the table's property holds it."""
        return json.dumps(asdict(self), separators=(",", ":"))


def record_of(table: Table) -> Record | None:
    """What a table says of where it came from; None for one that was not built from another."""
    text = table.properties.get(RECORD)
    if text is None:
        return None
    told = json.loads(text)
    pairs = {int(old): new for old, new in told["snapshots"].items()}
    return Record(told["source"], told["layout"], pairs, tuple(told["heads"]), told["ready"])


def with_layout(spec: DatasetSpec, partition: Partition) -> DatasetSpec:
    """The spec with another partitioning. Raises SpecError where it does not hold together with the rest."""
    data = spec.model_dump(mode="json", exclude_defaults=True) | {"reqlake": spec.reqlake}
    return parse_spec(data | {"partition": partition.model_dump(mode="json")}, f"{spec.name} under another layout")


def uuid_of(table: Table) -> str:
    """A table's UUID as text."""
    return str(table.metadata.table_uuid)


def former_uuids(table: Table) -> set[str]:
    """UUIDs of the tables that stood under this one's name before it."""
    return set(filter(None, table.properties.get(FORMER, "").split(",")))


def begin(source: Table, wanted: DatasetSpec, name: str, settings: Settings) -> Table:
    """Make the table that is to be built: of the source's schemas, without a row."""
    layout = wanted.partition.model_dump_json()
    digest = hashlib.sha256(f"{uuid_of(source)}{layout}".encode()).hexdigest()[:8]
    location = f"{SUFFIX.sub('', source.location().rstrip('/'))}-{digest}"
    parts = partition_spec(wanted, source.schema())
    metadata = source.metadata.model_copy(
        update={
            "table_uuid": uuid.uuid4(),
            "location": location,
            "last_sequence_number": 0,
            "last_updated_ms": int(datetime.now(UTC).timestamp() * 1000),
            "partition_specs": [parts],
            "default_spec_id": parts.spec_id,
            "last_partition_id": max(part.field_id for part in parts.fields),
            "sort_orders": [UNSORTED_SORT_ORDER],
            "default_sort_order_id": UNSORTED_SORT_ORDER.order_id,
            "properties": carried(source, wanted) | {RECORD: Record(uuid_of(source), layout).to_json()},
            "current_snapshot_id": None,
            "snapshots": [],
            "snapshot_log": [],
            "metadata_log": [],
            "refs": {},
            "statistics": [],
            "partition_statistics": [],
        }
    )
    path = f"{location}/metadata/00000-{uuid.uuid4()}.metadata.json"
    with catalog_errors(settings):
        ToOutputFile.table_metadata(metadata, source.io.new_output(path), overwrite=True)
        return source.catalog.register_table(name, path)


def carried(source: Table, wanted: DatasetSpec) -> dict[str, str]:
    """The source's properties that hold for the other table as well, and the spec of its layout."""
    own = (MAP, OF_READERS, EMPTIED, RECORD, "write.data.path", "write.metadata.path")
    kept = {name: value for name, value in source.properties.items() if not name.startswith(own)}
    former = ",".join(sorted(former_uuids(source) | {uuid_of(source)}))
    spec = with_layout(table_spec(source), wanted.partition)
    return kept | {SPEC: spec.to_json(), SPEC_HASH: spec.hash, FORMER: former}


def successors(pairs: dict[int, int]) -> dict[str, str]:
    """Properties that lead from snapshots of one table to the ones of another that hold the same rows."""
    return {f"{SUCCESSOR}{old}": str(new) for old, new in pairs.items()}
