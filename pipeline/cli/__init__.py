"""The command ``graftline``. Commands are thin: each imports what it needs when it is called."""

# Importing a module adds its commands to the app; the order is that of --help.
from pipeline.cli import workspaces, running, strategies, domains, contributing, predicting, verifying, releases  # noqa: F401, I001
from pipeline.cli.app import main

__all__ = ["main"]
