"""What a replica's state rests on: an ordered table of byte rows.

One engine serves all replicas of a node; the first four bytes of a row key are the *space* of the
replica it belongs to. A turn writes once, with the rows and the applied indexes of all groups
together, so that data and applied index cannot come apart. Writes are not durable by themselves:
after a crash the engine holds some prefix of its writes, at batch boundaries, at least as new as
the last completed ``flush``. The write-ahead log fills the rest.

A row that cannot be read and a write that fails raise :class:`~.errors.EngineDamage`: the process
stops. Whoever reads in slices over several turns holds on to a scan, or to a snapshot when one scan
is not enough. Both stay as they were and both keep old rows alive, so they are let go when done.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

SPACE_BYTES = 4

RESERVED_SPACE = 0xFFFFFFFF
"""The last space belongs to the engine itself (format number); no replica ever gets it."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Sizes for limits and status. ``pressure`` in [0, 1]: at 1 admit no more writes."""

    disk_bytes: int
    memory_bytes: int
    pressure: float


class EngineSnapshot(Protocol):
    """The rows as they were when the snapshot was taken; costs nothing until it is old."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a row, None when absent."""
        ...

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows of [start, end) in key order, or from the end backwards; lazily."""
        ...

    def close(self) -> None:
        """Lets the engine forget the old rows. Idempotent; scans begun before may go on."""
        ...


class Engine(Protocol):
    """The table itself. All calls but ``flush`` come from the thread that takes the turns."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a row, None when absent."""
        ...

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows of [start, end) in key order or backwards; lazily, of the state at the call."""
        ...

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Puts all rows at once, all or nothing; None deletes."""
        ...

    def snapshot(self) -> EngineSnapshot:
        """A view that later writes do not change."""
        ...

    def flush(self) -> None:
        """Makes every write so far durable. Slow, releases the GIL: called from its own thread."""
        ...

    def drop(self, space: int) -> None:
        """Deletes all rows of a space."""
        ...

    def spaces(self) -> list[int]:
        """Spaces that hold at least one row, ascending."""
        ...

    def stats(self) -> EngineStats:
        """Cheap; may be called every tick."""
        ...

    def close(self) -> None:
        """Releases files and locks, promises nothing about rows not flushed. Idempotent."""
        ...


def space_prefix(space: int) -> bytes:
    """The first bytes of every row key of a space.

    >>> space_prefix(1)
    b'\\x00\\x00\\x00\\x01'
    """
    return space.to_bytes(SPACE_BYTES, "big")
