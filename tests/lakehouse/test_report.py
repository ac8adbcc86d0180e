"""The dedup report: its bytes are those of the files and arrays, its layouts really sorted, its page self-contained."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lakehouse.errors import RawDataError, TableMissingError
from lakehouse.report import DedupReport, dedup_report, print_report, write_html
from lakehouse.report.distribution import distribution
from lakehouse.report.layouts import rewrite, time_order, user_order
from lakehouse.report.measure import leaf_names, measure
from lakehouse.report.page import render
from lakehouse.report.units import change, size
from lakehouse.settings import Settings, load_settings
from lakehouse.spec import DatasetSpec, parse_spec
from tests.lakehouse.merge_on_read import delete_positions
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table


def write_raw(raw: pa.Table, folder: Path, files: int = 3) -> list[Path]:
    folder.mkdir(parents=True)
    bounds = np.linspace(0, len(raw), files + 1).astype(int)
    paths = [folder / f"{i}.parquet" for i in range(files)]
    for path, start, end in zip(paths, bounds, bounds[1:], strict=False):
        pq.write_table(raw.slice(start, end - start), path, compression="snappy")
    return paths


@pytest.fixture(scope="module", params=SPECS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DatasetSpec, DedupReport, Path]:
    spec, home = SPECS[request.param], tmp_path_factory.mktemp("report")
    raw = raw_log(spec, history=40, fanout=8)
    write_raw(raw, home / "raw")
    settings = load_settings(home=home / "lake")
    write_request_table(settings, spec, reference_requests(raw, spec))
    return spec, dedup_report(settings, spec, [str(home / "raw")], scratch=home), home


def test_deleted_rows_are_no_requests(settings: Settings, tmp_path: Path) -> None:
    spec = SPECS["feed"]
    raw = raw_log(spec, users=3)
    write_raw(raw, tmp_path / "raw")
    table = write_request_table(settings, spec, reference_requests(raw, spec))
    before = dedup_report(settings, spec, [str(tmp_path / "raw")], scratch=tmp_path)
    delete_positions(table, {next(iter(table.scan().plan_files())).file.file_path: [0]})
    after = dedup_report(settings, spec, [str(tmp_path / "raw")], scratch=tmp_path)
    assert after.requests == after.layout("requests").rows == before.requests - 1
    assert "1 rows more that are deleted" in after.layout("requests").detail
    assert after.layout("requests").file_bytes == before.layout("requests").file_bytes


def test_bytes_are_those_of_the_files_and_of_the_arrays(made: tuple[DatasetSpec, DedupReport, Path]) -> None:
    _, report, home = made
    files = sorted((home / "raw").iterdir())
    raw = report.layout("raw")
    assert raw.file_bytes == sum(f.stat().st_size for f in files)
    assert raw.rows == report.raw_rows == sum(pq.read_metadata(f).num_rows for f in files)
    assert raw.decoded_bytes == sum(pq.read_table(f).nbytes for f in files)
    stored = [f for f in (home / "lake").rglob("*.parquet") if f.parent.name != "metadata"]
    assert report.layout("requests").file_bytes == sum(f.stat().st_size for f in stored)
    assert report.layout("requests").files == report.layout("flat_sorted").files == len(stored)
    assert {c.name for c in report.columns if c.kind != "added"} == set(pq.read_schema(files[0]).names)
    assert {c.name for c in report.columns if c.kind == "unused"} == set()
    for part, key in (("raw", "raw"), ("requests", "requests")):
        total = sum(getattr(c, part) for c in report.columns)
        assert 0.3 * report.layout(key).file_bytes < total < report.layout(key).file_bytes
    assert sum(c.decoded_flat for c in report.columns) == raw.decoded_bytes
    assert sum(c.decoded_requests for c in report.columns) == report.layout("requests").decoded_bytes


def test_each_factor_has_its_baseline(made: tuple[DatasetSpec, DedupReport, Path]) -> None:
    _, report, _ = made
    assert [f.baseline for f in report.factors] == [
        "Raw log as it lies",
        "In time order",
        "Sorted by user and request",
        "Flat rows, in any order",
    ]
    for factor in report.factors:
        assert factor.value == pytest.approx(factor.baseline_bytes / factor.of_bytes)
    assert json.loads(json.dumps(report.to_json()))["factors"][3]["value"] == report.factors[3].value > 1


def test_fan_out_and_history_lengths_are_those_of_the_requests(made: tuple[DatasetSpec, DedupReport, Path]) -> None:
    spec, report, _ = made
    requests = reference_requests(raw_log(spec, history=40, fanout=8), spec)
    lengths = [len(items) for items in requests["item_id"].to_pylist()]
    assert (report.fan_out.count, report.fan_out.total) == (len(lengths), sum(lengths))
    assert report.candidates == sum(lengths)
    assert report.fan_out.maximum == max(lengths)
    for name, found in report.histories.items():
        column = next(c.name for c in spec.columns("sequence") if c.group == name)
        assert found.total == sum(len(events or []) for events in requests[column].to_pylist())


def test_nothing_stays_in_the_scratch_folder(made: tuple[DatasetSpec, DedupReport, Path]) -> None:
    assert sorted(p.name for p in made[2].iterdir()) == ["lake", "raw"]


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_layouts_hold_the_same_rows_in_order(name: str, memory: int, tmp_path: Path) -> None:
    spec = SPECS[name]
    raw = raw_log(spec)
    files = write_raw(raw, tmp_path / "raw")
    at = (spec.keys.impression_ts or spec.keys.request_ts).column
    keys = {time_order: [at], user_order: [spec.keys.user_id.column, spec.keys.request_id.column]}
    for order, sorted_by in keys.items():
        paths = rewrite(
            files, order(files, spec), tmp_path / order.__name__, parts=4, decoded_bytes=raw.nbytes, memory=memory
        )
        assert len(paths) == 4
        rows = pa.concat_tables([pq.read_table(path) for path in paths]).to_pylist()
        assert Counter(map(repr, rows)) == Counter(map(repr, raw.to_pylist()))
        found = [tuple(row[key] for key in sorted_by) for row in rows]
        assert found == sorted(found)


def test_nested_columns_are_measured_leaf_by_leaf(tmp_path: Path) -> None:
    events = pa.list_(pa.struct({"id": pa.int64(), "at": pa.int64()}))
    table = pa.table({"e": pa.array([[{"id": 1, "at": 2}] * 50, None, []], events), "x": [[["a"]], [], None]})
    assert leaf_names(table.schema) == ["e.id", "e.at", "x"]
    path = tmp_path / "n.parquet"
    pq.write_table(table, path)
    found = measure([("n", path.stat().st_size, lambda: str(path))], decode=True)
    assert set(found.compressed) == set(found.decoded) == {"e.id", "e.at", "x"}
    assert sum(found.decoded.values()) == pq.read_table(path).nbytes
    assert found.decoded["e.at"] >= 50 * 8


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60))
def test_a_distribution_keeps_every_value_in_one_bin(lengths: list[int]) -> None:
    counts = Counter(lengths)
    values = sorted(counts)
    found = distribution(values, [counts[v] for v in values])
    assert sum(b.count for b in found.bins) == found.count == len(lengths)
    assert found.total == sum(lengths)
    assert found.median == sorted(lengths)[(len(lengths) - 1) // 2]
    assert len(found.bins) <= 24


class Page(HTMLParser):
    """Collects tags, and complains of tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_says_every_number(
    made: tuple[DatasetSpec, DedupReport, Path], tmp_path: Path
) -> None:
    _, report, _ = made
    path = write_html(report, tmp_path / "out" / "report.html")
    text = path.read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert not re.search(r"https?://|<script|<link|<img|@import|url\(", text)
    images = [attrs for tag, attrs in page.seen if tag == "svg"]
    health = 2  # files of each partition, and the small ones
    assert len(images) == 3 + len(report.histories) + health
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in images)
    assert ("html", {"lang": "en"}) in page.seen
    for layout in report.layouts:
        assert size(layout.file_bytes) in text
    for column in report.columns:
        assert column.name in text
    assert "no file compression lowers" in text
    assert "prefers-color-scheme: dark" in text


def test_no_value_of_the_data_is_on_the_page_or_in_the_terminal(
    made: tuple[DatasetSpec, DedupReport, Path],
) -> None:
    spec, report, home = made
    out = StringIO()
    print_report(report, Console(file=out, width=100))
    raw = pa.concat_tables([pq.read_table(f) for f in (home / "raw").iterdir()])
    secret = [str(v) for v in raw[spec.keys.user_id.column].unique().to_pylist() if isinstance(v, str)]
    assert not [v for v in secret if v in render(report) or v in out.getvalue()]
    if secret:
        assert f"{spec.keys.user_id.column} (sensitive)" in out.getvalue()


@pytest.mark.parametrize("width", [80, 100])
def test_the_terminal_shows_the_report_whole(made: tuple[DatasetSpec, DedupReport, Path], width: int) -> None:
    _, report, _ = made
    out = StringIO()
    print_report(report, Console(file=out, width=width))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for layout in report.layouts:
        assert layout.label in text
        assert size(layout.file_bytes) in text
    assert f"{change(report.factors[3].value)}" in text


@pytest.mark.parametrize(
    ("factor", "says"),
    [(2.5, "2.5× fewer"), (0.5, "2.0× more"), (1.02, "2% fewer"), (0.98, "2% more"), (1.0, "0% fewer"), (0, "–")],
)
def test_a_factor_near_one_is_told_in_per_cent(factor: float, says: str) -> None:
    assert change(factor) == says


def test_names_that_html_would_read_are_escaped(made: tuple[DatasetSpec, DedupReport, Path]) -> None:
    import dataclasses

    _, report, _ = made
    odd = dataclasses.replace(report.columns[0], name="<script>alert(1)</script>")
    text = render(dataclasses.replace(report, columns=(odd,), dataset="a & <b>"))
    assert "<script" not in text
    assert "a &amp; &lt;b&gt;" in text


def test_a_raw_log_with_structs_and_a_gap_request_is_paired_with_its_columns(tmp_path: Path) -> None:
    spec = parse_spec(
        {
            "name": "nested",
            "keys": {
                "user_id": "u",
                "request_id": {"gap": "30m"},
                "request_ts": {"column": "at", "unit": "s"},
                "impression_ts": {"column": "at", "unit": "s"},
                "item_id": "i",
            },
            "sequences": {"history": {"fields": {"id": {"type": "long", "column": "events.id"}}}},
            "labels": {"click": "float"},
        }
    )
    events = pa.list_(pa.struct({"id": pa.int64()}))
    raw = pa.table(
        {
            "u": [2, 1, 1],
            "at": [9, 7, 5],
            "i": [1, 2, 3],
            "events": pa.array([[{"id": 4}]] * 3, events),
            "click": [0.0, 1, 0],
        }
    )
    files = write_raw(raw, tmp_path / "raw", files=1)
    assert time_order(files, spec).tolist() == [2, 1, 0]
    assert user_order(files, spec).tolist() == [2, 1, 0]
    from lakehouse.report.columns import pair_columns

    found = measure([("f", 1, lambda: str(files[0]))], decode=True)
    pairs = pair_columns(spec, found, found, found, measure([], decode=True))
    assert {(c.name, c.kind) for c in pairs} == {
        ("u", "key"),
        ("at", "key"),
        ("i", "key"),
        ("events.id", "sequence"),
        ("click", "label"),
    }


def test_bad_input_is_named(settings: Settings, tmp_path: Path) -> None:
    spec = SPECS["feed"]
    with pytest.raises(TableMissingError, match=r"no table reqlake\.feed_requests"):
        dedup_report(settings, spec, [str(tmp_path)])
    raw = raw_log(spec, users=2)
    write_request_table(settings, spec, reference_requests(raw, spec))
    with pytest.raises(RawDataError, match="nowhere"):
        dedup_report(settings, spec, [str(tmp_path / "nowhere")])
    (path,) = write_raw(raw, tmp_path / "raw", files=1)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(RawDataError, match=r"cannot read .*0\.parquet"):
        dedup_report(settings, spec, [str(path)])


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1536, "1.54 kB"), (12_345_678, "12.3 MB"), (999_600, "1.00 MB")]
)
def test_sizes_have_three_digits_and_a_unit(count: int, text: str) -> None:
    assert size(count) == text
