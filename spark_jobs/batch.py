"""Which files make this batch, and whether the table has them already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.ledger import Member
from spark_jobs.errors import BatchRefusedError
from spark_jobs.files import batch_id_of
from spark_jobs.sources import Unit


@dataclass(frozen=True)
class Batch:
    """A batch's id and its new files or snapshots; `known` are those that an earlier batch brought in."""

    id: str
    files: tuple[Unit, ...]
    known: tuple[Unit, ...]

    @property
    def members(self) -> list[Member]:
        """The new files as the ledger holds them."""
        return [Member(file.member, file.name, file.rows) for file in self.files]

    @property
    def known_paths(self) -> tuple[str, ...]:
        """Where the files lie that were passed over."""
        return tuple(file.path for file in self.known)


def choose_batch(files: Sequence[Unit], published: dict[str, set[str]], given: str | None) -> Batch:
    """The batch of files under a given id, or under the hash of its new members.

    `published` are members by batch id. Without a given id, known files are passed over. A given id that is published
    with the same files is that batch again (no files are new); with others it is refused: BatchRefusedError.
    """
    if given is not None and given in published:
        members = {file.member for file in files}
        if members != published[given]:
            missing, new = published[given] - members, members - published[given]
            raise BatchRefusedError(
                f"batch {given!r} is published with other files: {len(new)} of these are not in it, "
                f"{len(missing)} of its own are not here. Use another id for new files, or none"
            )
        return Batch(given, (), tuple(files))
    seen = {member for members in published.values() for member in members}
    new_files = tuple(file for file in files if file.member not in seen)
    known = tuple(file for file in files if file.member in seen)
    return Batch(given or batch_id_of(new_files or files), new_files, known)
