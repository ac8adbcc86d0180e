"""Three users as the ranker sees them: the end of their history, and their candidates in its order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse import sql
from lakehouse.settings import Settings
from lakehouse.spec import DatasetSpec

HISTORY, CANDIDATES = 5, 8

SCORED = """\
SELECT s.user_id, s.request_id, s.request_hash, s.item_id, s.score_like, l.rating
FROM {scores} AS s JOIN {labels} AS l
  ON s.user_id = l.user_id AND s.request_id = l.request_id AND s.request_hash = l.request_hash AND s.item_id = l.item_id
WHERE s.request_id IN ({ids})"""

# A page worth looking at: enough history to judge by, enough candidates to rank, liked and disliked ones among them.
WORTH = """\
SELECT user_id, max(request_id) AS request_id
FROM (
  SELECT r.user_id, r.request_id, r.request_ts,
         row_number() OVER (PARTITION BY r.user_id ORDER BY r.request_ts DESC, r.request_id) AS latest
  FROM {requests} AS r
  WHERE r.request_id IN (SELECT request_id FROM {scores}) AND cardinality(r.history_item_id) >= 30
    AND r.request_id IN (
      SELECT request_id FROM {labels} GROUP BY request_id
      HAVING count(*) >= {candidates} AND min("like") = 0 AND max("like") = 1)
) AS page
WHERE latest = 1
GROUP BY user_id ORDER BY max(request_ts) DESC, user_id LIMIT 3"""


def show_people(console: Console, settings: Settings, spec: DatasetSpec, movies: Path) -> None:
    """Three users of the held-out requests, with titles. `movies` is the Parquet file beside the raw log."""
    titles = _titles(movies)
    names = {
        "scores": spec.table("scores"),
        "requests": spec.table("requests"),
        "labels": f"{spec.namespace}.{spec.name}_impressions_labels",
    }
    pages = sql.query(settings, WORTH.format(**names, candidates=CANDIDATES)).to_pylist()
    ids = ", ".join(str(page["request_id"]) for page in pages)
    if not pages:
        console.print("no held-out page has a long enough history to show", style="dim")
        return
    scored = sql.query(settings, SCORED.format(**names, ids=ids))
    columns = "user_id, request_id, request_ts, history_item_id, history_rating"
    requests = sql.query(settings, f"SELECT {columns} FROM {names['requests']} WHERE request_id IN ({ids})").to_pylist()
    for page in pages:
        request = next(r for r in requests if r["request_id"] == page["request_id"])
        _show_person(console, request, _ranked(scored, page["request_id"]), titles)


def _titles(movies: Path) -> dict[int, str]:
    table = pq.read_table(movies).to_pylist()
    return {m["movie"]: f"{m['title'] or 'movie ' + str(m['movie'])} ({m['year'] or '?'})" for m in table}


def _ranked(scored: pa.Table, request_id: int) -> list[dict[str, Any]]:
    rows = [row for row in scored.to_pylist() if row["request_id"] == request_id]
    return sorted(rows, key=lambda row: -row["score_like"])[:CANDIDATES]


def _show_person(
    console: Console, request: dict[str, Any], ranked: list[dict[str, Any]], titles: dict[int, str]
) -> None:
    items, stars = request["history_item_id"], request["history_rating"]
    before = [(titles[i], f"{s:.1f}") for i, s in zip(items[::-1], stars[::-1], strict=True)][:HISTORY]
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("the latest ratings before", no_wrap=True, max_width=40)
    table.add_column("stars", justify="right")
    table.add_column("candidates, best first", no_wrap=True, max_width=40)
    table.add_column("P(like)", justify="right")
    table.add_column("gave", justify="right")
    for i in range(max(HISTORY, len(ranked))):
        left = before[i] if i < len(before) else ("", "")
        right = _candidate(ranked[i], titles) if i < len(ranked) else ("", "", "")
        table.add_row(*left, *right)
    console.print()
    console.print(
        f"[bold]User {request['user_id']}[/bold] on {request['request_ts']:%d %B %Y}, {len(items)} ratings known before"
    )
    console.print(table)


def _candidate(row: dict[str, Any], titles: dict[int, str]) -> tuple[str, str, Text]:
    given = Text(f"{row['rating']:.1f}", "green" if row["rating"] >= 4 else "red")
    return titles[row["item_id"]], f"{row['score_like']:.2f}", given
