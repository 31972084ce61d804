"""Snapshots on their way: the state of a group, streamed in slices to a replica that fell behind.

A snapshot is the rows of a replica's space, as an engine view saw them at one applied index. It
travels as chunks inside the same stream as everything else between two nodes, so that the
simulator delays, drops, doubles and interrupts them like any message. Rules:

*   The sender keeps at most ``snapshot_window`` chunks unacknowledged and only these in memory;
    the view costs nothing but old rows that cannot be freed meanwhile.
*   The receiver takes chunks in order only and answers with the number it wants next. A gap, a
    repeat or a lost answer makes the sender go back to that number.
*   The checksum (CRC-32C) chains over all chunks, so rows lost between two chunks cannot go
    unnoticed.
*   Rows land in a space that no record names yet. An interrupted transfer leaves garbage that the
    next start, or the next transfer, deletes. The meta row, which says at which index the state
    stands, is written with the last rows: should the engine come back with files that are older
    than the installation, half a snapshot does not look like a whole one.

Installing is not done here: it is one record in the write-ahead log (see ``replica.py``).
"""

from collections import deque
from collections.abc import Iterator

import google_crc32c

from kvorum_server.config import Config
from kvorum_server.storage.engine import SPACE_BYTES, EngineSnapshot, space_prefix
from kvorum_server.storage.rows import MetaRow
from kvorum_server.types import ReplicaId, SnapshotChunk, SnapshotMeta

RESEND_TICKS = 8

META_KEY = MetaRow.key(0)[SPACE_BYTES:]

Row = tuple[bytes, bytes]


def chain_checksum(checksum: int, rows: tuple[Row, ...]) -> int:
    """The checksum of all rows so far, these included; lengths count, so bytes cannot wander.

    >>> chain_checksum(0, ((b"ab", b"c"),)) == chain_checksum(0, ((b"a", b"bc"),))
    False
    """
    parts: list[bytes] = []
    for key, value in rows:
        parts += (len(key).to_bytes(4, "big"), key, len(value).to_bytes(4, "big"), value)
    return int(google_crc32c.extend(checksum, b"".join(parts)))


class SnapshotSender:
    """The sending end of one transfer to one replica."""

    def __init__(
        self, *, transfer: int, meta: SnapshotMeta, view: EngineSnapshot, space: int, config: Config
    ) -> None:
        self.transfer = transfer
        self.meta = meta
        self._config = config
        self._view = view
        self._rows: Iterator[Row] | None = view.scan(space_prefix(space), space_prefix(space + 1))
        self._checksum = 0
        self._produced = 0
        self._unacknowledged: deque[SnapshotChunk] = deque()
        self._resend_from: int | None = None
        self._idle_ticks = 0

    @property
    def finished(self) -> bool:
        """Whether every chunk was produced and acknowledged: the receiver will install it."""
        return self._rows is None and not self._unacknowledged

    @property
    def chunks_under_way(self) -> int:
        """Chunks in memory that the receiver has not acknowledged."""
        return len(self._unacknowledged)

    @property
    def can_produce(self) -> bool:
        """Whether the window has room for another chunk, or one has to be sent again."""
        if self._resend_from is not None:
            return True
        return self._rows is not None and len(self._unacknowledged) < self._config.snapshot_window

    def next_chunk(self, term: int) -> SnapshotChunk:
        """The chunk to send now; call only while ``can_produce``."""
        assert self.can_produce
        if self._resend_from is not None:
            return self._again(self._resend_from)
        assert self._rows is not None
        rows: list[Row] = []
        size = 0
        last = True
        for key, value in self._rows:
            rows.append((key[SPACE_BYTES:], value))
            size += len(key) + len(value)
            if size >= self._config.snapshot_chunk_bytes:
                last = False
                break
        if last:
            self._rows = None
        slice_of_rows = tuple(rows)
        self._checksum = chain_checksum(self._checksum, slice_of_rows)
        chunk = SnapshotChunk(
            term, self.transfer, self._produced, self.meta, slice_of_rows, self._checksum, last
        )
        self._produced += 1
        self._unacknowledged.append(chunk)
        return chunk

    def _again(self, number: int) -> SnapshotChunk:
        first = self._unacknowledged[0].number
        assert first <= number < self._produced
        self._resend_from = number + 1 if number + 1 < self._produced else None
        return self._unacknowledged[number - first]

    def acknowledge(self, next_number: int) -> bool:
        """The receiver wants ``next_number``; False when that is a chunk we no longer hold."""
        first = self._unacknowledged[0].number if self._unacknowledged else self._produced
        if next_number < first or next_number > self._produced:
            return next_number != 0 or first == 0
        if next_number > first:
            self._idle_ticks = 0
            while self._unacknowledged and self._unacknowledged[0].number < next_number:
                self._unacknowledged.popleft()
            if self._resend_from is not None and self._resend_from < next_number:
                self._resend_from = next_number if next_number < self._produced else None
        return True

    def tick(self) -> bool:
        """A tick without progress; False when the transfer has to be given up."""
        self._idle_ticks += 1
        if self._idle_ticks % RESEND_TICKS == 0 and self._unacknowledged:
            self._resend_from = self._unacknowledged[0].number
        return self._idle_ticks < self._config.snapshot_timeout_ticks

    def close(self) -> None:
        """Gives the view back to the engine."""
        self._rows = None
        self._unacknowledged.clear()
        self._resend_from = None
        self._view.close()


class SnapshotReceiver:
    """The receiving end: takes chunks in order into ``space`` and knows when all have arrived."""

    def __init__(self, *, source: ReplicaId, chunk: SnapshotChunk, space: int) -> None:
        self.source = source
        self.transfer = chunk.transfer
        self.meta = chunk.meta
        self.space = space
        self.next_number = 0
        self.complete = False
        self.reported = False
        self._meta_rows: tuple[Row, ...] = ()
        self._checksum = 0
        self._idle_ticks = 0

    def accept(self, chunk: SnapshotChunk) -> tuple[Row, ...] | None:
        """The rows to write (keys without space), () for a repeat or a gap, None for a damaged
        chunk.
        """
        assert chunk.transfer == self.transfer
        if chunk.number != self.next_number or self.complete:
            return ()
        checksum = chain_checksum(self._checksum, chunk.rows)
        if checksum != chunk.checksum or chunk.meta != self.meta:
            return None
        self._checksum = checksum
        self.next_number += 1
        self.complete = chunk.last
        self._idle_ticks = 0
        self._meta_rows += tuple(row for row in chunk.rows if row[0] == META_KEY)
        rows = tuple(row for row in chunk.rows if row[0] != META_KEY)
        return rows + self._meta_rows if chunk.last else rows

    def tick(self, timeout_ticks: int) -> bool:
        """A tick without a chunk; False when the sender is taken for gone."""
        self._idle_ticks += 1
        return self.complete or self._idle_ticks < timeout_ticks
