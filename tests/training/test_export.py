"""Exports and folders: whole or not at all, versioned by content, newer ones refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lakehouse.errors import FormatError
from tests.support.datasets import SPECS
from tests.training.batches import ranker, request_batch
from training.errors import CheckpointError
from training.export import load_export, model_version, write_export
from training.folders import write_folder


@pytest.fixture
def export(tmp_path: Path) -> Path:
    model = ranker("video", request_batch("video", users=3))
    return tmp_path / write_export(tmp_path, model, SPECS["video"], {"snapshot_id": 1})


def test_a_loaded_export_predicts_the_same(export: Path) -> None:
    batch = request_batch("video", users=3)
    model = ranker("video", batch).eval()
    loaded = load_export(export)
    assert torch.equal(loaded.model(batch), model(batch))
    assert loaded.spec == SPECS["video"]
    assert loaded.version == export.name
    assert sorted(p.name for p in export.iterdir()) == ["config.json", "model.safetensors"]
    assert len({p.stat().st_mode for p in export.iterdir()}) == 1


def test_the_version_is_that_of_the_content(export: Path, tmp_path: Path) -> None:
    batch = request_batch("video", users=3)
    assert write_export(tmp_path, ranker("video", batch), SPECS["video"], {}) == export.name
    assert model_version(ranker("video", batch, seed=1)) != export.name


def change(export: Path, **values: object) -> None:
    config = json.loads((export / "config.json").read_text())
    (export / "config.json").write_text(json.dumps(config | values))


def test_a_newer_format_is_refused_by_name(export: Path) -> None:
    change(export, format=2)
    with pytest.raises(FormatError, match="of export format 2, this reqlake reads up to 1: upgrade"):
        load_export(export)


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is not an export: cannot read config\.json"):
        load_export(tmp_path)


def test_changed_weights_are_refused(export: Path) -> None:
    change(export, version="0123456789abcdef")
    with pytest.raises(CheckpointError, match="it was changed"):
        load_export(export)


def test_cut_weights_are_refused(export: Path) -> None:
    weights = export / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_export(export)


def test_a_folder_whose_writing_fails_is_not_there(tmp_path: Path) -> None:
    def half(folder: Path) -> None:
        (folder / "one").write_text("1")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_folder(tmp_path / "it", half)
    assert not (tmp_path / "it").exists()
    write_folder(tmp_path / "it", lambda folder: (folder / "one").write_text("1") and None)
    assert [p.name for p in tmp_path.iterdir()] == ["it"]
