"""The snapshot transfers of one replica: those that it sends as leader and the one that it
receives.

*Receiving.* The first chunk of a transfer claims a new space; rows go there through the turn's
overlay. After the last one the Host flushes the engine, and only then is the consensus object
asked to install: its log and the record ``SnapshotInstalled`` change in the same write. A
transfer that is overtaken (by commit, by another leader, by silence) is dropped together with its
rows.

*Sending.* One transfer per follower; the view of the engine is taken once and given back with the
last chunk. A transfer is over when the follower acknowledges the index, or when nothing moves for
``snapshot_timeout_ticks``: then the follower is probed again and, if need be, gets a new one.

*For a lost state.* A replica that lost its state asks for a snapshot, again and again, and goes on
acknowledging entries meanwhile. What it has matched tells nothing, so its transfer is over when the
last chunk is acknowledged; if that did not help, it asks again. It installs any snapshot from which
its log leads on, be it older than what is committed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvorum_server.config import Config
from kvorum_server.outbox import Outbox
from kvorum_server.snapshot import SnapshotReceiver, SnapshotSender
from kvorum_server.storage.engine import space_prefix
from kvorum_server.storage.overlay import Overlay
from kvorum_server.types import (
    NodeId,
    ReplicaId,
    SnapshotChunk,
    SnapshotResponse,
    SnapshotWanted,
)

if TYPE_CHECKING:
    from kvorum_server.replica import Replica

CHUNKS_PER_TURN = 4

WANT_TICKS = 8
"""A replica without a state asks for a snapshot this often until one comes."""


class Transfers:
    """``new_transfer`` and ``new_space`` give numbers that are unique on this node."""

    def __init__(
        self,
        *,
        overlay: Overlay,
        config: Config,
        new_transfer: Callable[[], int],
        new_space: Callable[[], int],
    ) -> None:
        self._overlay = overlay
        self._config = config
        self._new_transfer = new_transfer
        self._new_space = new_space
        self._senders: dict[ReplicaId, SnapshotSender] = {}
        self._wanted: set[ReplicaId] = set()
        self.rebuilding: set[ReplicaId] = set()
        """Targets whose log needs no snapshot: they have lost their state."""
        self._want_ticks = 0
        self.receiver: SnapshotReceiver | None = None
        self._abandoned_spaces: list[int] = []

    # --- Sending ---

    def begin(self, replica: "Replica", target: ReplicaId) -> None:
        """A follower needs entries that the log no longer holds.

        It may have installed the last snapshot in this very turn and need a newer one already.
        """
        self._end_arrived(replica)
        if target not in self._senders:
            self._wanted.add(target)

    def begin_rebuild(self, replica: "Replica", target: ReplicaId, wanted: SnapshotWanted) -> None:
        """A follower has lost its state; one that is being sent a snapshot gets no second one."""
        configuration = replica.consensus.configuration
        if not replica.is_leader or wanted.term != replica.consensus.term:
            return
        if target in self._senders or configuration.identity_of(target) is None:
            return
        self._wanted.add(target)
        self.rebuilding.add(target)

    def _end_arrived(self, replica: "Replica") -> None:
        matched = replica.consensus.status().matched
        for target, sender in list(self._senders.items()):
            if target not in self.rebuilding and matched.get(target, 0) >= sender.meta.index:
                self._end(target)

    def _end(self, target: ReplicaId) -> None:
        self._senders.pop(target).close()
        self.rebuilding.discard(target)

    def produce(self, replica: "Replica", outbox: Outbox) -> None:
        """Starts what was begun in this turn and sends a bounded number of chunks.

        Comes after the turn's rows were written, so that a view holds exactly the applied state.
        """
        assert len(self._overlay) == 0
        if replica.comparison.is_in_doubt:
            return
        for target in sorted(self._wanted):
            self._senders[target] = SnapshotSender(
                transfer=self._new_transfer(),
                meta=replica.meta(),
                view=self._overlay.engine.snapshot(),
                space=replica.space,
                config=self._config,
            )
        self._wanted.clear()
        for target, sender in self._senders.items():
            for _ in range(CHUNKS_PER_TURN):
                if not sender.can_produce:
                    break
                replica.send(target, sender.next_chunk(replica.consensus.term), outbox)

    @property
    def chunks_under_way(self) -> int:
        """Unacknowledged chunks of the transfer that has the most of them."""
        return max((sender.chunks_under_way for sender in self._senders.values()), default=0)

    @property
    def has_work(self) -> bool:
        """Whether chunks could leave next turn."""
        return any(sender.can_produce for sender in self._senders.values())

    def acknowledged(
        self, replica: "Replica", source: ReplicaId, message: SnapshotResponse
    ) -> None:
        """The receiver says which chunk it wants next."""
        sender = self._senders.get(source)
        if sender is None or sender.transfer != message.transfer:
            return
        if message.refused or not sender.acknowledge(message.next_number):
            self._give_up(replica, source)
        elif source in self.rebuilding and sender.finished:
            # Its log may have fallen behind meanwhile: if it waits for a snapshot, look again.
            self._give_up(replica, source)

    def _give_up(self, replica: "Replica", target: ReplicaId) -> None:
        self._end(target)
        replica.consensus.snapshot_failed(target)

    def stop_sending(self) -> None:
        """Leadership is over; the next leader sends what is needed."""
        for sender in self._senders.values():
            sender.close()
        self._senders.clear()
        self._wanted.clear()
        self.rebuilding.clear()

    # --- Receiving ---

    def _want(self, replica: "Replica", outbox: Outbox) -> None:
        """A tick of a replica without a state: asks its leader, unless a snapshot is coming."""
        self._want_ticks += 1
        leader = replica.consensus.leader
        if self.receiver is None and leader is not None and self._want_ticks % WANT_TICKS == 0:
            replica.send(leader, SnapshotWanted(replica.consensus.term), outbox)

    def receive(
        self,
        replica: "Replica",
        peer: NodeId,
        source: ReplicaId,
        chunk: SnapshotChunk,
        outbox: Outbox,
    ) -> None:
        """A chunk of a snapshot; only the leader of the present term may send one.

        A node whose disk is full lets it go by: the sender repeats it, and gives up after a while.
        """
        if replica.disk_full:
            return
        consensus = replica.consensus
        if chunk.term != consensus.term or consensus.leader != source:
            return
        useful = (
            chunk.meta.index >= replica.log_start
            if consensus.rebuilding
            else chunk.meta.index > consensus.status().commit
        )
        if not useful:
            self._respond(replica, source, chunk, 0, outbox, refused=True)
            return
        receiver = self.receiver
        if receiver is None or receiver.transfer != chunk.transfer:
            if receiver is not None and receiver.complete and receiver.source == source:
                return
            if chunk.number != 0:
                self._respond(replica, source, chunk, 0, outbox, refused=True)
                return
            self.abandon()
            receiver = SnapshotReceiver(source=source, chunk=chunk, space=self._new_space())
            self.receiver = receiver
        rows = receiver.accept(chunk)
        if rows is None:
            self.abandon()
            self._respond(replica, source, chunk, 0, outbox, refused=True)
            return
        prefix = space_prefix(receiver.space)
        for key, value in rows:
            self._overlay.put(prefix + key, value)
        self._respond(replica, source, chunk, receiver.next_number, outbox)

    def _respond(
        self,
        replica: "Replica",
        source: ReplicaId,
        chunk: SnapshotChunk,
        next_number: int,
        outbox: Outbox,
        *,
        refused: bool = False,
    ) -> None:
        response = SnapshotResponse(chunk.term, chunk.transfer, next_number, refused)
        replica.send(source, response, outbox)

    def arrived(self) -> SnapshotReceiver | None:
        """The transfer whose last chunk has come; said once."""
        receiver = self.receiver
        if receiver is None or not receiver.complete or receiver.reported:
            return None
        receiver.reported = True
        return receiver

    def abandon(self) -> None:
        """Forgets the transfer under way; its rows are garbage."""
        if self.receiver is not None:
            self._abandoned_spaces.append(self.receiver.space)
            self.receiver = None

    def take_abandoned(self) -> list[int]:
        """Spaces with rows that nobody needs, for the Host to delete."""
        spaces, self._abandoned_spaces = self._abandoned_spaces, []
        return spaces

    # --- Time ---

    def tick(self, replica: "Replica", outbox: Outbox) -> None:
        """Ends transfers that arrived or stand still; asks for one that is needed."""
        if replica.consensus.rebuilding:
            self._want(replica, outbox)
        if self._senders:
            self._end_arrived(replica)
            for target, sender in list(self._senders.items()):
                if not sender.tick():
                    self._give_up(replica, target)
        receiver = self.receiver
        if receiver is not None and not receiver.tick(self._config.snapshot_timeout_ticks):
            self.abandon()
