"""`reqlake sample`."""

from __future__ import annotations

from tyro.conf import Positional

from reqlake.cli.terminal import out, working


def sample(
    dataset: Positional[str],
    share: Positional[float],
    /,
    *,
    tag: str | None = None,
    into: str | None = None,
    snapshot: int | None = None,
    from_tag: str | None = None,
) -> None:
    """Whole users of a table, chosen by a hash of their id: the same share gives the same users every time.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
        share: Part of the users, above 0 and below 1.
        tag: Pin the sample as a training set of this name in the same table.
        into: Write the sample as a dataset of this name.
        snapshot: Sample this snapshot instead of the current one.
        from_tag: Sample this training set instead of the current state.
    """
    from lakehouse.errors import TagError
    from lakehouse.sample import sample_as_table, sample_as_tag
    from lakehouse.tags import tag_of
    from reqlake.cli.dataset import opened

    if (tag is None) == (into is None):
        raise TagError("give --tag NAME for a training set, or --into DATASET for a table of its own, one of the two")
    if not 0 < share < 1:
        raise TagError(f"share {share}: give the part of the users, above 0 and below 1")
    catalog, spec, settings = opened(dataset)
    if from_tag is not None:
        snapshot = tag_of(catalog, spec, settings, from_tag).snapshot_of(spec.table())
    with working("sampling"):
        if tag is not None:
            found = sample_as_tag(catalog, spec, settings, tag, share, snapshot_id=snapshot)
        else:
            found = sample_as_table(catalog, spec, settings, str(into), share, snapshot_id=snapshot)
    where = f"tag {found.tag} of {found.table}" if found.tag else found.table
    again = ", as it was before" if found.skipped else ""
    out().print(
        f"{found.requests:,} of {found.of_requests:,} requests of {found.users:,} users in {where}{again} "
        f"(snapshot {found.snapshot_id})",
        soft_wrap=True,
    )
