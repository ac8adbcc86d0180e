"""docs/examples: each is killed in the middle of an epoch, started again, and goes on as if nothing had happened."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table

from feature_reader import Reader
from lakehouse.settings import Settings
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table

pytestmark = [
    pytest.mark.timeout(200),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # theirs, and fork's
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NEEDS = {"plain_pytorch": (), "with_lightning": ("lightning",), "with_hugging_face": ("transformers", "accelerate")}
SAVE_EVERY, KILLED_AT, EPOCHS = 4, 10, 2


@pytest.fixture(params=NEEDS)
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example's module; skipped where what it shows is not installed."""
    for name in NEEDS[request.param]:
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'reqlake[examples]'")
    importlib.import_module("torch._dynamo")  # an optimizer's first step would import it in each process
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module(request.param)


@pytest.fixture
def feed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setenv("REQLAKE_HOME", str(settings.home))
    spec = SPECS["feed"]
    return write_request_table(settings, spec, reference_requests(raw_log(spec), spec), files=2, row_group=7)


def train(example: Any, run: Path, output: int) -> None:
    """Run the example with its output into a pipe."""
    sys.stdout = os.fdopen(output, "w", buffering=1)
    options = {"history": "history_item_id", "label": "click", "epochs": EPOCHS}
    example.train("reqlake.feed_requests", run, **options, batch_requests=4, save_every=SAVE_EVERY)


def steps_of(example: Any, run: Path) -> Iterator[str]:
    """The lines that the example prints of its steps; it is killed when no more are taken."""
    receive, send = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=train, args=(example, run, send))
    process.start()
    os.close(send)
    try:
        with os.fdopen(receive) as lines:
            yield from (line.strip() for line in lines if line.startswith("step "))
        process.join()
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()


def test_a_killed_example_goes_on_where_it_was(example: Any, feed: Table, tmp_path: Path) -> None:
    reader = Reader(feed, batch_requests=4, columns=["request_id"])
    firsts = [int(batch["request_id"][0]) for _ in range(EPOCHS) for batch in reader]
    before = list(takewhile(lambda line: not line.startswith(f"step {KILLED_AT} "), steps_of(example, tmp_path)))
    after = list(steps_of(example, tmp_path))
    saved = (KILLED_AT - 1) // SAVE_EVERY * SAVE_EVERY
    assert after[0] == before[saved]  # step 9 again, its loss to the last digit
    steps = before[:saved] + after
    assert [line.split()[:4] for line in steps] == [
        ["step", str(i + 1), "request", str(first)] for i, first in enumerate(firsts)
    ]
