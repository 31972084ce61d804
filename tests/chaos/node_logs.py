"""What the nodes' own logs tell of a run: who led when, and whether anything broke.

Nodes log as JSON, one event a line. A line that is not JSON is something that a node did not mean
to say, a traceback or the last words of a process, and an event of level error is no better; both
are kept for the verdict. Only what follows the word "stopped" is not: gRPC may complain about calls
that it cancels when the event loop ends, and the exit code is judged elsewhere.

Leadership is read here and not by asking, because a node that is cut off or stopped cannot be
asked, and because an answer would come late.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path


@dataclass(slots=True)
class Reign:
    """A node led from ``begin_ns`` (of the monotonic clock) on; ``end_ns`` None: it does still."""

    node: str
    term: int
    begin_ns: int
    end_ns: int | None = None


@dataclass(slots=True)
class NodeLog:
    """The log of one node, read bit by bit as it grows.

    ``wall_offset_ns`` is what must be added to the wall clock to have the monotonic one.
    """

    node: str
    path: Path
    wall_offset_ns: int
    group: int = 1
    reigns: list[Reign] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """When the node began to serve."""
    serving: bool = False
    """Whether the process has come so far as to serve; one that has not may die of a SIGTERM."""
    _stopped: bool = False
    _position: int = 0
    _rest: str = ""

    def read(self) -> None:
        """Takes in what is new."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._position)
            data = file.read()
        self._position += len(data)
        *lines, self._rest = (self._rest + data.decode(errors="replace")).split("\n")
        for line in lines:
            self._take(line)

    def _take(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            if line.strip() and not self._stopped:
                self.complaints.append(line)
            return
        if event.get("level") in ("error", "critical"):
            self.complaints.append(line)
        at_ns = _nanoseconds(str(event["timestamp"])) + self.wall_offset_ns
        if event["event"] == "stopped":
            self._stopped = True
        elif event["event"] == "serving":
            self.serving, self._stopped = True, False
            self.starts.append(at_ns)
            self.deposed(at_ns)
        elif event["event"] == "role" and event["group"] == self.group:
            self._role(str(event["role"]), int(event["term"]), at_ns)

    def _role(self, role: str, term: int, at_ns: int) -> None:
        self.deposed(at_ns)
        if role == "leader":
            self.reigns.append(Reign(self.node, term, at_ns))

    def ended(self, at_ns: int) -> None:
        """The process has ended."""
        self.read()
        self.serving = False
        self.deposed(at_ns)

    def deposed(self, at_ns: int) -> None:
        """The node leads no more."""
        if self.reigns and self.reigns[-1].end_ns is None:
            self.reigns[-1].end_ns = max(at_ns, self.reigns[-1].begin_ns)


def _nanoseconds(timestamp: str) -> int:
    """
    >>> _nanoseconds("1970-01-01T00:00:01.500000Z")
    1500000000
    """
    moment = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    return round(moment.timestamp() * 1_000_000) * 1000


def leader_of(logs: Sequence[NodeLog]) -> str | None:
    """Who leads now: the node of the latest term that has not stepped down, as far as it says."""
    reigning = [log.reigns[-1] for log in logs if log.reigns and log.reigns[-1].end_ns is None]
    return max(reigning, key=lambda reign: reign.term).node if reigning else None
