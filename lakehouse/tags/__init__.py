"""Training sets: named, pinned states of every table that a model was trained on, and what changed between two."""

from lakehouse.tags.diff import TagDiff, diff_tags
from lakehouse.tags.page import write_diff_page
from lakehouse.tags.reader_lease import ReaderLease, drop_ended_leases, reader_lease
from lakehouse.tags.reading import reading
from lakehouse.tags.sets import (
    READER,
    Pinned,
    TrainingSet,
    create_tag,
    drop_tag,
    list_tags,
    successor,
    tag_of,
)

__all__ = [
    "READER",
    "Pinned",
    "ReaderLease",
    "TagDiff",
    "TrainingSet",
    "create_tag",
    "diff_tags",
    "drop_ended_leases",
    "drop_tag",
    "list_tags",
    "reader_lease",
    "reading",
    "successor",
    "tag_of",
    "write_diff_page",
]
