"""`reqlake spec check`, `infer` and `show`, as a user types them."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lakehouse.spec import dump_yaml, load_spec
from reqlake.demo.movielens import SPEC
from tests.reqlake.cli.conftest import Run
from tests.support.datasets import SPECS, raw_log


@pytest.fixture
def feed(tmp_path: Path) -> tuple[Path, Path]:
    """A spec file and a raw log that fits it."""
    (tmp_path / "feed.yaml").write_text(dump_yaml(SPECS["feed"]))
    pq.write_table(raw_log(SPECS["feed"], users=40), tmp_path / "log.parquet")
    return tmp_path / "feed.yaml", tmp_path / "log.parquet"


def test_check_prints_the_table_that_follows(run: Run) -> None:
    said = run("spec", "check", SPEC)
    assert said.code == 0
    for shown in ("reqlake.movielens_requests", "history_item_id", "list<list<string>>", "--growth"):
        assert shown in said.out


def test_check_against_a_log_that_fits(run: Run, feed: tuple[Path, Path]) -> None:
    said = run("spec", "check", feed[0], "--raw", feed[1])
    assert said.code == 0
    assert "has every column that the spec reads" in said.text
    assert "files under 64 MB cost more to open than to read" in said.text
    assert "{grain: none, buckets: 4}" in said.text


def test_check_against_a_log_that_does_not_fit_ends_with_1(run: Run, feed: tuple[Path, Path]) -> None:
    said = run("spec", "check", SPEC, "--raw", feed[1])
    assert said.code == 1
    assert "✗ keys.user_id: the raw log has no column 'user'" in said.out
    assert "ingest drops them" in said.text


def test_check_advises_for_growth(run: Run, feed: tuple[Path, Path]) -> None:
    said = run("spec", "check", feed[0], "--growth", "100_000_000".replace("_", ""))
    assert said.code == 0
    assert "Expected: 2,281,250,000 requests" in said.out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sequencs: {}", "sequencs: unknown field. Did you mean 'sequences'?"),
        ("conflict: most", "conflict: "),
        ("labels: {like: {type: string}}", "labels.like"),
        ("request_features: {hour: {type: integer}}", "unknown element 'integer'"),
        ("partition: {buckets: 0}", "partition.buckets"),
        ("reqlake: 2", "spec format 2, this reqlake reads up to 1"),
        ("  - nonsense: [", "is not YAML"),
    ],
)
def test_a_bad_spec_names_field_value_and_remedy(run: Run, tmp_path: Path, line: str, says: str) -> None:
    text = "name: x\nkeys: {user_id: u, request_id: r, request_ts: t, item_id: i}\n"
    (tmp_path / "bad.yaml").write_text(text + line + "\n")
    said = run("spec", "check", "bad.yaml")
    assert said.code == 1
    assert says in said.err
    assert "bad.yaml" in said.err


def test_infer_prints_a_spec_that_check_accepts(run: Run, feed: tuple[Path, Path], tmp_path: Path) -> None:
    printed = run("spec", "infer", feed[1], "--name", "feed")
    assert printed.code == 0
    written = run("spec", "infer", feed[1], "--name", "feed", "--out-file", "draft.yaml")
    assert written.out == ""
    assert (tmp_path / "draft.yaml").read_text() == printed.out
    assert load_spec(tmp_path / "draft.yaml").name == "feed"
    assert run("spec", "check", "draft.yaml", "--raw", feed[1]).code == 0


def test_infer_of_nothing_is_one_clear_error(run: Run) -> None:
    said = run("spec", "infer", "nowhere/*.parquet")
    assert said.code == 1
    assert "neither a file, a folder nor a pattern" in said.err


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize("name", ["feed", "reqlake.feed_requests", "feed_requests"])
def test_show_gives_the_spec_of_a_table(run: Run, tmp_path: Path, name: str) -> None:
    said = run("spec", "show", name)
    (tmp_path / "shown.yaml").write_text(said.out)
    assert load_spec(tmp_path / "shown.yaml") == SPECS["feed"]


@pytest.mark.usefixtures("lake")
def test_show_of_a_table_that_is_not_there_suggests_one(run: Run) -> None:
    said = run("spec", "show", "fed")
    assert said.code == 1
    assert "Did you mean 'reqlake.feed_requests'?" in said.err
