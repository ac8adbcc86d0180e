"""The command line `reqlake`: one file a subcommand, each a thin call of the function that Python users call."""

from reqlake.cli.app import main

__all__ = ["main"]
