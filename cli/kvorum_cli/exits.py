"""How a verb ends: exit codes, and the one line that goes with them.

Scripts branch on the code, people read the line, so both are part of the interface and listed in
``docs/cli.md``. A verb that cannot do what it was asked raises :class:`Stop`; errors of the SDK
become one through :func:`stop_for`, which is the only place that knows which error means which
code. The line names the thing and, where there is one, the remedy.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvorum import KvorumError


class Exit(IntEnum):
    """The exit codes of every verb; ``docs/cli.md`` explains them."""

    OK = 0
    NOT_FOUND = 1
    USAGE = 2
    CONFLICT = 3
    UNAVAILABLE = 4
    REFUSED = 5
    UNKNOWN_OUTCOME = 6
    BUG = 70
    INPUT_OUTPUT = 74
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


class Stop(Exception):
    """Ends a verb with a code and one line for standard error; an empty line is not printed.

    >>> stop = Stop(Exit.NOT_FOUND, "key 'x' not found")
    >>> int(stop.code), str(stop)
    (1, "key 'x' not found")
    """

    def __init__(self, code: Exit, line: str = "") -> None:
        super().__init__(" ".join(line.split()))
        self.code = code


class OutputClosed(Exception):
    """The reader of our output went away; click does not know this, as it would EPIPE."""


def stop_for(error: KvorumError, subject: str, *, endpoints_given: bool) -> Stop:
    """The end of a verb whose call of the SDK failed.

    ``subject`` is the verb and what it was about: refusals do not repeat it. ``endpoints_given`` is
    false when nobody said where the cluster is: then the likeliest cause of silence is that there
    is none, and the line says how to get one.
    """
    from kvorum import Conflict, DeadlineExceeded, KeyNotFound, Unavailable, UnknownOutcome

    line = str(error) or type(error).__name__
    match error:
        case Unavailable() | DeadlineExceeded():
            if type(error) is Unavailable and not endpoints_given:
                line += "; 'kvorum up' starts a cluster, --endpoints names another one"
            return Stop(Exit.UNAVAILABLE, line)
        case UnknownOutcome():
            return Stop(Exit.UNKNOWN_OUTCOME, line)
        case Conflict():
            return Stop(Exit.CONFLICT, line)
        case KeyNotFound():
            return Stop(Exit.NOT_FOUND, line)
        case _:
            return Stop(Exit.REFUSED, f"{subject}: {line}")
