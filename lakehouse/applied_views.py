"""Which views an engine should have by a spec, and what to do about those that it has.

A view of ours says so in its comment, with the versions of spec and text that it was made by; what does not say so is
never touched.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from lakehouse.errors import SqlError
from lakehouse.spec import DatasetSpec
from lakehouse.views import Dialect, view_sql, views

Action = Literal["create", "replace", "keep", "drop", "foreign"]
OURS = re.compile(r"^reqlake (flat )?view of (\S+), spec ([0-9a-f]+), text ([0-9a-f]+)")


@dataclass(frozen=True)
class Wanted:
    """A view that there should be: its namespace and name, its query, and the comment that marks it as ours."""

    namespace: str
    name: str
    sql: str
    comment: str

    @property
    def full(self) -> str:
        """`namespace.name`."""
        return f"{self.namespace}.{self.name}"


@dataclass(frozen=True)
class Change:
    """What is to be done about one view, and why."""

    name: str
    action: Action
    why: str
    view: Wanted | None = None


def wanted_views(
    spec: DatasetSpec, dialect: Dialect, catalog: str, namespace: str, flat: tuple[str, str] | None = None
) -> list[Wanted]:
    """Every view of the spec; `flat` is one more, a full name and its query, in the place of another table."""
    found = []
    for name, view in views(spec).items():
        text = view_sql(spec, name, dialect, catalog=catalog)
        found.append(Wanted(namespace, name, text, f"{_mark(spec, text)}: {view.doc}"))
    if flat is not None:
        space, _, name = flat[0].rpartition(".")
        mark = _mark(spec, flat[1]).replace("view of", "flat view of", 1)
        found.append(Wanted(space or namespace, name, flat[1], f"{mark}: every impression, as the raw log has it"))
    return found


def changes(spec: DatasetSpec, wanted: Iterable[Wanted], there: Mapping[str, str | None]) -> list[Change]:
    """What `apply` does. `there` are the tables and views that exist, by full name, with their comments."""
    out, known = [], set()
    for view in wanted:
        known.add(view.full)
        if view.full not in there:
            out.append(Change(view.full, "create", "there is none", view))
            continue
        mark, mine = OURS.match(there[view.full] or ""), OURS.match(view.comment)
        if mark is None or mine is None or mark[2] != mine[2]:
            whose = "a table or view that reqlake did not make" if mark is None else f"a view of {mark[2]}"
            out.append(Change(view.full, "foreign", whose, view))
        elif mark[4] != mine[4]:
            out.append(Change(view.full, "replace", "its query has changed", view))
        elif mark[3] != mine[3]:
            out.append(Change(view.full, "replace", "the spec has changed", view))
        else:
            out.append(Change(view.full, "keep", "as it should be", view))
    gone = [name for name in ours(spec, there) if name not in known and not _is_flat(there[name])]
    return out + [Change(name, "drop", "the spec has no such view any more") for name in gone]


def _is_flat(comment: str | None) -> bool:
    """Whether a view of ours stands in another table's place: only `drop` takes it away."""
    mark = OURS.match(comment or "")
    return mark is not None and mark[1] is not None


def ours(spec: DatasetSpec, there: Mapping[str, str | None]) -> list[str]:
    """Full names of the views that were made for this dataset."""
    dataset = f"{spec.namespace}.{spec.name}"
    return sorted(n for n, comment in there.items() if (m := OURS.match(comment or "")) and m[2] == dataset)


def refuse_foreign(planned: Iterable[Change]) -> None:
    """Raises SqlError where a name is taken by what is not ours."""
    taken = [change for change in planned if change.action == "foreign"]
    if taken:
        shown = "; ".join(f"{change.name} is {change.why}" for change in taken)
        raise SqlError(f"nothing was changed: {shown}. Rename or drop it yourself, or rename the dataset")


def _mark(spec: DatasetSpec, text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"reqlake view of {spec.namespace}.{spec.name}, spec {spec.hash[:12]}, text {digest}"
