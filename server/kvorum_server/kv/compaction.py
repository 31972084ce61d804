"""Forgetting: when to compact, and how the space of what was compacted comes back.

Compaction itself is a command in the log and costs nothing: it raises the compacted revision C, and
reads below it are refused from then on. What no readable revision can see any more is cleared away
afterwards, in slices, by each replica at its own pace; no log entry says so, and nothing in apply
may depend on how far it has come.

The clean-up walks the event rows from the oldest, up to the last entry that lies wholly at or below
C, and deletes them. For each event (key, r), superseding revision p:

1. the history row (key, p) goes: at C and above, (key, r) or something newer is read instead;
2. if the event is a deletion, its tombstone (key, r) goes as well: nothing older is left to hide;
3. else, if (key, r) has been superseded, after C, it is still readable and its event row is about
   to go: its value moves into its history row. (Superseded at or below C, it is left to rule 1.) A
   version that is current stands in its own row; if it is superseded later, apply writes it inline.

Each event is met once, so clearing costs in proportion to what was written, whatever is overwritten
how often. The cursor is a row of its own, in the same write as the deletions; without it, every
slice would seek over the tombstones that the engine keeps for the rows deleted before.
"""

from collections import deque

from kvorum_server.config import Config
from kvorum_server.kv.history import View
from kvorum_server.kv.rows import (
    EVENT_KEY,
    EVENT_ROW,
    INLINE,
    POINTER,
    REVISION,
    HistoryKind,
    events,
    is_tombstone,
    mod_revision,
)
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.rows import (
    CLEARED,
    PREFIX_BYTES,
    Table,
    escape,
    table_end,
    table_prefix,
)

SAMPLES = 16
"""How finely the age of revisions is known: to a sixteenth of ``history_age_ms``."""

SLACK = 10
"""Compaction by count waits until a tenth too many are kept: it should not come every turn."""


class Cleaner:
    """The clean-up of one space. Its place is in the rows, so a restart goes on where it was."""

    __slots__ = (
        "_cleared_revision",
        "_cursor",
        "_cursor_key",
        "_event_prefix",
        "_history_prefix",
        "_overlay",
    )

    def __init__(self, space: int, overlay: Overlay) -> None:
        self._overlay = overlay
        self._event_prefix = table_prefix(space, Table.EVENT)
        self._history_prefix = table_prefix(space, Table.HISTORY)
        self._cursor_key = table_prefix(space, Table.META) + CLEARED
        self._cursor = overlay.get(self._cursor_key) or b""
        self._cleared_revision = 0

    def advance(self, compacted_revision: int, events_max: int) -> bool:
        """Clears away about so many events (whole event rows); False when nothing is left to do."""
        if self._cleared_revision == compacted_revision:
            return False
        assert compacted_revision > self._cleared_revision, "the compacted revision only rises"
        start = self._event_prefix + self._cursor
        end = self._event_prefix + EVENT_KEY.pack(compacted_revision + 1, 0)
        cleared = 0
        last_key = None
        for last_key, row in self._overlay.scan(start, end):
            cleared += self._clear(row, compacted_revision)
            self._overlay.delete(last_key)
            if cleared >= events_max:
                break
        else:
            self._cleared_revision = compacted_revision
        if last_key is not None:
            self._cursor = last_key[PREFIX_BYTES:] + b"\x00"
            self._overlay.put(self._cursor_key, self._cursor)
        return self._cleared_revision != compacted_revision

    def _clear(self, row: bytes, compacted_revision: int) -> int:
        """Applies the three rules to every event of a row; how many there were."""
        overlay = self._overlay
        found = events(row)
        for previous, key, version in found:
            versions_prefix = self._history_prefix + escape(key)
            if previous:
                overlay.delete(versions_prefix + REVISION.pack(previous))
            history_key = versions_prefix + REVISION.pack(mod_revision(version))
            if is_tombstone(version):
                overlay.delete(history_key)
                continue
            history = overlay.get(history_key)
            if history is not None and history[0] == HistoryKind.POINTER:
                superseding_revision = POINTER.unpack(history)[1]
                if superseding_revision > compacted_revision:
                    overlay.put(history_key, INLINE + version)
        return len(found)


class Retention:
    """Knows roughly how old each revision is and which compaction is due."""

    __slots__ = ("_age_ms", "_revisions_max", "_samples")

    def __init__(self, config: Config) -> None:
        self._revisions_max = config.history_revisions_max
        self._age_ms = config.history_age_ms
        self._samples: deque[tuple[int, int]] = deque()
        """(stamp, revision the group had then), oldest first, a sixteenth of the age apart."""

    def load(self, view: View, space: int, oldest_revision: int, revision: int) -> None:
        """Samples the stamps of event rows, evenly over the revisions that are kept."""
        prefix, end = table_prefix(space, Table.EVENT), table_end(space, Table.EVENT)
        step = max(1, (revision - oldest_revision) // SAMPLES)
        for sampled in range(oldest_revision, revision + 1, step):
            row = next(view.scan(prefix + EVENT_KEY.pack(sampled, 0), end), None)
            if row is not None:
                last_revision, _ = EVENT_KEY.unpack_from(row[0], PREFIX_BYTES)
                self.note(EVENT_ROW.unpack_from(row[1])[0], last_revision)

    def note(self, stamp: int, revision: int) -> None:
        """The group had this revision at this log time (ms)."""
        samples, age_ms = self._samples, self._age_ms
        if not age_ms:
            return
        if samples and (stamp - samples[-1][0] < age_ms // SAMPLES or revision == samples[-1][1]):
            return
        samples.append((stamp, revision))
        while len(samples) > 1 and stamp - samples[1][0] > age_ms:
            samples.popleft()

    def due(self, stamp: int, revision: int, compacted_revision: int) -> int | None:
        """The revision to compact at now, None when nothing is too old or too many."""
        target = 0
        kept = self._revisions_max
        if kept and revision - compacted_revision > kept + kept // SLACK:
            target = revision - kept
        if self._age_ms:
            for sampled_stamp, sampled_revision in self._samples:
                if stamp - sampled_stamp <= self._age_ms:
                    break
                target = max(target, sampled_revision)
        return target if target > compacted_revision else None
