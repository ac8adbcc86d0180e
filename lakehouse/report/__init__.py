"""Reports: what deduplication is worth, in the terminal and as a page."""

from lakehouse.report.columns import ColumnBytes
from lakehouse.report.console import print_report
from lakehouse.report.dedup import DedupReport, Factor, Layout, dedup_report
from lakehouse.report.distribution import Bin, Distribution
from lakehouse.report.page import write_html

__all__ = [
    "Bin",
    "ColumnBytes",
    "DedupReport",
    "Distribution",
    "Factor",
    "Layout",
    "dedup_report",
    "print_report",
    "write_html",
]
