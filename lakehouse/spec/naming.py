"""What a raw column's name suggests. A suggestion only: `infer` checks each against the data."""

# ruff: noqa: SIM905 (lists of words read better as words)

from __future__ import annotations

import re
from collections.abc import Iterable

USER = set("user uid member viewer visitor customer account profile client device person".split())
REQUEST = set("request req rid page pageview query search slate feed auction session visit rec".split())
ITEM = set(
    "item iid movie video product sku asin ad doc document article news pin post song track candidate content listing "
    "book creative photo clip".split()
)
POSITION = set("position pos rank slot place".split())
VERSION = set("version ver revision".split())
TIME = set("ts time timestamp at date datetime epoch seconds ms".split())
REQUEST_TIME = REQUEST | set("opened served requested".split())
SEQUENCE = set("history hist recent past sequence seq events clicked watched viewed searched bought read".split())
LABEL = set(
    "label target click clicked like liked rating save saved share shared purchase purchased buy bought order ordered "
    "conversion converted watch watched dwell stay finish finished hide hidden skip skipped follow followed comment "
    "install repin cart reward".split()
)
STATISTIC = set(
    "mean avg average count cnt num n rate ctr cvr sum total std spread max min prev last affinity bias score prior is "
    "has 7d 30d".split()
)
CATEGORY = set("category cat brand author creator city country language genre topic tag seller shop".split())


def words(name: str) -> list[str]:
    """`userId`, `ctx.user_id` and `USER_ID` to `user`, `id` (of a dotted path the last part)."""
    last = name.rpartition(".")[2]
    return [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+[a-z]*", last)]


def score(name: str, wanted: set[str]) -> int:
    """3: the name is such a word, with or without `id`; 2: it begins with one and ends in `id`; 1: it holds one."""
    parts = words(name)
    bare = [p for p in parts if p not in ("id", "key")]
    joined = "".join(parts)
    if (len(bare) == 1 and bare[0] in wanted) or joined in wanted or joined.removesuffix("id") in wanted:
        return 3
    if parts and parts[0] in wanted and parts[-1] == "id":
        return 2
    return 1 if wanted & set(parts) else 0


def is_label(name: str) -> bool:
    """Whether a name reads like an outcome rather than like a statistic of outcomes."""
    parts = words(name)
    return bool(parts) and bool({parts[0], parts[-1]} & LABEL) and not STATISTIC & set(parts)


def safe(name: str, taken: Iterable[str] = ()) -> str:
    """A name that a spec accepts (lower case, digits, _), told apart from those that are taken."""
    plain = "_".join(words(name)) if re.search(r"[A-Z.]", name) else name
    plain = re.sub(r"[^a-z0-9_]+", "_", plain.lower()).strip("_") or "column"
    plain = plain if plain[0].isalpha() else f"c_{plain}"
    return f"{plain}_value" if plain in set(taken) else plain


def singular(name: str) -> str:
    """`genres` to `genre`, `categories` to `category`."""
    if name.endswith("ies"):
        return name[:-3] + "y"
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name


def shared_prefix(names: list[str]) -> str:
    """The longest run of whole words that all names begin with, with its separator: `history_`, `ctx.hist_`, or ``."""
    split = [re.findall(r"[^_.]+[_.]?", name) for name in names]
    prefix = ""
    for pieces in zip(*(s[:-1] for s in split), strict=False):
        if len(set(pieces)) > 1:
            break
        prefix += pieces[0]
    return prefix
