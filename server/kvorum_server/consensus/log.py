"""The part of a replica's log that has not been cut: in memory, contiguous, with its durability.

    cut            start                    durable     written       last
     v               v                         v           v            v
    [ in checkpoint ][ ... entries in memory that the write-ahead log holds ][ new ]

``start`` is the (index, term) of the last entry that was cut; (0, 0) at birth. ``written`` is the
last entry handed to the write-ahead log, ``durable`` the last one known to have survived its
fsync. Always ``start <= durable <= written <= last``. Truncation, at a real conflict only, pulls
all of them back.

*Durability is confirmed per write.* Several writes may be on their way to the disk, and entries of
an earlier one may be replaced before it is confirmed, possibly by a later leader's entry of the
very same index and term. An entry (7, term 2) that was written, replaced by (7, term 3) and put
back is not durable because the first write was: a crash could bring back the second. So every
write under way remembers how far truncation has left it meaningful, and confirms no more than
that.

*Configurations live in the log* (Raft paper, section 6): the newest one in it is in force from its
append on, committed or not, and truncation puts the one before in force again. The log therefore
keeps their history back to its start.

Left out: reading from disk (what is cut is given to followers as a snapshot) and the commit index,
which belongs to the protocol; callers pass it where it limits what may happen.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from kvorum_server.types import Configuration, Entry, EntryKind, SnapshotMeta

ENTRY_OVERHEAD_BYTES = 64
"""What an entry costs beside its payload, in memory and in messages, roughly."""


def entry_bytes(entry: Entry) -> int:
    """The size that limits count for an entry."""
    return len(entry.payload) + ENTRY_OVERHEAD_BYTES


@dataclass(slots=True)
class _Write:
    """A write under way, ending with entry (index, term); it confirms up to ``confirms``."""

    index: int
    term: int
    confirms: int


class Log:
    """Entries after ``start_index``, and how far they are written and durable."""

    __slots__ = (
        "_configurations",
        "_entries",
        "_writes",
        "bytes",
        "durable",
        "start_index",
        "start_stamp",
        "start_term",
        "written",
    )

    def __init__(
        self,
        *,
        start: tuple[int, int],
        start_stamp: int,
        configuration: Configuration,
        entries: Sequence[Entry],
    ) -> None:
        """``configuration`` is the one in force at ``start``; all ``entries`` are durable."""
        self.start_index, self.start_term = start
        self.start_stamp = start_stamp
        self.bytes = 0
        self.durable = self.start_index
        self.written = self.start_index
        self._entries: list[Entry] = []
        self._writes: deque[_Write] = deque()
        self._configurations = [(self.start_index, configuration)]
        for entry in entries:
            self.append(entry)
        self.durable = self.written = self.last_index

    # --- What it holds ---

    @property
    def first_index(self) -> int:
        """The first index that is not cut; one past ``last_index`` when the log is empty."""
        return self.start_index + 1

    @property
    def last_index(self) -> int:
        """The index of the last entry, ``start_index`` when there is none."""
        return self.start_index + len(self._entries)

    @property
    def last_term(self) -> int:
        """The term of the last entry."""
        return self._entries[-1].term if self._entries else self.start_term

    @property
    def last_stamp(self) -> int:
        """Log time of the last entry, milliseconds."""
        return self._entries[-1].stamp if self._entries else self.start_stamp

    @property
    def configuration(self) -> Configuration:
        """The configuration in force: the newest one in the log."""
        return self._configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        """The index of the entry that brought the configuration in force."""
        return self._configurations[-1][0]

    def start(self) -> SnapshotMeta:
        """Where the log starts: what a snapshot of exactly that place would say."""
        return SnapshotMeta(
            self.start_index, self.start_term, self.start_stamp, self._configurations[0][1]
        )

    def term_of(self, index: int) -> int | None:
        """The term at ``index``; None before ``start_index`` and after ``last_index``."""
        if index == self.start_index:
            return self.start_term
        if self.start_index < index <= self.last_index:
            return self._entries[index - self.start_index - 1].term
        return None

    def entries(self, first: int, last: int) -> list[Entry]:
        """The entries first..last, both ends included; all must be held."""
        assert first > self.start_index, "these entries are cut"
        assert last <= self.last_index, "the log ends before these entries"
        return self._entries[first - self.start_index - 1 : last - self.start_index]

    def slice(self, first: int, bytes_max: int) -> tuple[Entry, ...]:
        """The entries from ``first`` on that fit in ``bytes_max``; one at least if there is one."""
        assert first > self.start_index, "these entries are cut"
        position = first - self.start_index - 1
        end = position
        size = 0
        while end < len(self._entries):
            size += entry_bytes(self._entries[end])
            if size > bytes_max and end > position:
                break
            end += 1
        return tuple(self._entries[position:end])

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as complete as this one (Raft paper, 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def agreement(self, index: int, term: int) -> tuple[int, int]:
        """The last place up to ``index`` whose term is at most ``term``: where another log may
        agree.

        That log has ``term`` at ``index`` (or ends there), so it can agree with nothing later:
        terms never fall along a log. One answer skips all entries of the conflicting terms at
        once, on both sides (the optimisation at the end of section 5.3 of the Raft paper).
        """
        held = max(0, min(index, self.last_index) - self.start_index)
        count = bisect_right(self._entries, term, 0, held, key=lambda entry: entry.term)
        if count == 0:
            return self.start_index, self.start_term
        return self.start_index + count, self._entries[count - 1].term

    # --- Growing ---

    def append(self, entry: Entry) -> None:
        """Adds the next entry."""
        assert entry.index == self.last_index + 1, "the log has no gaps"
        assert entry.term >= self.last_term, "terms never fall along a log"
        if entry.kind is EntryKind.CONFIGURATION:
            self._configurations.append((entry.index, Configuration.decode(entry.payload)))
        self._entries.append(entry)
        self.bytes += entry_bytes(entry)

    def merge(self, entries: Sequence[Entry], commit: int) -> None:
        """Takes in a leader's entries whose predecessor agrees with ours (Raft paper, figure 2).

        What we hold already stays, however old the message is; only an entry of another term is a
        conflict, and it takes everything after it along. Committed entries never conflict.
        """
        for position, entry in enumerate(entries):
            term = self.term_of(entry.index)
            if term == entry.term:
                continue
            if term is not None:
                assert entry.index > commit, "a committed entry can never be replaced"
                self._truncate(entry.index - 1)
            for new in entries[position:]:
                self.append(new)
            return

    def _truncate(self, index: int) -> None:
        """Drops everything after ``index``."""
        assert self.start_index <= index < self.last_index, "there is nothing to truncate"
        keep = index - self.start_index
        self.bytes -= sum(map(entry_bytes, self._entries[keep:]))
        del self._entries[keep:]
        while self._configurations[-1][0] > index:
            self._configurations.pop()
        self.written = min(self.written, index)
        self.durable = min(self.durable, index)
        for write in self._writes:
            write.confirms = min(write.confirms, index)
        assert self.last_index == index, "the log ends where it was truncated"

    # --- Becoming durable ---

    def take_unwritten(self) -> list[Entry]:
        """The entries that the write-ahead log does not have; from now on they are under way."""
        entries = self._entries[self.written - self.start_index :]
        if entries:
            assert entries[0].index == self.written + 1, "writes follow each other without a gap"
            self.written = self.last_index
            self._writes.append(_Write(self.last_index, self.last_term, self.last_index))
        return entries

    def confirm(self, index: int, term: int) -> bool:
        """The write that ended with (index, term), and all before it, are durable: is there news?

        A write that is not under way (it held no entries, say) tells nothing new.
        """
        if not any(write.index == index and write.term == term for write in self._writes):
            return False
        before = self.durable
        while True:
            write = self._writes.popleft()
            self.durable = max(self.durable, write.confirms)
            if (write.index, write.term) == (index, term):
                break
        assert before <= self.durable <= self.written, "only what was written becomes durable"
        return self.durable > before

    # --- Being cut and replaced ---

    def cut(self, index: int) -> None:
        """Lets go of the entries up to ``index``, all durable. An older cut changes nothing."""
        if index <= self.start_index:
            return
        assert index <= self.durable, "only durable entries are cut"
        term = self.term_of(index)
        assert term is not None, "a cut keeps the term of the last entry that it takes"
        self._start_at(index, term, self._entries[index - self.start_index - 1].stamp)

    def install(self, meta: SnapshotMeta) -> None:
        """Starts again at a snapshot (Raft paper, section 7).

        If the log holds the snapshot's last entry, what follows it agrees with the leader's log and
        stays; it is written again behind the record of the installation, which drops all entries on
        disk. Otherwise nothing stays: it could conflict with what was committed meanwhile.
        """
        assert meta.index > self.start_index, "a snapshot never takes the log back"
        if self.term_of(meta.index) != meta.term:
            if self.last_index > self.start_index:
                self._truncate(self.start_index)
            self.start_index, self.start_term = meta.index, meta.term
            self.start_stamp = meta.stamp
            self._configurations = [(meta.index, meta.configuration)]
        else:
            self._start_at(meta.index, meta.term, meta.stamp)
            self._configurations[0] = (meta.index, meta.configuration)
        self.written = self.durable = meta.index
        for write in self._writes:
            write.confirms = min(write.confirms, meta.index)
        assert self.start_index <= self.durable <= self.written <= self.last_index, (
            "the log is whole"
        )

    def _start_at(self, index: int, term: int, stamp: int) -> None:
        gone = index - self.start_index
        assert 0 < gone <= len(self._entries), "the new start lies inside the log"
        self.bytes -= sum(map(entry_bytes, self._entries[:gone]))
        del self._entries[:gone]
        self.start_index, self.start_term, self.start_stamp = index, term, stamp
        while len(self._configurations) > 1 and self._configurations[1][0] <= index:
            del self._configurations[0]
        assert self._configurations[0][0] <= self.start_index, "one configuration is in force here"

    def configuration_at(self, index: int) -> Configuration:
        """The configuration in force at ``index``, which is not cut."""
        assert index >= self.start_index, "that configuration is cut"
        return next(known for at, known in reversed(self._configurations) if at <= index)

    def check_invariants(self) -> None:
        """Raises AssertionError when the log contradicts itself. Walks the whole log: for tests."""
        assert self.start_index <= self.durable <= self.written <= self.last_index
        assert self.bytes == sum(map(entry_bytes, self._entries))
        index, term, stamp = self.start_index, self.start_term, self.start_stamp
        for entry in self._entries:
            assert entry.index == index + 1, "contiguous"
            assert entry.term >= term, "terms never fall"
            assert entry.stamp >= stamp, "log time never falls"
            index, term, stamp = entry.index, entry.term, entry.stamp
        in_log = [
            (entry.index, Configuration.decode(entry.payload))
            for entry in self._entries
            if entry.kind is EntryKind.CONFIGURATION
        ]
        assert self._configurations[1:] == in_log, "the history holds every configuration entry"
        assert self._configurations[0][0] <= self.start_index
        assert all(write.confirms <= self.written for write in self._writes)
