from __future__ import annotations
def plan() -> None:
    """todo"""
def preview() -> None:
    """todo"""
