"""Reading a write-ahead log back: what is whole, what may be cut, what is damage.

The rules are those of the essay in ``wal.py``. The segments are read once, oldest first. As long
as one write follows the other, records are applied to the live state and entries are gathered. At
the first place where the chain breaks the reading goes on for one purpose only: to find claims.
Then the newest claim decides. When it lies beyond the break, something durable is lost: damage.
When it does not, everything from the break on was never promised to anybody: it is cut.

A cut is made real before the log is used: the tail is overwritten with zeros and synced, and later
segments are removed. Otherwise an intact write of the past, at an offset that the new tail has not
reached yet, could one day follow a new one as if it belonged there.

What lies between the newest claim and the end is intact, but perhaps only in the page cache: the
process may have died before its sync, or because its sync failed. It is therefore written again,
byte for byte, and synced, so that what this start believes the next start will find as well.

:class:`LogReading` is the pass over the segments; it changes nothing, so ``kvorum-server verify``
makes it as well and looks over its shoulder. :func:`read_log` is what a start does: the pass, then
the repair.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from kvorum_server.storage.disk import Disk, LogDirectory
from kvorum_server.storage.errors import CorruptRecord, WalDamage
from kvorum_server.storage.log_state import LiveEntries, LogState
from kvorum_server.storage.record import (
    EntriesAppended,
    LogCut,
    Record,
    ReplicaCreated,
    SnapshotInstalled,
    decode,
)
from kvorum_server.storage.segment import (
    PREFIX_BYTES,
    Position,
    SegmentFile,
    WholeWrite,
    check_prefix,
    claims_from,
    decode_start,
    segment_name,
    segment_number,
    write_at,
)
from kvorum_server.types import Configuration, Entry, GroupId, HardState, NodeId, ReplicaId

TEMPORARY_SUFFIX = ".new"

_NOWHERE = Position(0, 0)
_UNREADABLE = "a write that was durable cannot be read"


@dataclass(frozen=True, slots=True)
class RecoveredReplica:
    """A replica as its records left it.

    ``log_start`` is (index, term) of the entry before the first one held, ``configuration`` was in
    force there; ``entries`` follow it without a gap. The state in ``space`` holds the log at least
    up to ``checkpoint_index``. ``skipped`` has, by index, the checksum of each entry that apply has
    to take for an empty one.
    """

    group: GroupId
    replica: ReplicaId
    space: int
    hard_state: HardState
    log_start: tuple[int, int]
    log_start_stamp: int
    configuration: Configuration
    entries: list[Entry]
    checkpoint_index: int
    skipped: Mapping[int, int] = field(default_factory=dict)
    state_lost: bool = False


@dataclass(frozen=True, slots=True)
class Recovered:
    """All that a node knew when it stopped. ``fresh``: the directory was empty.

    ``retired`` holds the largest removed replica id of each group. ``torn_bytes`` were cut from the
    tail: writes that the last run began and never acknowledged. ``end`` is where the log ended when
    it was opened: a restart writes more, so only this tells an old copy from the directory itself.
    """

    identity: NodeId
    boot: int
    bootstrap: bytes | None
    replicas: dict[GroupId, RecoveredReplica]
    retired: dict[GroupId, ReplicaId]
    torn_bytes: int
    fresh: bool
    end: Position


@dataclass(slots=True)
class FoundLog:
    """A log that has been read and repaired. The last of ``segments`` is the current one."""

    state: LogState
    live: LiveEntries
    entries: dict[GroupId, list[Entry]]
    segments: list[SegmentFile]
    spares: list[SegmentFile]
    end: Position
    claim: Position
    torn_bytes: int

    def close(self) -> None:
        """Releases all files: for who cannot go on with the log."""
        for held in (*self.segments, *self.spares):
            held.file.close()

    def recovered_replicas(self) -> dict[GroupId, RecoveredReplica]:
        """The replicas with their entries; raises WalDamage when entries are missing."""
        return {group: self._recovered_replica(group) for group in self.state.replicas}

    def _recovered_replica(self, group: GroupId) -> RecoveredReplica:
        state = self.state.replicas[group]
        entries = self.entries.get(group, [])
        first = entries[0].index if entries else state.last_index + 1
        if first != state.start_index + 1:
            raise WalDamage(
                segment_name(self.segments[0].number - 1),
                0,
                f"entries {state.start_index + 1} to {first - 1} of group {group} are missing",
            )
        return RecoveredReplica(
            group,
            state.replica,
            state.space,
            state.hard_state,
            (state.start_index, state.start_term),
            state.start_stamp,
            state.configuration,
            entries,
            state.checkpoint_index,
            dict(state.skipped),
            state.state_lost,
        )


@dataclass(slots=True)
class LogReading:
    """The state of the one pass over all segments.

    ``on_record`` is told of every record before it is applied, with the file that it is in and the
    offset at which its write begins. ``end`` is where the chain of intact writes ends; ``suspect``
    (file, offset, reason) is what a person should look at when it turns out that the chain ought to
    have gone on.
    """

    state: LogState = field(default_factory=lambda: LogState(0, 0))
    on_record: Callable[[str, int, Record], None] | None = None
    live: LiveEntries = field(default_factory=LiveEntries)
    entries: dict[GroupId, list[Entry]] = field(default_factory=dict)
    writes: int = 0
    end: Position = _NOWHERE
    claim: Position = _NOWHERE
    suspect: tuple[str, int, str] | None = None

    def read(self, disk: LogDirectory, advanced: Callable[[int, int], None]) -> list[SegmentFile]:
        """Reads all segments, oldest first; none when there is no log. Changes no file.

        ``advanced`` is told how many segments of how many are done. Raises WalDamage, NewerFormat,
        and OSError when the disk does not let us; then no file stays open.
        """
        numbers = [number for number in map(segment_number, disk.names()) if number is not None]
        files: list[SegmentFile] = []
        with ExitStack() as opened:
            for expected, number in enumerate(numbers, numbers[0] if numbers else 1):
                if number != expected:
                    raise WalDamage(segment_name(expected), 0, "the segment is missing")
                file = disk.open(segment_name(number))
                opened.callback(file.close)
                files.append(SegmentFile(number, file, file.size()))
                self._segment(number, file.read(0, files[-1].size_bytes))
                advanced(len(files), len(numbers))
            self._check_promises()
            opened.pop_all()
        return files

    def _segment(self, number: int, data: bytes) -> None:
        """Takes in the next file of the directory."""
        name = segment_name(number)
        try:
            check_prefix(data, number)
        except CorruptRecord as error:
            raise WalDamage(name, 0, str(error)) from error
        first = write_at(data, number, PREFIX_BYTES)
        if self.suspect is None:
            try:
                self.suspect = self._enter(number, first)
            except CorruptRecord as error:
                raise WalDamage(name, PREFIX_BYTES, str(error)) from error
        offset = 0
        if self.suspect is None and first is not None:
            offset = self._follow(data, number, first)
        for claim in claims_from(data, number, offset):
            self.claim = max(self.claim, claim)

    def _enter(self, number: int, first: WholeWrite | None) -> tuple[str, int, str] | None:
        """Goes on into a segment, or says why the chain ends before it."""
        name = segment_name(number)
        if self.end == _NOWHERE:
            if first is None:
                raise WalDamage(name, PREFIX_BYTES, _UNREADABLE)
            _, self.state = decode_start(first.frames)
            return None
        if first is None:
            return name, PREFIX_BYTES, _UNREADABLE
        previous_end, state = decode_start(first.frames)
        if previous_end != self.end.offset:
            return segment_name(self.end.segment), self.end.offset, _UNREADABLE
        if state != self.state:
            raise CorruptRecord("the segment begins with a state that its predecessors do not give")
        return None

    def _follow(self, data: bytes, number: int, first: WholeWrite) -> int:
        """Applies the writes of a segment one after the other; where they end."""
        self.live.begin(number)
        self.claim = max(self.claim, first.claim)
        offset = first.end
        while (write := write_at(data, number, offset)) is not None:
            self.claim = max(self.claim, write.claim)
            try:
                for frame in write.frames:
                    record = decode(*frame)
                    if self.on_record is not None:
                        self.on_record(segment_name(number), offset, record)
                    self._apply(record)
            except CorruptRecord as error:
                raise WalDamage(segment_name(number), offset, str(error)) from error
            offset = write.end
            self.writes += 1
        self.end = Position(number, offset)
        return offset

    def _apply(self, record: Record) -> None:
        reason = self.state.contradiction(record)
        if reason is not None:
            raise CorruptRecord(f"{type(record).__name__}: {reason}")
        match record:
            case EntriesAppended(group, _, entries):
                held = self.entries.setdefault(group, [])
                # The oldest segment may begin in the middle of a log: what it lacks has been cut.
                keep = max(0, entries[0].index - held[0].index) if held else 0
                del held[keep:]
                held += entries
            case LogCut(group, _, index):
                held = self.entries.get(group, [])
                del held[: max(0, index + 1 - held[0].index) if held else 0]
            case SnapshotInstalled(group) | ReplicaCreated(group):
                self.entries[group] = []
        self.live.track(record, self.state)
        self.state.apply(record)

    def _check_promises(self) -> None:
        """Raises WalDamage when the chain ends before what the newest claim says was durable."""
        if self.claim <= self.end:
            return
        if self.suspect is None or self.claim.segment == self.end.segment:
            raise WalDamage(segment_name(self.end.segment), self.end.offset, _UNREADABLE)
        raise WalDamage(*self.suspect)


def read_log(disk: Disk, segment_bytes: int) -> FoundLog | None:
    """Reads, judges and repairs the log of a directory; None when there is none.

    Raises WalDamage, NewerFormat, and OSError when the disk does not let us; then no file stays
    open.
    """
    for name in disk.names():
        if name.endswith(TEMPORARY_SUFFIX):
            disk.remove(name)
    reading = LogReading()
    files = reading.read(disk, lambda done, count: None)
    if not files:
        return None
    with ExitStack() as opened:
        for held in files:
            opened.callback(held.file.close)
        found = _repaired(disk, reading, files, segment_bytes)
        opened.pop_all()
    return found


def _repaired(
    disk: Disk, reading: LogReading, files: Sequence[SegmentFile], segment_bytes: int
) -> FoundLog:
    """Makes the end that was read the end on the disk; old segments and what is cut are closed."""
    segments = [found for found in files if found.number <= reading.end.segment]
    torn_bytes = sum(_settle(found, reading.claim, reading.end) for found in segments)
    spares = list(files[len(segments) :])
    usable = 0
    while usable < len(spares) and _is_blank(spares[usable], segment_bytes):
        usable += 1
    # From the newest down, one synced name at a time: a crash must not leave a hole.
    while len(spares) > usable:
        found = spares.pop()
        torn_bytes += len(_content(found).rstrip(b"\0"))
        found.file.close()
        disk.remove(found.name)
        disk.sync_directory()
    for found in segments[:-1]:
        found.file.close()
    return FoundLog(
        reading.state,
        reading.live,
        reading.entries,
        segments,
        spares,
        reading.end,
        reading.claim,
        torn_bytes,
    )


def _content(found: SegmentFile) -> bytes:
    return found.file.read(PREFIX_BYTES, found.size_bytes - PREFIX_BYTES)


def _is_blank(found: SegmentFile, segment_bytes: int) -> bool:
    content = _content(found)
    return found.size_bytes >= segment_bytes and content == bytes(len(content))


def _settle(found: SegmentFile, claim: Position, end: Position) -> int:
    """Makes durable what is intact above the claim and erases what is not; the bytes erased."""
    if found.number < claim.segment:
        return 0
    start = claim.offset if found.number == claim.segment else 0
    data = found.file.read(start, found.size_bytes - start)
    torn_bytes = 0
    if found.number == end.segment:
        intact_bytes = end.offset - start
        torn_bytes = len(data[intact_bytes:].rstrip(b"\0"))
        data = data[:intact_bytes] + bytes(len(data) - intact_bytes)
    found.file.write(start, data)
    found.file.sync()
    return torn_bytes
