"""The command line: `main`, and a module for each group of commands."""

from gateway.cli.root import main

__all__ = ["main"]
