"""When the engine is flushed, and what a finished flush allows.

Two things need a flush: a *checkpoint*, which says in the log that the state holds at least some
applied indexes and then cuts the log below them, and a *snapshot* that has arrived and wants to
be installed. One flush runs at a time, in a thread of the shell; what was asked for before it
began shares it.

A checkpoint is due by bytes, by entries, by age while there are writes, or when the log is too
long. Its indexes are noted at the end of the turn that asks, when the engine has the rows of that
turn; the ``CheckpointTaken`` record and the cuts behind it are one write.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kvorum_server.config import Config
from kvorum_server.outbox import Outbox
from kvorum_server.storage.record import CheckpointTaken, EntriesAppended, Record
from kvorum_server.types import GroupId

if TYPE_CHECKING:
    from kvorum_server.replica import Replica

Action = Callable[[Outbox], None]
"""What to do in the turn that learns of a finished flush."""


class Checkpoints:
    """The flushes of one Host; ``replicas`` is the Host's own table."""

    def __init__(self, config: Config, replicas: Mapping[GroupId, "Replica"]) -> None:
        self._config = config
        self._replicas = replicas
        self._last_flush = 0
        self._under_way: list[Action] | None = None
        self._waiting: list[Action] = []
        self._wanted = False
        self._log_bytes = 0
        self._log_entries = 0
        self._begun_at: int | None = None
        self._is_overdue = False

    def watch(self) -> None:
        """Once a tick: whether a log is too long that a checkpoint would let be cut.

        What was appended since the last checkpoint does not tell: a log also holds what was not
        applied by then, and one that is much too long takes nothing more in until it is cut.
        """
        self._is_overdue = any(
            replica.consensus.log_bytes > self._config.log_bytes_max
            and replica.applied[0] > replica.checkpoint_index
            and not replica.consensus.rebuilding
            for replica in self._replicas.values()
        )

    def count(self, records: list[Record]) -> None:
        """Records that go into the write-ahead log bring the next checkpoint nearer."""
        for record in records:
            if isinstance(record, EntriesAppended):
                self._log_entries += len(record.entries)
                self._log_bytes += sum(len(entry.payload) for entry in record.entries)

    def after_flush(self, action: Action) -> None:
        """Asks for a flush of everything written so far, and for ``action`` when it is done."""
        self._waiting.append(action)

    def ask_when_due(self, now: int) -> None:
        """At the end of a turn, its rows written: notes the applied indexes if it is time."""
        if self._begun_at is None:
            self._begun_at = now
        config = self._config
        due = (
            self._log_bytes >= min(config.checkpoint_bytes, config.log_bytes_max)
            or self._log_entries >= config.checkpoint_entries
            or (self._log_entries > 0 and now - self._begun_at >= config.checkpoint_age_ms)
            or self._is_overdue
        )
        if not due or self._wanted:
            return
        self._wanted = True
        self._is_overdue = False
        self._begun_at = now
        self._log_bytes = self._log_entries = 0
        noted = {
            group: (replica.space, replica.applied[0])
            for group, replica in self._replicas.items()
            if not replica.consensus.rebuilding
        }
        self.after_flush(lambda outbox: self._saved(noted, outbox))

    def _saved(self, noted: Mapping[GroupId, tuple[int, int]], outbox: Outbox) -> None:
        """The engine holds the noted state durably: say so in the log, then cut it.

        A replica may have gone meanwhile; one that went over to a snapshot has a later state in
        another space.
        """
        self._wanted = False
        saved = [
            (replica, index)
            for group, (space, index) in noted.items()
            if (replica := self._replicas.get(group)) is not None
            and replica.space == space
            and not replica.consensus.rebuilding
        ]
        applied = tuple((replica.group, index) for replica, index in saved)
        outbox.records.append(CheckpointTaken(applied))
        for replica, index in saved:
            replica.cut(index, outbox)

    def begin(self) -> int | None:
        """The number of a flush for the shell to start now, if one is wanted and none runs."""
        if self._under_way is not None or not self._waiting:
            return None
        self._last_flush += 1
        self._under_way, self._waiting = self._waiting, []
        return self._last_flush

    def done(self, flush: int, outbox: Outbox) -> None:
        """The shell has finished a flush."""
        assert flush == self._last_flush, "one flush runs at a time"
        assert self._under_way is not None, "a flush is finished once"
        actions, self._under_way = self._under_way, None
        for action in actions:
            action(outbox)
