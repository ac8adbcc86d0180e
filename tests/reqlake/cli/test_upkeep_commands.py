"""Training sets, samples and maintenance on the command line, on a lake without Spark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.reqlake.cli.conftest import Run

lake = pytest.mark.usefixtures("lake")


@lake
def test_a_training_set_from_making_to_dropping(run: Run, tmp_path: Path) -> None:
    assert "no training sets yet" in run("tag", "list", "feed").out
    assert "reqlake.feed_requests  snapshot" in run("tag", "create", "feed", "v1").out
    assert "v1" in run("tag", "list", "feed").out
    same = run("tag", "diff", "feed", "v1", "v1", "--html", "diff.html")
    assert "0 requests added, 0 removed, 0 changed" in same.out
    assert (tmp_path / "diff.html").read_text().startswith("<!doctype html>")
    data = json.loads(run("tag", "diff", "feed", "v1", "v1", "--json").out)
    assert data["requests"] == {"added": 0, "removed": 0, "changed": 0}
    assert "60" in run("query", "SELECT count(*) AS n FROM feed_requests", "--tag", "v1").out
    assert "60 requests" in run("batches", "plan", "feed", "--tag", "v1").out
    assert "dropped v1" in run("tag", "drop", "feed", "v1").out
    gone = run("tag", "drop", "feed", "v1")
    assert (gone.code, "no tag 'v1'" in gone.err) == (1, True)


@lake
def test_samples(run: Run) -> None:
    assert "in tag small of reqlake.feed_requests (snapshot" in run("sample", "feed", "0.4", "--tag", "small").text
    assert "in reqlake.tiny_requests" in run("sample", "feed", "0.4", "--into", "tiny", "--from-tag", "small").text
    for args in (("0.4",), ("0.4", "--tag", "a", "--into", "b"), ("1.5", "--tag", "a")):
        assert run("sample", "feed", *args).code == 1


@lake
def test_maintenance_says_what_is_due_and_what_it_did(run: Run) -> None:
    assert "no partition of reqlake.feed_requests is due" in run("compact", "feed", "--dry-run").out
    every = run("compact", "shop", "--dry-run", "--every").text
    assert "user_bucket=0" in every
    assert "rewrites" in every
    assert "nothing was due" in run("maintain", "shop").out
    planned = run("expire", "shop", "--older-than", "0", "--dry-run").text
    assert "expire reqlake.shop_requests: would: 1 snapshots expired" in planned
    done = run("expire", "shop", "--older-than", "0").text
    assert "before" in done
    assert "after" in done
    assert "nothing was due" in run("orphans", "shop", "--dry-run").out


@lake
def test_a_training_set_is_named_with_its_table(run: Run) -> None:
    unknown = run("train", "feed", "--tag", "nope")
    assert (unknown.code, "has no tag 'nope'" in unknown.err) == (1, True)
    assert "give one of the two" in run("train", "feed", "--tag", "v1", "--snapshot-id", "1").err
    assert "name it with --table" in run("score", "runs/x", "--tag", "v1").err
    assert "has no tag 'nope'" in run("score", "runs/x", "--tag", "nope", "--table", "feed").err
