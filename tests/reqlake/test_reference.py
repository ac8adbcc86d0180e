"""The generated parts of the docs are what the code says now, and every command and model is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.spec import fields
from reqlake.cli.app import COMMANDS
from reqlake.reference import PART, fill

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["spec.md", "cli.md"])
def test_generated_parts_are_up_to_date(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert fill(text) == text, f"run: python -m reqlake.reference docs/{page}"


def test_every_command_has_its_section() -> None:
    assert {m[3] for m in PART.finditer((DOCS / "cli.md").read_text())} == set(COMMANDS)


def test_every_model_of_the_spec_has_its_table() -> None:
    text = (DOCS / "spec.md").read_text()
    models = {n for n, m in vars(fields).items() if isinstance(m, type) and issubclass(m, fields.Part) and n != "Part"}
    assert {m[3] for m in PART.finditer(text)} == models | {"DatasetSpec"}
    for name in models:
        assert f"# {name}\n" in text, "links point to it"


def test_every_option_is_explained() -> None:
    for m in PART.finditer((DOCS / "cli.md").read_text()):
        assert "|  |\n" not in m[0], m[3]
