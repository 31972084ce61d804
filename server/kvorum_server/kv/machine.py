"""The state machine of a partition: commands in, rows and encoded results out.

``apply`` is a function of the rows, the entry and Config: it reads no clock and draws no number. An
entry's commands run in order and see each other through the overlay; its events, session rows and
the meta row are written once, at its end, into the same engine write as everything else of the
turn. Each result is encoded once: the same bytes go to the client and into the session row.

The parts: ``operations`` and ``txn`` decide, ``mvcc`` writes, ``session`` remembers, ``history``
and ``scan`` read, ``compaction`` forgets. Here they are put together, with one handler for each
command.

A put without options, the most frequent command by far, has a path of its own through ``_put``; it
does what ``Operations.put`` does, and the model test runs both.

Left out, with room kept: leases, locks, watches, the partition's token range.
"""

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from kvorum_proto.command_pb2 import (
    Compact,
    Delete,
    DeleteRange,
    Error,
    ErrorCode,
    Get,
    HashState,
    Increment,
    Put,
    Query,
    Range,
    Result,
    SessionClose,
    SessionOpen,
    Submission,
    Txn,
)
from kvorum_server.config import Config
from kvorum_server.kv.admission import Admission
from kvorum_server.kv.compaction import Cleaner, Retention
from kvorum_server.kv.history import History
from kvorum_server.kv.mvcc import FIRST_REVISION, Versions, fill_item
from kvorum_server.kv.operations import Operations, check_revision, compacted
from kvorum_server.kv.refusal import Refusal, refused
from kvorum_server.kv.scan import Budget, Page, RangeScan, range_rows
from kvorum_server.kv.session import EXPIRED, SessionTable
from kvorum_server.kv.txn import Transaction
from kvorum_server.state_machine import HASH_FORMAT, MachineStatus, Scan, parse_batch
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.rows import MetaRow
from kvorum_server.types import Entry, EntryKind, GroupId

NO_COMMAND = refused(ErrorCode.MALFORMED, "the submission has no command that a partition knows")


class KvMachine:
    """The StateMachine of a partition, resting on the rows of one space."""

    __slots__ = (
        "_admission",
        "_answer",
        "_cleaner",
        "_config",
        "_group",
        "_handlers",
        "_history",
        "_index",
        "_meta_key",
        "_operations",
        "_overlay",
        "_retention",
        "_session_handlers",
        "_sessions",
        "_space",
        "_stamp",
        "_term",
        "_versions",
        "effort",
        "hash_due",
    )

    def __init__(self, *, space: int, overlay: Overlay, config: Config, group: GroupId) -> None:
        """Rebuilds what is in memory from the rows of the space; none = an empty group.

        Raises NewerFormat or DamagedRows when the rows cannot be used.
        """
        self._meta_key = MetaRow.key(space)
        row = overlay.get(self._meta_key)
        meta = MetaRow(revision=FIRST_REVISION) if row is None else MetaRow.decode(space, row)
        self._space = space
        self._group = group
        self._overlay = overlay
        self._config = config
        self._index, self._term, self._stamp = meta.index, meta.term, meta.stamp
        self._versions = Versions(
            space,
            overlay,
            revision=meta.revision,
            compacted_revision=meta.compacted_revision,
            cache_bytes_max=config.row_cache_bytes,
        )
        self._history = History(space)
        self._operations = Operations(self._versions, self._history, overlay)
        self._sessions = SessionTable(space, overlay, config)
        self._cleaner = Cleaner(space, overlay)
        self._retention = Retention(config)
        self._retention.load(overlay, space, meta.compacted_revision, meta.revision)
        self._admission = Admission(config)
        self._answer = Result()
        self.hash_due = False
        self.effort = 0
        self._handlers: dict[str, Callable[[Any], bytes]] = {
            "put": self._put,
            "delete": self._delete,
            "delete_range": self._delete_range,
            "increment": self._increment,
            "txn": self._txn,
            "compact": self._compact,
            "hash_state": self._hash_state,
        }
        self._session_handlers: dict[str, Callable[[Any, int], bytes]] = {
            "session_open": self._open_session,
            "session_close": self._close_session,
        }

    def admit(self, submission: Submission) -> Error | None:
        """Refuses what must never reach the log."""
        return self._admission.admit(submission)

    # --- Apply ---

    def apply(self, entry: Entry, submissions: Sequence[Submission] | None = None) -> list[bytes]:
        """Applies the next entry; one encoded Result for each submission."""
        assert entry.index == self._index + 1, "entries are applied in order, each once"
        assert entry.stamp >= self._stamp, "log time never goes back"
        results: list[bytes] = []
        self.hash_due = False
        if entry.kind is EntryKind.COMMANDS:
            if submissions is None:
                submissions = _parse(entry.payload)
            revision = self._versions.revision
            results = self._apply_commands(entry, submissions)
            assert len(results) == len(submissions), "every submission has its result"
            assert self._versions.revision >= revision, "the revision never goes back"
        self._index, self._term, self._stamp = entry.index, entry.term, entry.stamp
        self._overlay.put(self._meta_key, self._meta().encode())
        self._retention.note(entry.stamp, self._versions.revision)
        return results

    def _apply_commands(self, entry: Entry, submissions: Sequence[Submission]) -> list[bytes]:
        """Every command of an entry, once for each (session, sequence)."""
        versions, sessions = self._versions, self._sessions
        sessions.begin_entry(entry.index, entry.stamp)
        versions.begin_entry(entry.stamp)
        results = []
        for position, submission in enumerate(submissions):
            arm = submission.WhichOneof("command")
            if arm in self._session_handlers:
                result = self._session_handlers[arm](getattr(submission, arm), position)
            elif not submission.session:
                result = self._execute(arm, submission)
            else:
                session = sessions.find(submission.session)
                if session is None:
                    result = EXPIRED
                else:
                    sequence = submission.sequence
                    stored = sessions.judge(session, sequence, submission.acknowledged_below)
                    if stored is not None:
                        result = stored
                    else:
                        result = self._execute(arm, submission)
                        session.keep(sequence, result)
            results.append(result)
        versions.finish_entry()
        sessions.finish_entry()
        return results

    def _execute(self, arm: str | None, submission: Submission) -> bytes:
        """One command. A refusal is a result; any other exception stops the node."""
        handler = self._handlers.get(arm) if arm is not None else None
        if handler is None or arm is None:
            return NO_COMMAND
        try:
            return handler(getattr(submission, arm))
        except Refusal as refusal:
            return refusal.result().SerializeToString()

    # --- One handler for each command ---

    def _put(self, put: Put) -> bytes:
        if put.lease or put.previous or put.ignore_value or put.ignore_lease:
            return self._run(self._operations.put, put)
        self._versions.put(put.key, put.value)
        answer = self._answer
        answer.put.revision = self._versions.commit()
        return answer.SerializeToString()

    def _delete(self, delete: Delete) -> bytes:
        return self._run(self._operations.delete, delete)

    def _delete_range(self, delete: DeleteRange) -> bytes:
        return self._run(self._operations.delete_range, delete)

    def _increment(self, increment: Increment) -> bytes:
        return self._run(self._operations.increment, increment)

    def _run(self, operation: Callable[[Any, Result, Budget], None], command: object) -> bytes:
        """One operation as a command of its own."""
        result = Result()
        budget = Budget(self._config)
        operation(command, result, budget)
        self.effort += budget.spent(self._config)
        self._versions.commit()
        return result.SerializeToString()

    def _txn(self, txn: Txn) -> bytes:
        result = Result()
        budget = Budget(self._config)
        try:
            Transaction(self._versions, self._operations, budget).run(txn, result)
        finally:
            self.effort += budget.spent(self._config)
        self._versions.commit()
        return result.SerializeToString()

    def _compact(self, compact: Compact) -> bytes:
        """Visible at once; what it forgets is cleared away in slices, see ``compaction``."""
        versions, revision = self._versions, compact.revision
        if revision <= versions.compacted_revision:
            raise compacted(versions, revision)
        check_revision(versions, revision)
        versions.compacted_revision = revision
        result = Result()
        result.compact.revision = versions.revision
        return result.SerializeToString()

    def _hash_state(self, command: HashState) -> bytes:
        """Changes nothing; whoever drives this machine sees what was asked."""
        self.hash_due = command.format == HASH_FORMAT
        result = Result()
        result.done.SetInParent()
        return result.SerializeToString()

    def _open_session(self, _: SessionOpen, position: int) -> bytes:
        opened = self._sessions.open(position)
        if isinstance(opened, bytes):
            return opened
        result = Result()
        result.session_open.session = opened
        result.session_open.idle_ms = self._config.session_idle_ms
        result.session_open.window = self._config.session_window
        return result.SerializeToString()

    def _close_session(self, close: SessionClose, _: int) -> bytes:
        self._sessions.close(close.session)
        result = Result()
        result.session_close.SetInParent()
        return result.SerializeToString()

    # --- Read ---

    def read(self, query: Query) -> Result | Scan:
        """Answers from the applied state; a Scan when that takes more than a slice."""
        try:
            match query.WhichOneof("query"):
                case "get":
                    return self._get(query.get)
                case "range":
                    return self._range(query.range)
                case _:
                    raise Refusal(ErrorCode.MALFORMED, "a partition does not know this query")
        except Refusal as refusal:
            return refusal.result()

    def _get(self, get: Get) -> Result:
        key = get.key
        if not key:
            raise Refusal(ErrorCode.INVALID_REQUEST, "the key is empty")
        if get.revision:
            check_revision(self._versions, get.revision)
            version = self._history.version_at(self._overlay.engine, key, get.revision)
        else:
            version = self._versions.get(key)
        result = Result()
        answer = result.get
        answer.revision = self._versions.revision
        if version is not None:
            fill_item(answer.item, key, version)
        return result

    def _range(self, query: Range) -> Result | Scan:
        versions = self._versions
        if not query.key and not query.range_end:
            raise Refusal(ErrorCode.INVALID_REQUEST, "the key is empty")
        if query.revision:
            check_revision(versions, query.revision)
        snapshot = self._overlay.engine.snapshot()
        rows = range_rows(snapshot, self._history, query)
        budget = None if query.count_only else Budget(self._config)
        page = Page(query, versions.revision, Result(), budget)
        scan = RangeScan(snapshot, rows, page, self._config.scan_slice_rows)
        return scan.advance() or scan

    # --- Upkeep ---

    def maintenance(self) -> Submission | None:
        """The compaction that is due by count or age."""
        versions = self._versions
        revision = self._retention.due(self._stamp, versions.revision, versions.compacted_revision)
        if revision is None:
            return None
        return Submission(compact=Compact(revision=revision))

    def clear_away(self) -> bool:
        """One slice of what compaction has forgotten."""
        return self._cleaner.advance(
            self._versions.compacted_revision, self._config.compaction_slice_rows
        )

    def status(self) -> MachineStatus:
        """Where the group stands here."""
        return MachineStatus(
            applied_index=self._index,
            applied_term=self._term,
            log_time=self._stamp,
            revision=self._versions.revision,
            compacted_revision=self._versions.compacted_revision,
            sessions=len(self._sessions),
        )

    def check_invariants(self) -> None:
        """Memory is what the rows say; raises AssertionError if not."""
        row = self._overlay.get(self._meta_key)
        if row is None:
            assert self._index == 0, "an applied entry leaves a meta row"
        else:
            assert MetaRow.decode(self._space, row) == self._meta(), "memory is at the rows' place"
        assert self._versions.compacted_revision <= self._versions.revision, (
            "the future is not compacted"
        )
        self._sessions.check_invariants()

    def _meta(self) -> MetaRow:
        return MetaRow(
            self._index,
            self._term,
            self._stamp,
            self._versions.revision,
            self._versions.compacted_revision,
        )


def _parse(payload: bytes) -> Sequence[Submission]:
    """A payload that is no batch holds no commands: every replica finds the same."""
    try:
        return parse_batch(payload)
    except DecodeError:
        return ()
