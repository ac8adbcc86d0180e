"""Make the golden files of the formats of today: `python -m tests.golden.make`, once per format, never over an old one.

The table's location is relative, so it opens in whatever folder a test copies it to.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from pyiceberg.catalog.memory import InMemoryCatalog

from feature_reader import Reader
from lakehouse.schema import iceberg_schema, partition_spec, table_properties
from lakehouse.spec import dump_yaml
from tests.support.datasets import SPECS, raw_log, reference_requests

HERE = Path(__file__).parent
FORMAT = "v1"


def make(folder: Path) -> None:
    """Write `spec.yaml`, an Iceberg table of 12 requests, and a reader's state with the requests that follow it.

    `folder` must not be there yet.
    """
    folder.mkdir()
    os.chdir(folder)
    spec = SPECS["video"]
    Path("spec.yaml").write_text(dump_yaml(spec), encoding="utf-8")
    catalog = InMemoryCatalog("golden", warehouse="table")
    catalog.create_namespace(spec.namespace)
    schema = iceberg_schema(spec)
    table = catalog.create_table(
        spec.table("requests"),
        schema,
        location="table",
        partition_spec=partition_spec(spec, schema),
        properties=table_properties(spec),
    )
    requests = reference_requests(raw_log(spec, users=4, requests_per_user=3), spec)
    table.append(requests.cast(table.schema().as_arrow()))
    Path("table", "metadata", "current").write_text(Path(table.metadata_location).name, encoding="utf-8")
    reader = Reader(table, batch_requests=5, seed=11)
    steps = iter(reader)
    state = reader.state_dict(next(steps))
    following = [batch.request["request_id"].tolist() for batch in steps]
    Path("reader_state.json").write_text(json.dumps({"state": state, "following": following}), encoding="utf-8")


if __name__ == "__main__":
    if (HERE / FORMAT).exists():
        sys.exit(f"{HERE / FORMAT} is there: a golden file is never made again, raise the format instead")
    make(HERE / FORMAT)
