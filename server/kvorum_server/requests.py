"""The clients of one replica: what is admitted, who waits for which entry, what is refused.

A replica's commands of a turn become one log entry (see ``admission.py``). Its leader remembers,
per entry that it appended, whose commands are in it. When the entry is applied in the term it was
appended in, the results go to them; when leadership is lost first, each of them is told
``UNCERTAIN``, because the next leader may yet commit the entry. Everything that was never appended
is refused as ``NOT_LEADER``, ``BUSY`` or ``UNAVAILABLE``: the client may try elsewhere.

Queries wait in :class:`~kvorum_server.reading.Readers` for their read round, or, when they may be
stale, for the end of the turn.

Invariants: every request is answered once, or its leader is gone; an entry that is pending was
appended by this leader in its present term.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvorum_proto.command_pb2 import (
    INVALID_REQUEST,
    NOT_LEADER,
    TOO_STALE,
    UNAVAILABLE,
    UNCERTAIN,
    WRONG_GROUP,
    CommandBatch,
    Query,
    Submission,
)
from kvorum_server.admission import (
    Admitted,
    Batch,
    Batcher,
    admit,
    busy_result,
    error_result,
    retry_after_ms,
)
from kvorum_server.config import Config
from kvorum_server.consensus.core import ProposeRefusal
from kvorum_server.outbox import Outbox
from kvorum_server.reading import Readers
from kvorum_server.types import Entry, EntryKind

if TYPE_CHECKING:
    from kvorum_server.replica import Replica

REBUILDING = error_result(
    TOO_STALE, "this replica has lost its state and waits for a snapshot; ask another one"
)

NOBODY = 0
"""The connection of commands that the node itself proposes; real ones count from 1."""


@dataclass(slots=True)
class Pending:
    """An entry that this leader appended, and who waits for it."""

    term: int
    batch: Batch


class Requests:
    """What the clients of one replica want from it."""

    def __init__(self, config: Config) -> None:
        self.readers = Readers(config)
        self.stopping = False
        self._config = config
        self._batcher = Batcher(config)
        self._pending: dict[int, Pending] = {}
        self._pending_commands = 0
        self._own = 0

    @property
    def pending_commands(self) -> int:
        """Commands that were admitted and not answered yet, those of the node itself included."""
        return self._pending_commands

    # --- Arriving ---

    def submit(
        self,
        replica: "Replica",
        connection: int,
        ids: tuple[int, ...],
        commands: bytes,
        outbox: Outbox,
    ) -> None:
        """Commands of a client: refused here, or part of this turn's entry."""
        refusal = self._refuse_request(replica, self._pending_commands + len(ids))
        if refusal is not None:
            replica.answer(connection, list(ids), [refusal] * len(ids), outbox)
            return
        admitted = admit(commands, ids, replica.machine, replica.quorum_is_full())
        if admitted.refused_ids:
            replica.answer(connection, admitted.refused_ids, admitted.refusals, outbox)
        self._pending_commands += len(admitted.submissions)
        self._batcher.add(connection, admitted)

    def ask(
        self,
        replica: "Replica",
        connection: int,
        ids: tuple[int, ...],
        queries: tuple[Query, ...],
        outbox: Outbox,
    ) -> None:
        """Queries of a client: linearizable ones wait for a read round, stale ones for this
        turn's end.
        """
        for request, query in zip(ids, queries, strict=True):
            stale = query.consistency == Query.STALE
            if stale and query.staleness_ms_max and replica.is_leader:
                # It may have been deposed, or not know yet what was committed before it: only a
                # read round tells how fresh it is.
                stale = False
            if stale:
                refusal = self._refuse_stale(replica, query.staleness_ms_max)
            else:
                refusal = self._refuse_request(replica, self.readers.waiting + 1)
            if refusal is not None:
                replica.answer(connection, [request], [refusal], outbox)
            elif stale:
                self.readers.add_stale(connection, request, query)
            elif query.consistency in (Query.LINEARIZABLE, Query.STALE):
                self.readers.add(connection, request, query)
            else:
                unknown = error_result(
                    INVALID_REQUEST, "unknown consistency; use LINEARIZABLE or STALE"
                )
                replica.answer(connection, [request], [unknown], outbox)

    def submit_own(self, submission: Submission, at_once: int = 1) -> None:
        """A command of the node itself: no session, nobody waits. Let go when ``at_once`` of them
        are under way: whoever wants it asks again.
        """
        if self._own < at_once:
            encoded = CommandBatch(submissions=[submission]).SerializeToString()
            self._own += 1
            self._pending_commands += 1
            self._batcher.add(NOBODY, Admitted([submission], [0], encoded))

    def _answer(
        self,
        replica: "Replica",
        connection: int,
        ids: list[int],
        results: list[bytes],
        outbox: Outbox,
    ) -> None:
        """Answers commands; those of the node itself are over, and nobody waits."""
        if connection == NOBODY:
            self._own -= len(ids)
            assert self._own >= 0, "nothing is answered twice"
        else:
            replica.answer(connection, ids, results, outbox)

    def _refuse_request(self, replica: "Replica", waiting: int) -> bytes | None:
        if self.stopping:
            return error_result(UNAVAILABLE, "the node is stopping; ask another one")
        if not replica.is_leader:
            return _not_leader(replica)
        return self._refuse_crowd(waiting)

    def _refuse_crowd(self, waiting: int) -> bytes | None:
        limit = self._config.pending_commands_max
        return busy_result(retry_after_ms(waiting / limit)) if waiting > limit else None

    def _refuse_stale(self, replica: "Replica", staleness_ms_max: int) -> bytes | None:
        if replica.consensus.rebuilding:
            return REBUILDING
        if staleness_ms_max == 0 or replica.is_fresh(staleness_ms_max):
            return self._refuse_crowd(self.readers.waiting + 1)
        return error_result(
            TOO_STALE,
            f"this replica may be over {staleness_ms_max} ms behind its leader; ask another one",
        )

    def forget(self, connection: int) -> None:
        """The client is gone: nobody takes the answers of its queries."""
        self.readers.forget(connection)

    # --- Being appended ---

    def propose(self, replica: "Replica", level: int, outbox: Outbox) -> None:
        """Appends what was admitted in this turn and starts a read round for what was asked."""
        for batch in self._batcher.take():
            outcome = replica.append(EntryKind.COMMANDS, level, batch.payload())
            if isinstance(outcome, Entry):
                self._pending[outcome.index] = Pending(outcome.term, batch)
            else:
                self._refuse_batch(replica, batch, outcome, outbox)
        if self.readers.has_new:
            token = self.readers.seal()
            if not replica.consensus.read(token):
                self.refuse_reads(replica, token, outbox)

    def _refuse_batch(
        self, replica: "Replica", batch: Batch, refusal: ProposeRefusal, outbox: Outbox
    ) -> None:
        self._pending_commands -= len(batch.submissions)
        if refusal is ProposeRefusal.NOT_LEADER:
            result = _not_leader(replica)
        else:
            backlog = self._pending_commands / self._config.pending_commands_max
            result = busy_result(retry_after_ms(backlog))
        for connection, ids in batch.takers:
            self._answer(replica, connection, ids, [result] * len(ids), outbox)

    # --- Being answered ---

    def take(self, entry: Entry) -> Batch | None:
        """Whose commands an entry holds that is about to be applied; None: not ours."""
        pending = self._pending.pop(entry.index, None)
        if pending is None:
            return None
        assert pending.term == entry.term, "an entry of ours was replaced while we lead"
        self._pending_commands -= len(pending.batch.submissions)
        return pending.batch

    def answer_batch(
        self, replica: "Replica", batch: Batch, results: list[bytes], outbox: Outbox
    ) -> None:
        """The commands of an entry are applied: each client gets its results."""
        position = 0
        for connection, ids in batch.takers:
            answers = results[position : position + len(ids)]
            self._answer(replica, connection, ids, answers, outbox)
            position += len(ids)
        assert position == len(results), "one result for each command"

    def lose_leadership(self, replica: "Replica", outbox: Outbox) -> None:
        """What was appended may or may not be committed by the next leader."""
        result = error_result(
            UNCERTAIN, "leadership was lost before the command was committed; ask again"
        )
        for pending in self._pending.values():
            for connection, ids in pending.batch.takers:
                self._answer(replica, connection, ids, [result] * len(ids), outbox)
        self._pending.clear()
        self._pending_commands = 0

    def close(self, replica: "Replica", outbox: Outbox) -> None:
        """The replica is removed: nothing that waits here will be answered by it."""
        self.lose_leadership(replica, outbox)
        result = error_result(WRONG_GROUP, "this node holds no replica of the group any more")
        for connection, request in self.readers.close():
            replica.answer(connection, [request], [result], outbox)

    def refuse_all_reads(self, replica: "Replica", outbox: Outbox) -> None:
        """There is no state to read from any more."""
        for connection, request in self.readers.close():
            replica.answer(connection, [request], [REBUILDING], outbox)

    def refuse_reads(self, replica: "Replica", token: int, outbox: Outbox) -> None:
        """No read round will confirm these queries."""
        result = _not_leader(replica)
        for connection, request in self.readers.refuse(token):
            replica.answer(connection, [request], [result], outbox)

    def check_invariants(self, *, is_leader: bool) -> None:
        """Raises AssertionError when somebody waits who should not."""
        assert self._pending_commands >= 0
        assert not self._pending or is_leader


def _not_leader(replica: "Replica") -> bytes:
    address = replica.leader_address()
    return error_result(NOT_LEADER, "this node does not lead the group", leader=address)
