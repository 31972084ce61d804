"""Exactly once: what a client asked for, and what it was told, survive as long as it may ask again.

A client that lost a reply sends the same (session, sequence) again, to whichever node leads by
then. The command must not run twice, and the second answer must be the first one, refusals
included: so every outcome is stored, replicated and part of snapshots. The client says up to where
it has its answers (``acknowledged_below``); what lies below is forgotten, and a late copy of it is
refused as stale.

A session has a row for every entry that used it: stamp, acknowledged_below and the results of that
entry. The newest row is always kept, because it says when the session was last used; an older one
goes when all its sequences are acknowledged. Rows leave from both ends of the list, in constant
time each; one in the middle waits for its neighbours. There are at most two rows for each sequence
of the window.

A session unused for ``session_idle_ms`` of log time is dead: refused at once, and removed a few an
entry. All of it is decided in apply from the entry's stamp, so every replica agrees. For the same
reason everything kept in memory is a function of the rows alone, and the order of removal too: by
the last entry that used a session, then by id.

Left out: which node holds the client's connection; a session belongs to a group, not to a stream.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator

from kvorum_proto.command_pb2 import ErrorCode
from kvorum_server.config import Config
from kvorum_server.kv.refusal import refused
from kvorum_server.kv.rows import SESSION_KEY, SESSION_RESULT, SESSION_ROW
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.rows import Table, table_end, table_prefix

POSITION_BITS = 10
"""A session id is the index of its opening entry and, below it, the place in that entry."""

POSITIONS_MAX = 1 << POSITION_BITS

EXPIRY_ROWS = 1024
"""An entry stops removing dead sessions after this many rows."""

EXPIRED = refused(
    ErrorCode.SESSION_EXPIRED,
    "the session is unknown or expired; nothing was applied; open another",
)
STALE = refused(
    ErrorCode.STALE_SEQUENCE,
    "the client has acknowledged this sequence; a late copy is not applied",
)
BEYOND_WINDOW = refused(
    ErrorCode.WINDOW_EXCEEDED,
    "too far beyond the acknowledged sequences; acknowledge answers first",
)
TOO_MANY_BYTES = refused(
    ErrorCode.LIMIT_EXCEEDED, "the session stores too many bytes; acknowledge answers first"
)
TOO_MANY_SESSIONS = refused(
    ErrorCode.LIMIT_EXCEEDED,
    "the group has sessions_max sessions; try again when some have expired",
)
NO_POSITION = refused(
    ErrorCode.LIMIT_EXCEEDED, "too many commands in one entry to open a session; try again"
)


class Session:
    """One client's memory in one group."""

    __slots__ = (
        "acknowledged_below",
        "fresh",
        "identity",
        "last_index",
        "last_stamp",
        "result_bytes",
        "results",
        "rows",
    )

    def __init__(self, identity: int) -> None:
        self.identity = identity
        self.last_index = 0
        self.last_stamp = 0
        self.acknowledged_below = 1
        self.results: dict[int, bytes] = {}
        self.result_bytes = 0
        self.rows: deque[tuple[int, int]] = deque()
        """(entry index, largest sequence in the row or 0), oldest first."""
        self.fresh: list[int] = []
        """Sequences that the entry being applied has answered."""

    def acknowledge(self, below: int) -> None:
        """Forgets the results of all sequences below; what is acknowledged stays so."""
        if below <= self.acknowledged_below:
            return
        results = self.results
        if below - self.acknowledged_below <= len(results):
            for sequence in range(self.acknowledged_below, below):
                result = results.pop(sequence, None)
                if result is not None:
                    self.result_bytes -= len(result)
        else:
            self.results = {n: result for n, result in results.items() if n >= below}
            self.result_bytes = sum(map(len, self.results.values()))
        self.acknowledged_below = below

    def keep(self, sequence: int, result: bytes) -> None:
        """Remembers an outcome of the entry being applied."""
        assert sequence >= self.acknowledged_below, "what is acknowledged is not answered"
        assert sequence not in self.results, "an outcome is decided once"
        self.results[sequence] = result
        self.result_bytes += len(result)
        self.fresh.append(sequence)


class SessionTable:
    """All sessions of a group. ``begin_entry``, then judge and keep, then ``finish_entry``."""

    __slots__ = (
        "_bytes_max",
        "_end",
        "_idle_ms",
        "_index",
        "_overlay",
        "_prefix",
        "_sessions",
        "_sessions_max",
        "_stamp",
        "_touched",
        "_window",
    )

    def __init__(self, space: int, overlay: Overlay, config: Config) -> None:
        self._overlay = overlay
        self._prefix = table_prefix(space, Table.SESSION)
        self._end = table_end(space, Table.SESSION)
        self._idle_ms = config.session_idle_ms
        self._window = config.session_window
        self._bytes_max = config.session_bytes_max
        self._sessions_max = config.sessions_max
        self._index = 0
        self._stamp = 0
        self._touched: dict[int, Session] = {}
        self._sessions: OrderedDict[int, Session] = self._load()

    def __len__(self) -> int:
        return len(self._sessions)

    # --- One entry ---

    def begin_entry(self, index: int, stamp: int) -> None:
        """Starts an entry: dead sessions go first."""
        assert not self._touched, "the entry before is finished"
        self._index = index
        self._stamp = stamp
        rows_left = EXPIRY_ROWS
        while self._sessions and rows_left > 0:
            oldest = next(iter(self._sessions.values()))
            if not self._is_dead(oldest):
                break
            rows_left -= len(oldest.rows)
            self._remove(oldest)

    def find(self, identity: int) -> Session | None:
        """The session, now used by this entry; None when it is unknown or dead."""
        session = self._touched.get(identity)
        if session is None:
            session = self._sessions.get(identity)
            if session is None or self._is_dead(session):
                return None
            self._touched[identity] = session
        return session

    def judge(self, session: Session, sequence: int, acknowledged_below: int) -> bytes | None:
        """What to answer without applying anything; None: apply it and ``keep`` the outcome."""
        if acknowledged_below > session.acknowledged_below:
            session.acknowledge(acknowledged_below)
        stored = session.results.get(sequence)
        if stored is not None:
            return stored
        if sequence < session.acknowledged_below:
            return STALE
        if sequence >= session.acknowledged_below + self._window:
            return BEYOND_WINDOW
        # The lowest sequence that the client still waits for is always let through: its answer is
        # what lets the client acknowledge the others, and a limit must not lock a session up.
        if session.result_bytes >= self._bytes_max and sequence > session.acknowledged_below:
            return TOO_MANY_BYTES
        return None

    def open(self, position: int) -> int | bytes:
        """The id of a new session, or the refusal."""
        if position >= POSITIONS_MAX:
            return NO_POSITION
        if len(self._sessions) >= self._sessions_max:
            return TOO_MANY_SESSIONS
        identity = self._index << POSITION_BITS | position
        assert identity not in self._sessions, "an id is never used again"
        session = Session(identity)
        session.last_stamp = self._stamp
        self._sessions[identity] = session
        self._touched[identity] = session
        return identity

    def close(self, identity: int) -> None:
        """Forgets a session. One that is not there is closed already."""
        session = self._sessions.get(identity)
        if session is not None:
            self._touched.pop(identity, None)
            self._remove(session)

    def finish_entry(self) -> None:
        """Writes one row for every session that the entry used."""
        for identity in sorted(self._touched):
            session = self._touched[identity]
            self._write(session)
            self._sessions.move_to_end(identity)
        self._touched = {}

    def _is_dead(self, session: Session) -> bool:
        return self._stamp - session.last_stamp > self._idle_ms

    def _write(self, session: Session) -> None:
        """The row of this entry; rows that it makes superfluous go."""
        assert session.last_index < self._index, "one row per session and entry"
        results = session.results
        kept = [sequence for sequence in session.fresh if sequence in results]
        head = SESSION_ROW.pack(self._stamp, session.acknowledged_below, len(kept))
        parts = [head]
        for sequence in kept:
            result = results[sequence]
            parts += (SESSION_RESULT.pack(sequence, len(result)), result)
        rows, below = session.rows, session.acknowledged_below
        while rows and rows[0][1] < below:
            self._overlay.delete(self._row_key(session.identity, rows.popleft()[0]))
        while rows and rows[-1][1] < below:
            self._overlay.delete(self._row_key(session.identity, rows.pop()[0]))
        self._overlay.put(self._row_key(session.identity, self._index), b"".join(parts))
        rows.append((self._index, max(kept, default=0)))
        session.last_index = self._index
        session.last_stamp = self._stamp
        session.fresh = []

    def _remove(self, session: Session) -> None:
        for index, _ in session.rows:
            self._overlay.delete(self._row_key(session.identity, index))
        del self._sessions[session.identity]

    def _row_key(self, identity: int, index: int) -> bytes:
        return self._prefix + SESSION_KEY.pack(identity, index)

    # --- From rows ---

    def _load(self) -> OrderedDict[int, Session]:
        """The sessions as the rows have them, in the order of their last use."""
        sessions: dict[int, Session] = {}
        for key, row in self._overlay.scan(self._prefix, self._end):
            identity, index = SESSION_KEY.unpack_from(key, len(self._prefix))
            session = sessions.get(identity)
            if session is None:
                session = sessions[identity] = Session(identity)
            stamp, acknowledged_below, _ = SESSION_ROW.unpack_from(row)
            session.acknowledge(acknowledged_below)
            largest = 0
            for sequence, result in _results(row):
                largest = max(largest, sequence)
                session.results[sequence] = result
                session.result_bytes += len(result)
            session.rows.append((index, largest))
            session.last_index = index
            session.last_stamp = stamp
        ordered = sorted(
            sessions.values(), key=lambda session: (session.last_index, session.identity)
        )
        return OrderedDict((session.identity, session) for session in ordered)

    def check_invariants(self) -> None:
        """Memory is what the rows say, down to the order; raises AssertionError if not."""
        assert not self._touched, "invariants hold between entries"
        loaded = self._load()
        assert list(loaded) == list(self._sessions), "sessions die in the order of their last use"
        for identity, expected in loaded.items():
            session = self._sessions[identity]
            assert session.results == expected.results, "memory holds the results of the rows"
            assert session.result_bytes == expected.result_bytes, "bytes are those of the results"
            assert session.rows == expected.rows, "memory knows its rows"
            assert session.last_stamp == expected.last_stamp, "last use is in the newest row"
            assert session.acknowledged_below == expected.acknowledged_below, (
                "newest row knows most"
            )
            assert len(session.rows) <= 2 * self._window + 1, "the window bounds the rows"


def _results(row: bytes) -> Iterator[tuple[int, bytes]]:
    """(sequence, encoded result) of a session row."""
    _, _, count = SESSION_ROW.unpack_from(row)
    offset = SESSION_ROW.size
    for _ in range(count):
        sequence, size = SESSION_RESULT.unpack_from(row, offset)
        offset += SESSION_RESULT.size
        yield sequence, row[offset : offset + size]
        offset += size
    assert offset == len(row), "a session row ends with its last result"
