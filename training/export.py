"""An export: a model as serving loads it, `model.safetensors` and `config.json`, no pickle.

The version is a hash of the weights and the inputs, so that equal models have equal versions wherever they were made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lakehouse.errors import FormatError
from lakehouse.spec import DatasetSpec, spec_from_json
from training.errors import CheckpointError
from training.folders import write_folder
from training.models import ModelInputs, Ranker, RankerConfig

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Export:
    """A loaded export: the model in eval mode, its version, its dataset's spec, and where it came from."""

    model: Ranker
    version: str
    spec: DatasetSpec
    origin: dict[str, Any]


def model_version(model: Ranker) -> str:
    """16 hex digits of the SHA-256 over inputs, size and weights."""
    digest = hashlib.sha256(json.dumps(_description(model), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def write_export(folder: Path, model: Ranker, spec: DatasetSpec, origin: dict[str, Any]) -> str:
    """Write the model below `folder/<version>` at once; `origin` says what it was trained on. Returns the version."""
    version = model_version(model)
    config = {
        "format": FORMAT,
        "version": version,
        **_description(model),
        "spec": json.loads(spec.to_json()),
        "origin": origin,
    }

    def write(partial: Path) -> None:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, partial / WEIGHTS)
        (partial / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")

    write_folder(folder / version, write)
    return version


def load_export(folder: Path, device: str = "cpu") -> Export:
    """Load an export. Raises CheckpointError that names what is missing or wrong, FormatError if it is newer."""
    config = read_json(folder / CONFIG, "an export")
    check_format(config, folder, "export")
    try:
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers are their own
            model = Ranker(ModelInputs.from_json(config["inputs"]), RankerConfig(**config["model"]))
        model.load_state_dict(load_file(folder / WEIGHTS))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} has no {WEIGHTS}: the export is not whole, train again") from error
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} cannot be loaded: {error}. Its files do not belong together") from error
    model.eval().requires_grad_(False)
    if (found := model_version(model)) != config["version"]:
        raise CheckpointError(
            f"{folder}: the weights hash to {found}, the export says {config['version']}: it was changed"
        )
    spec = spec_from_json(json.dumps(config["spec"]), f"the spec of {folder}")
    return Export(model.to(device), config["version"], spec, config["origin"])


def check_format(config: dict[str, Any], folder: Path, what: str) -> None:
    """Raises FormatError for a newer format, or none at all."""
    version = config.get("format")
    if not isinstance(version, int):
        raise FormatError(f"{folder} is not a reqlake {what}: its {CONFIG} names no format")
    if version > FORMAT:
        raise FormatError(f"{folder} is of {what} format {version}, this reqlake reads up to {FORMAT}: upgrade reqlake")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON file of ours. Raises CheckpointError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path.parent} is not {what}: cannot read {path.name} ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is damaged: it holds {type(data).__name__}, not a mapping")
    return data


def _description(model: Ranker) -> dict[str, Any]:
    return {"inputs": model.inputs.to_json(), "model": dataclasses.asdict(model.config)}
