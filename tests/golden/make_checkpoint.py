"""Make the golden run of today's format: `python -m tests.golden.make_checkpoint`, once, never over an old one.

A tiny ranker for the "video" dataset, trained for two epochs on a throw-away lake: `run.json`, the last checkpoint, the
export, and plain requests with the scores that the export gave them (`expected.json`).
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from lakehouse.settings import load_settings
from lakehouse.spec import parse_spec
from serving.engine import Engine
from tests.support.datasets import SPECS, raw_log, reference_requests, write_request_table
from training.config import TrainConfig
from training.loop import EXPORT, train
from training.models import RankerConfig

HERE = Path(__file__).parent / "checkpoint"
FORMAT = "v1"
MODEL = RankerConfig(width=8, layers=2, heads=2, history_length=4, head_width=8, embedding_dropout=0.1)


def make(folder: Path) -> None:
    """Write the run below `folder`, which must not be there yet."""
    data = SPECS["video"].model_dump(mode="json", exclude_defaults=True)
    small = {name: {"rows": 16, "dim": 4} for name in SPECS["video"].embeddings}
    spec = parse_spec(data | {"embeddings": small})
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(home=home)
        requests = reference_requests(raw_log(spec, users=12, fanout=2), spec)
        write_request_table(settings, spec, requests)
        run = train(
            TrainConfig(table=spec.table(), run=Path(home) / "run", epochs=2, batch_requests=16, model=MODEL), settings
        ).run
        rows = [plain(row) for row in requests.slice(0, 4).to_pylist()]
        batch_scores = Engine.load(run / EXPORT).rank(rows)
        expected = {"requests": rows, "ranked": batch_scores}
        shutil.copytree(run / "exports", folder / "exports")
        latest = max((run / "checkpoints").iterdir())
        shutil.copytree(latest, folder / "checkpoints" / latest.name)
        document = json.loads((run / "run.json").read_text(encoding="utf-8"))
        document["config"]["run"] = None
        (folder / "run.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        (folder / "expected.json").write_text(json.dumps(expected, indent=1), encoding="utf-8")


def plain(row: dict[str, object]) -> dict[str, object]:
    """A row of the table as a request in JSON: times in microseconds, without labels and ranks."""
    names = {"user_id", "request_id", "request_ts", "item_id", "position", "taste", "device", "look", "tags", "length"}
    kept = {name: value for name, value in row.items() if name in names or name.startswith(("watched_", "searched_"))}
    kept["request_ts"] = microseconds(row["request_ts"])
    kept["watched_at"] = [microseconds(at) for at in row["watched_at"]]  # type: ignore[attr-defined]
    return kept


def microseconds(at: object) -> int:
    """Of a datetime since the epoch, exactly."""
    return int(at.timestamp()) * 1_000_000 + at.microsecond  # type: ignore[attr-defined]


if __name__ == "__main__":
    if (HERE / FORMAT).exists():
        sys.exit(f"{HERE / FORMAT} is there: a golden file is never made again, raise the format instead")
    make(HERE / FORMAT)
