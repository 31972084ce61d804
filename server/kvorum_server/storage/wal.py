"""The write-ahead log: the one place where a node's promises become durable.

All replicas of a node share one log, so that one fdatasync makes a whole turn of all groups
durable. It is written at run time and read only at start. This module writes; ``record.py`` says
what is written, ``segment.py`` how it looks as bytes, ``log_state.py`` what it adds up to,
``recovery.py`` reads it back.

Format
------

The log is a sequence of *segments*, files named by ascending number, ``0000000000000001.wal`` and
so on. A segment is allocated whole, filled with zeros, and then holds::

    prefix | write | write | ... | write | zeros

The *prefix* names the format, the segment and its size; a program meets a newer format with an
error, not with a guess. It is durable before the file gets its name: a file that lacks it, or is
shorter than it says, was damaged, whether it held a write already or was a spare. A *write* is
what one ``append`` was given: a claim, then one checksummed frame per record. It is all or
nothing: recovery takes a write with all its records or none of them.

The *claim* in front of each write is the position up to which the log was durable when the write
was made. It costs 48 bytes and buys the distinction on which everything below rests: whether an
unreadable place was ever promised to anybody. After some silence the shell asks for a bare claim,
so that the last write of a burst is covered too.

The first write of a segment repeats the whole *live state* (who the node is and, for each replica,
space, hard state, log start, checkpoint, end of log; the removed replicas) and says where the
writes of the segment before it end. So a segment needs nothing from its predecessors but entries,
and the oldest one is removed as soon as no replica needs an entry in it: all are below the start
of their group's log, or a newer copy superseded them. Removal goes strictly from the oldest up,
one synced name at a time, and only when everything that justifies it is durable.

A write never spans segments. What does not fit into the rest of a segment begins the next one; what
does not fit into a segment of the usual size gets a larger one.

What a crash leaves behind
--------------------------

Segments are allocated, and their names made durable, before anything relies on them, in ascending
order; so the numbers never have a gap, and a crash can do only this to the bytes above the last
completed sync: each piece of each write is there or is still zero. Between two syncs the log may
have gone on into the next segment, whose bytes may survive while the end of the segment before it
does not. That is why a segment says where its predecessor ended.

Above the durable end there can also be *intact* writes, which nobody was told about. They count:
they are recovered like all others, as if the crash had come a little later.

What recovery does
------------------

The writes are followed from the oldest segment until the chain breaks: zeros, a frame whose
checksum is wrong, a segment that does not begin or not where the one before it ended. Let *claim*
be the newest claim that can be read anywhere, beyond the break as well.

*   claim <= break: all that lies at or after the break was never promised. This is a *torn tail*.
    It is overwritten with zeros and synced, later segments are removed, and the log goes on there.
*   claim > break, or a number is missing: something durable is gone. This is *WAL damage*. Nothing
    is changed; the error names file and offset. A replica that forgot a vote or an entry must not
    come back as its old self, so the node returns with an empty directory under a new identity.

Intact writes above the claim are written once more, because they may exist only in a page cache
that a failed sync left behind. Then the boot record, with the next boot number, is made durable.

A bit flip inside the very last write of a log is told from a torn write by nothing: it is cut. Bare
claims make that window short; it is outside the fault model.

Full disk, broken disk
----------------------

Two spare segments are kept allocated beyond the current one (the work that frees space needs room
itself). ``reserve_ok`` is False while they could not be made. An ``append`` that needs a new
segment and cannot get one raises DiskFull before anything has changed; the log stays usable. Any
other error of a write (no room to overwrite allocated blocks included) and any error of a sync end
all use of the object: what is on disk is then unknown, a sync that fails once may succeed the
second time without having written anything, and the process has to stop.

Threads: ``append`` and ``claim`` belong to the thread that takes the turns, ``sync`` to a worker,
and they never overlap; the caller sees to it and an assertion watches. Properties may be read
meanwhile.

Left out: reading entries back at run time (who needs older ones gets a snapshot), moving live
entries of an old segment forward (a group that never cuts its log pins all segments since; the
Host has to cut idle groups too), compression.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from kvorum_server.storage.disk import Disk, DiskFull
from kvorum_server.storage.errors import DiskFailure
from kvorum_server.storage.log_state import LiveEntries, LogState
from kvorum_server.storage.record import NodeIdentity, Record, frame_of
from kvorum_server.storage.recovery import (
    TEMPORARY_SUFFIX,
    FoundLog,
    Recovered,
    RecoveredReplica,
    read_log,
)
from kvorum_server.storage.segment import (
    PREFIX_BYTES,
    Position,
    SegmentFile,
    encode_prefix,
    encode_write,
    segment_name,
    start_frames,
    write_bytes,
)

__all__ = ["SPARE_SEGMENTS", "Position", "Recovered", "RecoveredReplica", "WriteAheadLog"]

SPARE_SEGMENTS = 2
"""The reserve: with these, what frees space can be logged on a disk that has no room left."""


class WriteAheadLog:
    """An open log. Made by :meth:`open`; see the top of this module for what it promises."""

    __slots__ = (
        "_claim",
        "_disk",
        "_disk_bytes",
        "_durable",
        "_end",
        "_failed",
        "_live",
        "_records_end",
        "_segment_bytes",
        "_segments",
        "_spares",
        "_state",
        "_syncing",
        "_unsynced",
    )

    def __init__(self, disk: Disk, segment_bytes: int, found: FoundLog) -> None:
        """Goes on with a log that has been read and repaired; callers use :meth:`open`."""
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._state = found.state
        self._live = found.live
        self._segments = found.segments
        self._spares = found.spares
        self._end = found.end
        self._durable = found.end
        self._claim = found.claim
        self._records_end = found.end
        self._unsynced: list[SegmentFile] = []
        self._syncing = False
        self._failed = False
        self._disk_bytes = sum(held.size_bytes for held in (*self._segments, *self._spares))

    @classmethod
    def open(
        cls, disk: Disk, *, segment_bytes: int, new_identity: Callable[[], int]
    ) -> tuple["WriteAheadLog", Recovered]:
        """Opens the log of a directory, or makes one; the boot it returns is durable.

        Raises WalDamage, NewerFormat, DiskFailure, and DiskFull when there is no room to start;
        then no file stays open.
        """
        try:
            found = read_log(disk, segment_bytes)
            fresh = found is None
            if found is None:
                found = _create_log(disk, segment_bytes, new_identity())
        except DiskFull:
            raise
        except OSError as error:
            raise DiskFailure("open", str(error)) from error
        with ExitStack() as opened:
            opened.callback(found.close)
            replicas = found.recovered_replicas()
            log = cls(disk, segment_bytes, found)
            opened.callback(log.close)
            if not fresh:
                log.append([NodeIdentity(log._state.identity, log._state.boot + 1)])
            log.sync()
            opened.pop_all()
        state = log._state
        recovered = Recovered(
            state.identity,
            state.boot,
            state.bootstrap,
            replicas,
            dict(state.retired),
            found.torn_bytes,
            fresh,
            found.end,
        )
        return log, recovered

    @property
    def durable_end(self) -> Position:
        """Everything before this position survives a crash."""
        return self._durable

    @property
    def has_unsynced(self) -> bool:
        """Whether a sync would make anything durable."""
        return self._durable != self._end

    @property
    def reserve_ok(self) -> bool:
        """Whether the spare segments exist; False: the disk is too full for them."""
        return len(self._spares) >= SPARE_SEGMENTS

    @property
    def disk_bytes(self) -> int:
        """Size of all files of the log, spares included."""
        return self._disk_bytes

    @property
    def segment_names(self) -> tuple[str, ...]:
        """The segments that hold something, oldest first."""
        return tuple(held.name for held in self._segments)

    def append(self, records: Sequence[Record]) -> None:
        """Writes the records, all or nothing, into the page cache; durable after the next ``sync``.

        Raises DiskFull when a new segment is needed and does not fit: then nothing has changed.
        """
        assert records, "an append of nothing"
        self._check_usable()
        frames = [frame_of(record) for record in records]
        size = write_bytes(frames)
        self._make_room(size)
        for record in records:
            contradiction = self._state.contradiction(record)
            assert contradiction is None, f"{type(record).__name__}: {contradiction}"
            self._live.track(record, self._state)
            self._state.apply(record)
        self._write(encode_write(self._end, self._durable, frames))
        self._records_end = self._end

    def claim(self) -> None:
        """Notes in the log how much of it is durable; for the silence after a burst of writes.

        Does nothing when the newest claim covers the newest records already, when those are not
        durable yet, or when the claim alone would need a segment that is not there.
        """
        self._check_usable()
        if self._durable < self._records_end or self._claim >= self._records_end:
            return
        size = write_bytes([])
        if self._end.offset + size > self._segments[-1].size_bytes and not self._spares:
            return
        self._make_room(size)
        self._write(encode_write(self._end, self._durable, []))

    def sync(self) -> None:
        """Makes everything appended so far durable, then frees and allocates segments.

        Blocks, releases the GIL; called from a worker. Raises DiskFailure, after which the object
        refuses all use. That no spare segment could be made is no error: see ``reserve_ok``.
        """
        self._check_usable()
        self._syncing = True
        try:
            for held in self._unsynced:
                held.file.sync()
                if held is not self._segments[-1]:
                    held.file.close()
            self._unsynced = []
            self._durable = self._end
            self._remove_old_segments()
            self._allocate_spares()
        except OSError as error:
            self._failed = True
            raise DiskFailure("sync", str(error)) from error
        finally:
            self._syncing = False

    def close(self) -> None:
        """Releases all files; does not sync. The object is of no use afterwards."""
        assert not self._syncing, "closed during a sync"
        self._failed = True
        for held in (*self._unsynced, self._segments[-1], *self._spares):
            held.file.close()

    def check_invariants(self) -> None:
        """Raises AssertionError when the log contradicts itself."""
        self._state.check_invariants()
        assert self._claim <= self._durable, f"claim {self._claim} of {self._durable}"
        assert self._durable <= self._end, f"durable {self._durable} beyond {self._end}"
        assert self._records_end <= self._end, f"records to {self._records_end} beyond {self._end}"
        assert self._end.segment == self._segments[-1].number, "the end is not in the last segment"
        assert self._end.offset <= self._segments[-1].size_bytes, "the end is beyond its segment"
        numbers = [held.number for held in (*self._segments, *self._spares)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"gap in {numbers}"
        sizes = sum(held.size_bytes for held in (*self._segments, *self._spares))
        assert self._disk_bytes == sizes, f"{self._disk_bytes} bytes counted, {sizes} held"
        assert self._live.segments() == numbers[: len(self._segments)], "other segments followed"
        assert self.has_unsynced == bool(self._unsynced), "unsynced writes in no segment"

    def _check_usable(self) -> None:
        assert not self._syncing, "the log is used during a sync"
        assert not self._failed, "the log is used after a failure or close"

    def _write(self, data: bytes) -> None:
        """Puts a write at the end of the current segment, where there is room for it."""
        current = self._segments[-1]
        number, offset = self._end
        assert offset + len(data) <= current.size_bytes, "a write across the end of a segment"
        try:
            current.file.write(offset, data)
        except OSError as error:
            self._failed = True
            raise DiskFailure("write", str(error)) from error
        self._end = Position(number, offset + len(data))
        self._claim = self._durable
        if not self._unsynced or self._unsynced[-1] is not current:
            self._unsynced.append(current)

    def _make_room(self, size: int) -> None:
        """Begins the next segment when ``size`` more bytes do not fit; DiskFull changes nothing."""
        if self._end.offset + size <= self._segments[-1].size_bytes:
            return
        frames = start_frames(self._end.offset, self._state)
        needed = PREFIX_BYTES + write_bytes(frames) + size
        number = self._end.segment + 1
        if not self._spares or self._spares[0].size_bytes < needed:
            allocated = self._allocate_now(number, max(needed, self._segment_bytes))
            if self._spares:
                # The larger file has taken the name of the spare, whose blocks are free again.
                self._disk_bytes -= self._spares[0].size_bytes
                self._spares.pop(0).file.close()
            self._spares.insert(0, allocated)
        if self._segments[-1] not in self._unsynced:
            self._segments[-1].file.close()
        # One assignment, not an append: another thread may be looking at the list.
        self._segments = [*self._segments, self._spares.pop(0)]
        self._live.begin(number)
        self._end = Position(number, PREFIX_BYTES)
        self._write(encode_write(self._end, self._durable, frames))

    def _allocate_now(self, number: int, size_bytes: int) -> SegmentFile:
        """A segment that an append cannot wait for; DiskFull changes nothing."""
        try:
            return self._allocate(number, size_bytes)
        except DiskFull:
            raise
        except OSError as error:
            self._failed = True
            raise DiskFailure("allocate a segment of", str(error)) from error

    def _allocate(self, number: int, size_bytes: int) -> SegmentFile:
        """A new segment of zeros; name and blocks are durable before anything relies on them."""
        try:
            made = _create_segment(
                self._disk, number, encode_prefix(number, size_bytes), size_bytes
            )
        except DiskFull:
            # With blocks reserved, the directory may still find no room: leave the name free.
            temporary = segment_name(number) + TEMPORARY_SUFFIX
            if temporary in self._disk.names():
                self._disk.remove(temporary)
            raise
        self._disk_bytes += size_bytes
        return made

    def _allocate_spares(self) -> None:
        """Fills up the reserve, if the disk has room for it."""
        while len(self._spares) < SPARE_SEGMENTS:
            number = self._segments[-1].number + len(self._spares) + 1
            try:
                self._spares.append(self._allocate(number, self._segment_bytes))
            except DiskFull:
                return

    def _remove_old_segments(self) -> None:
        """Removes segments that no replica needs, from the oldest up.

        One synced name at a time: a crash must not leave a hole between older and newer segments.
        """
        assert not self.has_unsynced, "what makes a segment superfluous is not durable yet"
        while len(self._segments) > 1:
            oldest = self._segments[0]
            if self._live.needed(oldest.number, self._state):
                return
            self._disk.remove(oldest.name)
            self._disk.sync_directory()
            self._segments = self._segments[1:]
            self._live.forget(oldest.number)
            self._disk_bytes -= oldest.size_bytes


def _create_log(disk: Disk, segment_bytes: int, identity: int) -> FoundLog:
    """The first segment of a new log."""
    assert identity > 0, "an identity is a positive number"
    state = LogState(identity, boot=1)
    start = encode_write(Position(1, PREFIX_BYTES), Position(1, 0), start_frames(0, state))
    size_bytes = max(segment_bytes, PREFIX_BYTES + len(start))
    data = encode_prefix(1, size_bytes) + start
    segments = [_create_segment(disk, 1, data, size_bytes)]
    live = LiveEntries()
    live.begin(1)
    return FoundLog(state, live, {}, segments, [], Position(1, len(data)), Position(1, 0), 0)


def _create_segment(disk: Disk, number: int, start: bytes, size_bytes: int) -> SegmentFile:
    """A file of zeros after ``start``. It gets its name only when it is durable and whole."""
    name = segment_name(number)
    temporary = name + TEMPORARY_SUFFIX
    with ExitStack() as opened:
        file = disk.create(temporary, size_bytes)
        opened.callback(file.close)
        file.write(0, start)
        file.sync()
        disk.rename(temporary, name)
        disk.sync_directory()
        opened.pop_all()
    return SegmentFile(number, file, size_bytes)
