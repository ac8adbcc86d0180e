"""The engine: scores do not depend on cuts, splits or company, and plain requests equal the table's batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_reader import RequestBatch
from serving.engine import TOLERANCE, Budget, Engine, Scores
from serving.errors import RequestError, ServingError
from tests.support.datasets import SPECS, raw_log, reference_requests
from tests.training.batches import ranker, request_batch
from training.export import load_export, write_export

NAMES = ["feed", "shop", "video"]
SIZES = {"users": 6, "requests_per_user": 3, "fanout": 4, "history": 9}
BATCHES = {name: request_batch(name, **SIZES) for name in NAMES}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An export of each dataset's ranker."""
    folder = tmp_path_factory.mktemp("exports")
    made = {}
    for name in NAMES:
        version = write_export(folder / name, ranker(name, BATCHES[name]), SPECS[name], {})
        made[name] = folder / name / version
    return made


def worst(a: Scores, b: Scores, rows: slice = slice(None)) -> float:
    """The largest difference, relative to one unit of score (labels in their own unit are as large as they are)."""
    return max(float(np.abs(a[t][rows] - b[t]).max() / max(1.0, np.abs(a[t]).max())) for t in a)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_the_models(name: str, exports: dict[str, Path]) -> None:
    export = load_export(exports[name])
    expected = export.model.predict(export.model(BATCHES[name]))
    scores = Engine(export).score(BATCHES[name].numpy())
    assert scores.keys() == expected.keys()
    for task, values in scores.items():
        assert values.tolist() == expected[task].tolist()


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(NAMES), tokens=st.integers(1, 80), candidates=st.integers(1, 40), data=st.data())
def test_a_score_does_not_depend_on_its_company(
    name: str, tokens: int, candidates: int, data: st.DataObject, exports: dict[str, Path]
) -> None:
    """Any cut of any batch, down to one candidate a crossing, gives the same scores."""
    batch = BATCHES[name]
    start = data.draw(st.integers(0, batch.R - 1))
    stop = data.draw(st.integers(start + 1, batch.R))
    whole = Engine.load(exports[name]).score(batch)
    some = Engine.load(exports[name], budget=Budget(tokens, candidates)).score(batch.slice(start, stop))
    rows = slice(int(batch.candidate_offsets[start]), int(batch.candidate_offsets[stop]))
    assert worst(whole, some, rows) <= TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_plain_requests_score_as_the_table_does(name: str, exports: dict[str, Path]) -> None:
    engine = Engine.load(exports[name])
    rows = reference_requests(raw_log(SPECS[name], **SIZES), SPECS[name]).to_pylist()
    scores = engine.score(BATCHES[name])
    ranked = engine.rank(rows)
    offsets = BATCHES[name].candidate_offsets.tolist()
    for i, candidates in enumerate(ranked):
        first = engine.tasks[0]
        found = [c["score"][first] for c in candidates]
        assert found == sorted(found, reverse=True)
        assert sorted(found) == sorted(scores[first][offsets[i] : offsets[i + 1]].tolist())
        assert sorted(c["position"] for c in candidates) == sorted(rows[i]["position"])


def test_what_a_request_leaves_out_is_missing(exports: dict[str, Path]) -> None:
    (one,) = Engine.load(exports["feed"]).rank([{"item_id": [7, 8, 9], "hour": 3}])
    assert sorted(c["item_id"] for c in one) == [7, 8, 9]
    assert all(0 < c["score"]["click"] < 1 for c in one)


def test_no_requests_have_no_scores(exports: dict[str, Path]) -> None:
    engine = Engine.load(exports["video"])
    assert engine.rank([]) == []
    assert {task: len(values) for task, values in engine.score(BATCHES["video"].slice(0, 0)).items()} == {
        "finished": 0,
        "watch_seconds": 0,
    }


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"hour": 1}, "request 0: no item_id"),
        ({"item_id": [1], "huor": 1}, "unknown field 'huor'. Did you mean 'hour'"),
        ({"item_id": [1, 2], "price": [1.0]}, "'price' has 1 entries for 2 candidates"),
        ({"item_id": [1], "hour": "noon"}, "'hour' takes int"),
        ({"item_id": [1], "history_item_id": [1, 2], "history_action": [1]}, "lists of 'history' differ in length"),
    ],
)
def test_a_bad_request_is_named(request_: dict[str, object], says: str, exports: dict[str, Path]) -> None:
    with pytest.raises(RequestError, match=says):
        Engine.load(exports["feed"]).rank([request_])


def test_a_vector_has_its_size(exports: dict[str, Path]) -> None:
    with pytest.raises(RequestError, match=r"'taste'.*2 numbers, not 4"):
        Engine.load(exports["video"]).rank([{"item_id": [1], "taste": [1.0, 2.0]}])


def test_a_batch_without_a_column_is_refused(exports: dict[str, Path]) -> None:
    batch = BATCHES["feed"]
    request = {k: v for k, v in batch.request.items() if k != "hour"}
    with pytest.raises(ServingError, match="no hour"):
        Engine.load(exports["feed"]).score(RequestBatch(request, batch.candidates, batch.candidate_offsets))
