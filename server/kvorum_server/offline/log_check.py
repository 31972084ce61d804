"""The check of a write-ahead log that nobody uses: every segment, write, record and entry.

The pass is the one that a start makes (``storage/recovery.py``), so what it calls damage is what a
start would refuse: checksums, the chain of writes, durable claims, the copies of the live state at
the head of each segment, records that cannot follow each other, entries that are missing. What is
looked at here in addition is what a start takes on trust until it applies it: that every entry
parses as what its kind says, and that neither terms nor log time fall along a log.

Nothing is changed, not even what a start would cut: a torn tail is a note.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from kvorum_server.offline.report import Findings
from kvorum_server.state_machine import parse_batch
from kvorum_server.storage.data_directory import LOG_DIRECTORY
from kvorum_server.storage.disk import LogDirectory
from kvorum_server.storage.errors import WalDamage
from kvorum_server.storage.record import EntriesAppended, Record
from kvorum_server.storage.recovery import FoundLog, LogReading, RecoveredReplica
from kvorum_server.storage.segment import PREFIX_BYTES, SegmentFile
from kvorum_server.types import FEATURE_LEVEL, Configuration, Entry, EntryKind, GroupId


@dataclass(slots=True)
class LogCheck:
    """What the log holds and what is wrong with it.

    ``replicas`` is empty when the log is damaged: what its records add up to is not known then.
    ``places`` has file and offset of the record of each entry that was met.
    """

    findings: Findings
    notes: list[str]
    reading: LogReading = field(default_factory=LogReading)
    records: Counter[str] = field(default_factory=Counter)
    files: list[SegmentFile] = field(default_factory=list)
    replicas: dict[GroupId, RecoveredReplica] = field(default_factory=dict)
    places: dict[tuple[GroupId, int], tuple[str, int]] = field(default_factory=dict)
    entries: int = 0

    def run(self, disk: LogDirectory, advanced: Callable[[int, int], None]) -> None:
        """Reads everything; damage goes to ``findings``. Raises NewerFormat and OSError."""
        self.reading.on_record = self._look_at
        try:
            self.files = self.reading.read(disk, advanced)
            if self.files:
                self.replicas = self._recovered()
        except WalDamage as damage:
            self.findings.add(f"{LOG_DIRECTORY}/{damage.file}", damage.offset, damage.reason)
            return
        for group, replica in sorted(self.replicas.items()):
            self._check_order(group, replica)
        self._note_torn_tail()

    @property
    def used_segments(self) -> int:
        """Segments that hold something."""
        return sum(1 for file in self.files if file.number <= self.reading.end.segment)

    def _recovered(self) -> dict[GroupId, RecoveredReplica]:
        reading = self.reading
        used = [file for file in self.files if file.number <= reading.end.segment]
        found = FoundLog(
            reading.state, reading.live, reading.entries, used, [], reading.end, reading.claim, 0
        )
        return found.recovered_replicas()

    def _look_at(self, file: str, offset: int, record: Record) -> None:
        self.records[type(record).__name__] += 1
        if not isinstance(record, EntriesAppended):
            return
        place = f"{LOG_DIRECTORY}/{file}", offset
        self.entries += len(record.entries)
        for entry in record.entries:
            self.places[record.group, entry.index] = place
            reason = entry_fault(entry)
            if reason is not None:
                message = f"entry {entry.index} of group {record.group} {reason}"
                self.findings.add(*place, message)
            if entry.level > FEATURE_LEVEL:
                self.notes.append(
                    f"entry {entry.index} of group {record.group} needs feature level "
                    f"{entry.level}, this program knows {FEATURE_LEVEL}: upgrade before starting"
                )

    def _check_order(self, group: GroupId, replica: RecoveredReplica) -> None:
        term, stamp = replica.log_start[1], replica.log_start_stamp
        for entry in replica.entries:
            if entry.term < term or entry.stamp < stamp:
                self.findings.add(
                    *self.places[group, entry.index],
                    f"entry {entry.index} of group {group} has term {entry.term} and log time "
                    f"{entry.stamp}, the one before it term {term} and log time {stamp}",
                )
            term, stamp = entry.term, entry.stamp

    def _note_torn_tail(self) -> None:
        end = self.reading.end
        for file in self.files:
            if file.number < end.segment:
                continue
            start = end.offset if file.number == end.segment else PREFIX_BYTES
            torn = file.file.read(start, file.size_bytes - start).rstrip(b"\0")
            if torn:
                self.notes.append(
                    f"{LOG_DIRECTORY}/{file.name} at byte {start}: a torn tail of {len(torn)} "
                    "bytes, never acknowledged to anybody; the next start cuts it"
                )


def newest_configuration(replica: RecoveredReplica) -> Configuration:
    """The one in force: the newest in the log, committed or not. Damaged ones do not count here."""
    for entry in reversed(replica.entries):
        if entry.kind is EntryKind.CONFIGURATION and entry_fault(entry) is None:
            return Configuration.decode(entry.payload)
    return replica.configuration


def entry_fault(entry: Entry) -> str | None:
    """Why an entry is not what its kind says; None when it is.

    >>> entry_fault(Entry(1, 1, EntryKind.CONFIGURATION, 0, 1, b"\\xff"))
    'does not parse as a configuration'
    """
    try:
        match entry.kind:
            case EntryKind.COMMANDS:
                what = "commands"
                parse_batch(entry.payload)
            case EntryKind.CONFIGURATION:
                what = "a configuration"
                Configuration.decode(entry.payload)
            case EntryKind.NO_OP:
                return "is a no-op with a payload" if entry.payload else None
    except DecodeError:
        return f"does not parse as {what}"
    return None
