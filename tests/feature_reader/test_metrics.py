"""Each stage is measured, and Prometheus reads what `reader_exposition` writes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_reader import Reader
from feature_reader.metrics import COUNTERS, GAUGES, STAGES, reader_exposition
from feature_reader.torch import RequestLoader
from lakehouse.exposition import Family, exposition
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:\w+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')
PAIR = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples of an exposition by name and labels, read as the format's own description says."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP [a-z_]+ .*|TYPE [a-z_]+ (counter|gauge))", line)
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        labels = tuple((k, re.sub(r"\\.", lambda m: ESCAPED[m[0]], v)) for k, v in PAIR.findall(match[2] or ""))
        found[match[1], labels] = float(match[3])
    return found


printable = st.text(st.characters(exclude_categories=["C", "Z"], include_characters='\n "\\'))


@given(values=st.dictionaries(printable, st.floats(allow_nan=False), max_size=4), text=printable)
def test_any_label_and_value_comes_back(values: dict[str, float], text: str) -> None:
    samples = tuple(({"name": name, "other": "x"}, value) for name, value in values.items())
    written = exposition([Family("a_total", "counter", text, samples)])
    assert parsed(written) == {("a_total", (("name", n), ("other", "x"))): v for n, v in values.items()}
    assert written.count("\n") == len(values) + 2


def test_every_stage_of_a_reader_is_told(settings: Settings) -> None:
    spec = SPECS["feed"]
    table = write_request_table(settings, spec, reference_requests(raw_log(spec), spec), files=2, row_group=7)
    reader = Reader(table, batch_requests=8)
    bytes_given = sum(batch.nbytes for batch in RequestLoader(reader, device="cpu"))
    found = parsed(reader_exposition(reader.stats, dataset="feed"))
    by_stage = {dict(labels)["stage"]: value for (_, labels), value in found.items() if "stage" in dict(labels)}
    assert set(by_stage) == set(STAGES)
    assert all(by_stage[stage] > 0 for stage in ("plan", "read", "decode", "collate", "copy"))
    label = (("dataset", "feed"),)
    assert found["reqlake_reader_requests_total", label] == 60
    assert found["reqlake_reader_steps_total", label] == len(reader) == 8
    assert found["reqlake_reader_copied_bytes_total", label] == bytes_given
    assert found["reqlake_reader_units_total", label] == len(reader.plan.units)
    assert found["reqlake_reader_queue_batches", label] == 0
    assert found["reqlake_reader_read_bytes_total", label] > 0
    told = {*COUNTERS, *GAUGES, *(f"{stage}_s" for stage in STAGES)}
    assert told == set(reader.stats.as_dict())


def test_batches_that_wait_are_counted(settings: Settings) -> None:
    spec = SPECS["feed"]
    table = write_request_table(settings, spec, reference_requests(raw_log(spec), spec), files=1, row_group=100)
    reader = Reader(table, batch_requests=10, memory_bytes=1 << 30)
    batches = iter(reader)
    next(batches)
    assert reader.stats.queue_batches == 5
    list(batches)
    assert reader.stats.queue_batches == 0


@pytest.mark.parametrize(("value", "text"), [(float("nan"), "NaN"), (float("inf"), "+Inf"), (2.0, "2"), (0.5, "0.5")])
def test_numbers_are_written_as_the_format_has_them(value: float, text: str) -> None:
    assert exposition([Family("x", "gauge", "h", (({}, value),))]).splitlines()[-1] == f"x {text}"
