from __future__ import annotations


def data() -> None:
    """todo"""
