"""The three questions that the demo asks the lake in SQL."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A question, how Trino's SQL asks it, and which table answers it."""

    asks: str
    of: str
    sql: str


QUESTIONS = (
    Question(
        "Which well-known movies are liked most?",
        "the flat view: one row per impression, as if nothing had been deduplicated",
        """\
SELECT item_id, count(*) AS shown, avg("like") AS liked, avg(rating) AS stars
FROM movielens_impressions_labels
GROUP BY item_id HAVING count(*) >= 150
ORDER BY liked DESC LIMIT 5""",
    ),
    Question(
        "Does a page get shorter as a user's history grows?",
        "the request table: lists are counted where they lie, nothing is expanded",
        """\
SELECT least(cardinality(history_item_id) / 64 * 64, 256) AS history_from, count(*) AS requests,
       avg(cardinality(item_id)) AS candidates, avg(user_mean) AS mean_stars_so_far
FROM movielens_requests
GROUP BY 1 ORDER BY 1""",
    ),
    Question(
        "Which genres divide people?",
        "the candidates' view, with each candidate's list of genres unfolded",
        """\
SELECT genre, count(*) AS impressions, avg("like") AS liked, stddev(rating) AS spread
FROM movielens_impressions_candidate CROSS JOIN UNNEST(genres) AS g (genre)
GROUP BY genre HAVING count(*) >= 2000
ORDER BY spread DESC LIMIT 5""",
    ),
)
