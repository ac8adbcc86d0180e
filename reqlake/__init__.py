"""The names that a user imports first. Each is loaded when it is asked for, so that `import reqlake` is free.

from reqlake import Reader, load_settings

for batch in Reader.open(load_settings(), "reqlake.movielens_requests"):
    ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feature_reader import Jagged, Reader, RequestBatch
    from lakehouse.errors import ReqlakeError
    from lakehouse.settings import Settings, load_settings
    from lakehouse.spec import DatasetSpec, load_spec
    from lakehouse.spec.infer import infer_spec
    from lakehouse.sql.ask import sql
    from serving.engine import Engine
    from serving.scoring import score
    from spark_jobs.ingest import run as ingest
    from spark_jobs.session import build_session
    from training.config import TrainConfig
    from training.evaluate import evaluate
    from training.loop import train

HOMES = {
    "DatasetSpec": "lakehouse.spec",
    "Engine": "serving.engine",
    "Jagged": "feature_reader",
    "Reader": "feature_reader",
    "ReqlakeError": "lakehouse.errors",
    "RequestBatch": "feature_reader",
    "Settings": "lakehouse.settings",
    "TrainConfig": "training.config",
    "build_session": "spark_jobs.session",
    "evaluate": "training.evaluate",
    "infer_spec": "lakehouse.spec.infer",
    "ingest": "spark_jobs.ingest:run",
    "load_settings": "lakehouse.settings",
    "load_spec": "lakehouse.spec",
    "score": "serving.scoring",
    "sql": "lakehouse.sql.ask",
    "train": "training.loop",
}

__all__ = [
    "DatasetSpec",
    "Engine",
    "Jagged",
    "Reader",
    "ReqlakeError",
    "RequestBatch",
    "Settings",
    "TrainConfig",
    "build_session",
    "evaluate",
    "infer_spec",
    "ingest",
    "load_settings",
    "load_spec",
    "score",
    "sql",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home: `module`, `module:other_name`, or `module:` for the module itself."""
    if name not in HOMES:
        raise AttributeError(f"module 'reqlake' has no attribute {name!r}; it has {', '.join(HOMES)}")
    home, colon, other = HOMES[name].partition(":")
    module = import_module(home)
    value = module if colon and not other else getattr(module, other or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *HOMES])
