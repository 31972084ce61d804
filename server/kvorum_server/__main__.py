"""``kvorum-server``: one node as a process.

Options, logging, the event loop and the exit code; everything else is in ``node.py``, and in
``offline`` for the tools that work on data directories (``kvorum-server restore``). Whatever an
operator can put right, a wrong option, a port in use, a damaged directory, is one line on standard
error and an exit code, never a traceback: 2 for a wrong option, 1 for everything else, 0 for a stop
that was asked for. Assertions guard the data, so a process without them refuses to start.
"""

import asyncio
import os
import sys
from collections.abc import Coroutine

from kvorum_server import offline
from kvorum_server.config import Config, ConfigError
from kvorum_server.options import load


def main() -> None:
    """Entry point of the console script; the exit code tells how the node ended."""
    if not __debug__:
        sys.exit(
            "kvorum-server: assertions are off (python -O); they guard the data: leave them on"
        )
    if len(sys.argv) > 1 and sys.argv[1] in offline.TOOLS:
        sys.exit(offline.run(sys.argv[1], sys.argv[2:]))
    try:
        config = load(sys.argv[1:], os.environ)
    except ConfigError as error:
        sys.exit(_line(error, 2))
    sys.exit(serve(config))


def serve(config: Config) -> int:
    """Runs a node until it is told to stop; its exit code."""
    # gRPC's own lines say again, in its words, what a node says in one of ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from kvorum_server.logs import configure
    from kvorum_server.node import Node
    from kvorum_server.storage.errors import StorageError

    configure(config)
    # A finished fsync waits for the interpreter behind a busy loop: 6 ms with the default of 5 ms.
    sys.setswitchinterval(config.switch_interval_us / 1_000_000)
    try:
        return _run(Node(config).run())
    except ConfigError as error:
        return _line(error, 2)
    except StorageError as error:
        return _line(error, 1)


def _line(error: Exception, code: int) -> int:
    print(f"kvorum-server: {error}", file=sys.stderr, flush=True)
    return code


def _run(work: Coroutine[None, None, int]) -> int:
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    return uvloop.run(work)


if __name__ == "__main__":
    main()
