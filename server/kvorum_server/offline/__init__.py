"""Tools for data directories that no node is running on: ``kvorum-server verify ...``.

A tool is a module with ``main(arguments) -> int``, the exit code; ``TOOLS`` names them. They read
and write through the same log, engine and rows as a node does, so what they leave behind is what a
node would have left. Like the node they tell what an operator can put right in one line on standard
error: exit code 2 for a wrong option, 1 for everything else. What they tell programs is one JSON
object on a line of standard output.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from kvorum_server.config import ConfigError
from kvorum_server.storage.errors import StorageError

TOOLS = {
    "verify": "kvorum_server.offline.verify",
    "recover": "kvorum_server.offline.recover",
    "restore": "kvorum_server.offline.restore",
}
"""Subcommand -> module. A module is imported when it is asked for: a node needs none of them."""


class ToolRefused(Exception):
    """This directory is not fit for what was asked; one line that says why and what to do."""


class ToolOptions(argparse.ArgumentParser):
    """The options of a tool; what is wrong with them is a ConfigError, one line."""

    def __init__(self, tool: str, description: str) -> None:
        super().__init__(prog=f"kvorum-server {tool}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Called by argparse. Raises ConfigError."""
        raise ConfigError(f"{message}; see '{self.prog} --help'")


def refuse(line: str, code: int) -> int:
    """Says in one line why a tool did not do it; returns the exit code."""
    print(f"kvorum-server: {' '.join(line.split())}", file=sys.stderr, flush=True)
    return code


def run(tool: str, arguments: Sequence[str]) -> int:
    """The exit code of a tool that ``TOOLS`` names."""
    try:
        code = importlib.import_module(TOOLS[tool]).main(arguments)
    except ConfigError as error:
        return refuse(str(error), 2)
    except (StorageError, ToolRefused) as error:
        return refuse(str(error), 1)
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        return refuse(f"cannot read or write{place}: {error.strerror or error}", 1)
    assert isinstance(code, int), f"{tool} ends with an exit code"
    return code
