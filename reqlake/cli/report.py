from __future__ import annotations


def report() -> None:
    """todo"""
