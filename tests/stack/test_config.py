"""reqlake.toml keeps what its owner wrote."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.stack.config import merge_settings, merge_text
from lakehouse.stack.errors import StackError

OURS = {"catalog": {"uri": "postgresql://lake:pw@127.0.0.1:5/lake"}, "s3": {"path_style": True}}


def test_a_new_file_is_private(tmp_path: Path) -> None:
    file = tmp_path / "reqlake.toml"
    merge_settings(file, OURS)
    assert tomllib.loads(file.read_text()) == OURS
    assert file.stat().st_mode & 0o777 == 0o600


def test_other_keys_comments_and_order_stay(tmp_path: Path) -> None:
    file = tmp_path / "reqlake.toml"
    file.write_text(
        'home = "lake"  # where it lies\n'
        "\n"
        "[catalog]  # ours\n"
        'name = "lake"\n'
        'uri = "sqlite:///old.db"\n'
        "\n"
        "[spark.conf]\n"
        '"spark.ui.enabled" = "true"\n'
    )
    file.chmod(0o644)
    merge_settings(file, OURS)
    assert file.read_text() == (
        'home = "lake"  # where it lies\n'
        "\n"
        "[catalog]  # ours\n"
        'name = "lake"\n'
        'uri = "postgresql://lake:pw@127.0.0.1:5/lake"\n'
        "\n"
        "[spark.conf]\n"
        '"spark.ui.enabled" = "true"\n'
        "\n"
        "[s3]\n"
        "path_style = true\n"
    )
    assert file.stat().st_mode & 0o777 == 0o600


def test_merging_twice_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "reqlake.toml"
    merge_settings(file, OURS)
    once = file.read_bytes()
    merge_settings(file, OURS)
    assert file.read_bytes() == once


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("catalog = {uri = 'sqlite:///x'}\n", "as a line of its own"),
        ("catalog.uri = 'sqlite:///x'\n", "as a line of its own"),
        ("catalog = 3\n", "not a section"),
        ("[catalog\n", "cannot read"),
    ],
)
def test_what_cannot_be_changed_safely_is_refused_and_left(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "reqlake.toml"
    file.write_text(text)
    with pytest.raises(StackError, match=says):
        merge_settings(file, OURS)
    assert file.read_text() == text


names = st.text("abcdefg_", min_size=1, max_size=6)
values = st.text("ab\"'\\\n#=[]é", max_size=8) | st.booleans() | st.integers(-9, 9)
sections = st.dictionaries(names, st.dictionaries(names, values, max_size=4), max_size=4)


@given(sections, sections)
def test_merge_says_what_a_dictionary_update_says(before: dict, ours: dict) -> None:
    text = ""
    for settings in (before, ours):
        for section, keys in settings.items():
            text = merge_text(text, section, keys)
    wanted = {s: before.get(s, {}) | ours.get(s, {}) for s in {**before, **ours}}
    assert tomllib.loads(text) == wanted
