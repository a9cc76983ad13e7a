"""The roof: the command line. `docs/cli.md` lists the commands and their exit codes."""

from bursar.cli._main import run

__all__ = ["run"]
