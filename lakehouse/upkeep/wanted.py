"""Who is looked for when an erasure is proved: users, their requests, and their histories by hash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lakehouse.spec import DatasetSpec

Hashes = Mapping[str, Mapping[str, int]]
"""By column: each wanted list's hash, and how many events it has."""


@dataclass(frozen=True)
class Wanted:
    """What must be nowhere: ids and texts of users and of requests, lists by hash; and the columns that hold them."""

    ids: frozenset[int]
    texts: frozenset[str]
    id_columns: tuple[str, ...]
    text_columns: tuple[str, ...]
    raw_user: str
    """The raw log's column, which a quarantined row's JSON has."""
    requests: frozenset[int] = frozenset()
    request_texts: frozenset[str] = frozenset()
    request_columns: tuple[str, ...] = ()
    request_text_columns: tuple[str, ...] = ()
    raw_request: str | None = None
    histories: Hashes = field(default_factory=dict)

    @classmethod
    def of(cls, spec: DatasetSpec, ids: frozenset[int], texts: frozenset[str]) -> Wanted:
        """Users, in the columns that the spec marks as a user. Their requests and histories come with `knowing`."""
        user, request = spec.keys.user_id, spec.keys.request_id
        raw = (user.column,)
        visit = (request.column,) if request.column is not None else ()
        return cls(
            ids,
            texts,
            _named("user_id", () if user.type == "string" else raw),
            _named("user_id_raw", raw),
            user.column,
            request_columns=_named("request_id", () if request.type == "string" else visit),
            request_text_columns=_named("request_id_raw", visit),
            raw_request=request.column,
        )

    def knowing(self, requests: frozenset[int], request_texts: frozenset[str], histories: Hashes) -> Wanted:
        """The same users, with what they leave behind."""
        return replace(self, requests=requests, request_texts=request_texts, histories=histories)

    @property
    def numbers(self) -> dict[str, frozenset[int]]:
        """By column: ids that must not be in it."""
        return dict.fromkeys(self.request_columns, self.requests) | dict.fromkeys(self.id_columns, self.ids)

    @property
    def names(self) -> dict[str, frozenset[str]]:
        """By column: texts that must not be in it."""
        found = dict.fromkeys(self.request_text_columns, self.request_texts)
        return found | dict.fromkeys(self.text_columns, self.texts)

    def is_raw(self, text: str) -> bool:
        """Whether a raw row, as JSON, is one of the users' or of their requests."""
        try:
            row = json.loads(text)
            user = row.get(self.raw_user)
            request = None if self.raw_request is None else row.get(self.raw_request)
        except (ValueError, AttributeError):
            return any(name in text for name in self.texts)
        return (user is not None and str(user) in self.texts) or (
            request is not None and str(request) in self.request_texts
        )


def _named(*names: str | tuple[str, ...]) -> tuple[str, ...]:
    flat = [n for name in names for n in ((name,) if isinstance(name, str) else name)]
    return tuple(dict.fromkeys(flat))
