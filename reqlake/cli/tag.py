"""`reqlake tag`: training sets."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from reqlake.cli.terminal import err, out, working


def create(dataset: Positional[str], name: Positional[str], /, *, snapshot: int | None = None) -> None:
    """Pin the state of every table that a reader needs under a name; no expiry takes it away.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        name: The training set's name.
        snapshot: A snapshot id of the request table instead of the current one.
    """
    from lakehouse.tags import create_tag
    from reqlake.cli.dataset import opened
    from reqlake.show.tag import show_set

    catalog, spec, settings = opened(dataset)
    show_set(out(), create_tag(catalog, spec, settings, name, snapshot_id=snapshot))


def list_sets(dataset: Positional[str], /) -> None:
    """The training sets of a dataset, oldest first.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
    """
    from lakehouse.tags import list_tags
    from reqlake.cli.dataset import opened
    from reqlake.show.tag import show_sets

    catalog, spec, settings = opened(dataset)
    show_sets(out(), list_tags(catalog, spec, settings))


def drop(dataset: Positional[str], name: Positional[str], /) -> None:
    """Let go of a training set: its snapshots can expire from then on.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        name: The training set's name.
    """
    from lakehouse.tags import drop_tag
    from reqlake.cli.dataset import opened

    catalog, spec, settings = opened(dataset)
    dropped = drop_tag(catalog, spec, settings, name)
    where = f" (snapshot {dropped.snapshot_of(spec.table())})" if dropped else ": what was left of it"
    out().print(f"dropped {name}{where}", soft_wrap=True)


def diff(
    dataset: Positional[str],
    before: Positional[str],
    after: Positional[str],
    /,
    *,
    share: float = 1.0,
    html: Path | None = None,
    json: bool = False,
) -> None:
    """What changed between two training sets: requests, label rates, and feature drift (PSI).

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        before: The earlier training set.
        after: The later one.
        share: Part of the users that drift and label rates are read from, chosen by hash.
        html: Write the comparison as a page with charts as well.
        json: Print JSON instead of tables.
    """
    from lakehouse.tags import diff_tags, write_diff_page
    from reqlake.cli.dataset import opened
    from reqlake.show.tag import show_diff

    catalog, spec, settings = opened(dataset)
    with working("comparing"):
        found = diff_tags(catalog, spec, settings, before, after, share=share)
    if json:
        out().print_json(data=found.to_json())
    else:
        show_diff(out(), found)
    if html is not None:
        err().print(f"wrote {write_diff_page(found, html)}", soft_wrap=True)
