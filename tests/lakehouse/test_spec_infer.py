"""`spec infer`: what is drafted from a raw log, against the specs that people wrote for the same logs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.errors import RawDataError, SpecError
from lakehouse.spec import DatasetSpec, load_spec, parse_spec
from lakehouse.spec.infer import infer_spec
from lakehouse.spec.match import mismatches, unread
from lakehouse.spec.sample import content_codes, flatten, raw_schema, read_sample
from tests.support.datasets import SPECS, raw_log


def write(folder: Path, table: pa.Table, name: str = "part.parquet") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / name)
    return folder


def roles(spec: DatasetSpec) -> dict[str, tuple[str, str]]:
    """Each column's role and type, by the raw column that it comes from."""
    columns = spec.columns("request", "sequence", "candidate", "label")
    return {c.raw: (c.role, str(c.type)) for c in columns if c.feature is not None}


@pytest.mark.parametrize("name", SPECS)
def test_roles_types_and_keys_are_those_that_a_person_wrote(name: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    draft = infer_spec(write(tmp_path, raw_log(spec, users=40)), name=name)
    assert roles(draft.spec) == roles(spec)
    for key in ("user_id", "request_id", "request_ts", "item_id", "impression_ts", "position", "row_version"):
        wanted, got = getattr(spec.keys, key), getattr(draft.spec.keys, key)
        keep = {"sensitive"}  # a person's decision
        assert _plain(got, keep) == _plain(wanted, keep), key
    assert draft.spec.impression_key == spec.impression_key
    assert {n: s.time for n, s in draft.spec.sequences.items()} == {n: s.time for n, s in spec.sequences.items()}
    times = {n: label.time for n, label in spec.labels.items()}
    assert {n: label.time for n, label in draft.spec.labels.items()} == times


@pytest.mark.parametrize("name", SPECS)
def test_the_draft_loads_and_fits_its_log(name: str, tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", raw_log(SPECS[name], users=40))
    draft = infer_spec(raw)
    (tmp_path / "draft.yaml").write_text(draft.yaml)
    loaded = load_spec(tmp_path / "draft.yaml")
    assert loaded == draft.spec
    assert mismatches(loaded, raw_schema(raw)) == []
    assert unread(loaded, raw_schema(raw)) == []
    assert "# " in draft.yaml
    assert "confirm" in draft.yaml


def test_structs_become_dotted_paths_and_names_become_legal(tmp_path: Path) -> None:
    plain = raw_log(SPECS["feed"], users=40)
    events = [
        [{"Item": i, "ts": t} for i, t in zip(items, times, strict=True)]
        for items, times in zip(plain["history_item_id"].to_pylist(), plain["history_ts"].to_pylist(), strict=True)
    ]
    event = pa.struct([("Item", pa.int64()), ("ts", pa.timestamp("us", tz="UTC"))])
    context = pa.StructArray.from_arrays(
        [plain["uid"].combine_chunks(), plain["country"].combine_chunks()], names=["userId", "Country"]
    )
    table = plain.drop_columns(["uid", "country", "history_item_id", "history_ts", "history_action"])
    table = table.append_column("ctx", context).append_column("events", pa.array(events, pa.list_(event)))
    draft = infer_spec(write(tmp_path, table))
    assert draft.spec.keys.user_id.column == "ctx.userId"
    assert draft.spec.request_features["country"].column == "ctx.Country"
    assert {f.column for f in draft.spec.sequences["events"].fields.values()} == {"events.Item", "events.ts"}
    assert mismatches(draft.spec, raw_schema(tmp_path)) == []


def test_a_log_without_a_request_column_gets_a_gap_in_time(tmp_path: Path) -> None:
    table = raw_log(SPECS["feed"], users=40).drop_columns(["rid", "opened_at", "hour", "score", "country"])
    draft = infer_spec(write(tmp_path, table))
    assert draft.spec.keys.request_id.gap is not None
    assert draft.spec.keys.request_ts.column == "shown_at"
    assert "history" in draft.spec.sequences
    assert "runs of a user's rows" in draft.yaml


def test_a_few_rows_that_disagree_do_not_make_a_request_feature_a_candidates(tmp_path: Path) -> None:
    table = raw_log(SPECS["feed"], users=60)
    hour = table["hour"].to_numpy().copy()
    hour[0] = (hour[0] + 1) % 24
    table = table.set_column(table.schema.get_field_index("hour"), "hour", pa.array(hour, pa.int32()))
    draft = infer_spec(write(tmp_path, table))
    assert "hour" in draft.spec.request_features
    assert "disagree" in draft.yaml


def test_columns_without_a_type_are_left_out_and_said(tmp_path: Path) -> None:
    table = raw_log(SPECS["feed"], users=40)
    table = table.append_column("blob", pa.array([b"x"] * table.num_rows, pa.binary()))
    draft = infer_spec(write(tmp_path, table))
    assert "blob" in draft.left_out
    assert "# Left out: blob (binary" in draft.yaml


def test_newest_first_is_seen_in_the_times(tmp_path: Path) -> None:
    table = raw_log(SPECS["feed"], users=40)
    for name in ("history_item_id", "history_action", "history_ts"):
        turned = [row[::-1] for row in table[name].to_pylist()]
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(turned, field.type))
    assert infer_spec(write(tmp_path, table)).spec.sequences["history"].order == "newest_first"


@pytest.mark.parametrize(
    ("table", "error", "says"),
    [
        (pa.table({"a": pa.array([], pa.int64())}), RawDataError, "no row"),
        (pa.table({"user": [1, 2], "item": [1, 2]}), SpecError, "holds times"),
        (pa.table({"who": [1] * 50, "ts": [1_700_000_000] * 50}), SpecError, "named like a user"),
        (
            pa.table({"user": range(50), "request": range(50), "ts": [1_700_000_000] * 50, "item": range(50)}),
            SpecError,
            "(?s)item|requests of two rows",
        ),
    ],
)
def test_a_log_that_tells_too_little_is_refused(
    table: pa.Table, error: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        infer_spec(write(tmp_path, table))


def test_files_that_cannot_be_read_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match="neither a file, a folder nor a pattern"):
        infer_spec(tmp_path / "nothing")
    with pytest.raises(RawDataError, match=r"holds no files"):
        infer_spec(tmp_path)
    folder = write(tmp_path / "log", raw_log(SPECS["feed"]))
    whole = (folder / "part.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RawDataError, match=r"cut\.parquet is not a whole Parquet file"):
        infer_spec(folder)


def test_files_that_disagree_are_refused(tmp_path: Path) -> None:
    write(tmp_path, pa.table({"a": [1]}), "a.parquet")
    write(tmp_path, pa.table({"a": [[1]]}), "b.parquet")
    with pytest.raises(RawDataError, match="disagree on their columns"):
        read_sample(tmp_path)


def test_codes_are_equal_exactly_where_values_are() -> None:
    lists = pa.chunked_array([[[1, 2], [2, 1], [1, 2], [], None, [1], [1, 2, 2], []]], pa.list_(pa.int64()))
    codes = content_codes(lists)
    rows = [tuple(v) if v is not None else None for v in lists.to_pylist()]
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            assert (codes[i] == codes[j]) == (a == b), (a, b)


def test_flatten_keeps_nulls_of_outer_structs() -> None:
    column = pa.array(
        [{"a": 1, "b": {"c": "x"}}, None], pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.string())]))])
    )
    flat = flatten(pa.table({"s": column}))
    assert flat.to_pydict() == {"s.a": [1, None], "s.b.c": ["x", None]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"keys": {"user_id": "uidd"}}, r"keys\.user_id: .*'uidd'.*Did you mean 'uid'"),
        ({"keys": {"user_id": "country"}}, r"keys\.user_id: .*write \{column: country, type: string\}"),
        ({"keys": {"request_ts": "shown_at"}}, r"keys\.request_ts: .*unit: s, ms or us"),
        ({"keys": {"request_ts": "score"}}, "which is no time"),
        ({"request_features": {"hour": "string"}}, "request_features.hour: the spec says string"),
        ({"request_features": {"hour": "list<int>"}}, "Correct the type"),
        ({"candidate_features": {"cost": "float"}}, "no column 'cost'"),
    ],
)
def test_a_log_that_does_not_fit_is_told_place_by_place(change: dict[str, Any], says: str) -> None:
    data = SPECS["feed"].model_dump(mode="json", exclude_defaults=True)
    for part, entries in change.items():
        data[part] = data[part] | entries
    found = mismatches(parse_spec(data), raw_log(SPECS["feed"]).schema)
    assert len(found) == 1
    assert re.search(says, str(found[0]))


def test_times_need_microseconds_and_a_zone() -> None:
    schema = raw_log(SPECS["feed"]).schema
    at = schema.get_field_index("opened_at")
    naive = mismatches(SPECS["feed"], schema.set(at, pa.field("opened_at", pa.timestamp("us"))))
    assert ["zone: UTC" in str(m) for m in naive] == [True]
    nanos = mismatches(SPECS["feed"], schema.set(at, pa.field("opened_at", pa.timestamp("ns", tz="UTC"))))
    assert ["nanoseconds" in str(m) for m in nanos] == [True]


def test_the_sample_reads_the_head_of_every_file(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path, pa.table({"file": [i] * 1000, "row": range(1000)}), f"{i}.parquet")
    sample = read_sample(tmp_path, rows=40)
    assert sample.total_rows == 4000
    assert np.unique(sample.table["file"]).tolist() == [0, 1, 2, 3]
    assert max(sample.table["row"].to_pylist()) < 20


def _plain(key: Any, without: set[str]) -> Any:
    return key.model_dump(exclude=without) if hasattr(key, "model_dump") else key
