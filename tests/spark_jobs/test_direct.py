"""Workers that read raw files by themselves say the same as Spark's own scan of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spark_jobs.direct import HASH, NEWEST, asking, file_id
from spark_jobs.files import find_files
from spark_jobs.raw import open_raw
from spark_jobs.scan import FILE, ROW
from spark_jobs.worker import Piece
from tests.support.datasets import SPECS, raw_log

pytestmark = pytest.mark.spark


@pytest.mark.parametrize("name", SPECS)
def test_both_ways_give_the_same_rows_and_fingerprints(name: str, spark: Any, write: Any) -> None:
    spec = SPECS[name]
    log = open_raw(spark, spec, find_files([write(raw_log(spec, users=4))]))
    assert log.direct is not None
    names = ["user_id", "request_id", "request_ts", "item_id"]
    ways = [way.hashed(names).orderBy(FILE, ROW) for way in (log, replace(log, direct=None))]
    mine, sparks = ([tuple(row) for row in way.collect()] for way in ways)
    assert mine == sparks
    assert ways[0].columns == ways[1].columns == [*names, "_lossy_row", FILE, ROW, HASH, NEWEST]
    assert ways[0].select(HASH).distinct().count() > 1


def test_row_groups_are_asked_for_their_own_rows() -> None:
    pieces = [Piece("a", "a", 0, 0), Piece("a", "a", 1, 10), Piece("b", "b", 0, 0), Piece("c", "c", 0, 0)]
    files = np.array([file_id(name) for name in ("b", "a", "a", "a", "elsewhere")])
    found = asking(pieces, files, np.array([3, 10, 9, 2, 0]))
    assert [(p.uri, p.group, p.rows.tolist()) for p in found if p.rows is not None] == [
        ("a", 0, [2, 9]),
        ("a", 1, [10]),
        ("b", 0, [3]),
    ]
