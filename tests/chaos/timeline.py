"""What happened when, in seconds since the load began: the data of the picture, without any ink.

Faults are bars, packed into as few rows as their overlaps allow. Each node has a lane, on which it
leads, is down, hangs, or has no disk space left. Operations are counted in buckets by the time at
which they *ended*, as acknowledged, failed or unknown, so that an outage is a gap where the clients
felt one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tests.chaos.conductor import Blow
from tests.chaos.faults import (
    BadLines,
    Fault,
    FullDisk,
    Kill,
    Partition,
    Pause,
    Replace,
    Restart,
    Swap,
)
from tests.chaos.node_logs import Reign
from tests.chaos.records import Record

BUCKET_SECONDS = 0.25
LETTER_SECONDS = 0.14
"""How much time a letter takes on the picture: a name too long for its bar stands beside it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A fault, in a row of its lane. ``family`` decides its colour."""

    begin: float
    end: float
    label: str
    family: str
    row: int = 0

    @property
    def room(self) -> float:
        """Until when nothing else can stand in its row."""
        letters = len(self.label) * LETTER_SECONDS
        return self.end if letters < self.end - self.begin else self.end + letters


@dataclass(frozen=True, slots=True)
class Span:
    """Something that a node was for a while: leader, down, paused or full."""

    begin: float
    end: float
    state: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """The life of one node."""

    node: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Operations that ended in one bucket of time."""

    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """A whole run; ``buckets`` follow each other from 0."""

    seconds: float
    bars: tuple[Bar, ...]
    lanes: tuple[Lane, ...]
    buckets: tuple[Bucket, ...]


def family_of(fault: Fault) -> str:
    """What kind of trouble a fault is."""
    match fault:
        case Partition():
            return "partition"
        case BadLines():
            return "bad lines"
        case Kill() | Restart():
            return "killed"
        case Pause():
            return "paused"
        case FullDisk():
            return "disk"
        case Replace() | Swap():
            return "members"


STATES = {"killed": "down", "paused": "paused", "disk": "full"}
"""What a fault of a family makes of a node."""


def timeline_of(
    begin_ns: int,
    end_ns: int,
    nodes: Sequence[str],
    records: Iterable[Record],
    blows: Sequence[Blow],
    reigns: Sequence[Reign],
    starts: Mapping[str, Sequence[int]],
) -> Timeline:
    """The timeline of a run; what lies outside of it is cut off.

    ``starts``: when each node began to serve, which is a while after its process was started.
    """
    seconds = (end_ns - begin_ns) / 1e9

    def at(moment_ns: int | None) -> float:
        return (
            seconds if moment_ns is None else min(max(0.0, (moment_ns - begin_ns) / 1e9), seconds)
        )

    bars = [
        Bar(at(blow.begin_ns), at(blow.end_ns), str(blow), family_of(blow.strike.fault))
        for blow in blows
    ]
    lanes = []
    for node in nodes:
        ours = [reign for reign in reigns if reign.node == node]
        spans = [Span(at(r.begin_ns), at(r.end_ns), "leader", str(r.term)) for r in ours]
        for blow in blows:
            state = STATES.get(family_of(blow.strike.fault))
            if node in blow.victims and state is not None:
                back_ns = back_at(blow, starts.get(node, ())) if state == "down" else blow.end_ns
                spans.append(Span(at(blow.begin_ns), at(back_ns), state))
        lanes.append(Lane(node, tuple(spans)))
    ends = [(at(record.end_ns), record) for record in records]
    return Timeline(seconds, pack(bars), tuple(lanes), count(ends, seconds))


def back_at(blow: Blow, starts: Iterable[int]) -> int | None:
    """When a node serves again that was taken down; None: it never did."""
    return min((start for start in starts if start > blow.begin_ns), default=None)


def pack(bars: Iterable[Bar]) -> tuple[Bar, ...]:
    """Gives every bar the first row in which it, its name included, overlaps with none before it.

    >>> [bar.row for bar in pack([Bar(0, 5, "", ""), Bar(3, 9, "", ""), Bar(6, 8, "", "")])]
    [0, 1, 0]
    """
    ends: list[float] = []
    packed = []
    for bar in sorted(bars, key=lambda bar: bar.begin):
        free = (row for row, end in enumerate(ends) if end <= bar.begin)
        row = next(free, len(ends))
        ends[row:] = [bar.room, *ends[row + 1 :]]
        packed.append(replace(bar, row=row))
    return tuple(packed)


def count(ends: Iterable[tuple[float, Record]], seconds: float) -> tuple[Bucket, ...]:
    """Counts operations by the time at which they ended."""
    size = int(seconds / BUCKET_SECONDS) + 1
    acknowledged, failed, unknown = [0] * size, [0] * size, [0] * size
    for end, record in ends:
        column = unknown if record.unknown else failed if record.error else acknowledged
        column[int(end / BUCKET_SECONDS)] += 1
    return tuple(map(Bucket, acknowledged, failed, unknown))
