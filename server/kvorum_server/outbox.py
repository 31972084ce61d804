"""Effects in the making: where the replicas of a Host put what a turn has to do.

One per turn. It gathers by destination (one list per peer, one Reply per client and group) so
that the shell sends one frame each, whatever the number of groups and requests.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from kvorum_server.config import Config
from kvorum_server.events import Effects, Reply, Transition
from kvorum_server.state_machine import MachineStatus
from kvorum_server.storage.record import Record
from kvorum_server.types import (
    ConsensusMessage,
    Envelope,
    GroupId,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    NodeId,
    PreVoteRequest,
    PreVoteResponse,
    ReplicaId,
    VoteRequest,
    VoteResponse,
)

URGENT = (
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
    HeartbeatRequest,
    HeartbeatResponse,
)
"""Messages that go first in a frame: late ones cost an election."""

SLICES_PER_TURN = 4
"""Full slices of ``scan_slice_rows`` that a turn reads."""


@dataclass(frozen=True, slots=True)
class Held:
    """Messages of one replica that promise what a write makes durable, and what that is."""

    group: GroupId
    replica: ReplicaId
    term: int
    last: tuple[int, int]
    """Index and term of the last entry of the log when the write was made."""
    messages: list[tuple[ReplicaId, ConsensusMessage]]


@dataclass(slots=True)
class Allowance:
    """The work that is left for a turn: one that does more keeps heartbeats waiting.

    Shared by all groups of the node; what finds nothing left goes on in the next turn.
    """

    commands: int
    """To apply; keys that range operations meet count as well."""
    points: int
    """Single keys to read."""
    rows: int
    """To read by ranges."""
    reply_bytes: int
    """To answer queries with."""

    @classmethod
    def of(cls, config: Config) -> "Allowance":
        """What a turn begins with."""
        return cls(
            commands=config.apply_commands_max,
            points=config.apply_commands_max,
            rows=SLICES_PER_TURN * config.scan_slice_rows,
            reply_bytes=config.turn_reply_bytes_max,
        )


@dataclass(slots=True)
class Outbox:
    """What one turn has produced so far, and what it may do yet."""

    urgent: dict[NodeId, list[Envelope]] = field(default_factory=dict)
    messages: dict[NodeId, list[Envelope]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    replies: dict[tuple[int, GroupId], Reply] = field(default_factory=dict)
    transitions: list[Transition] = field(default_factory=list)
    when_durable: list[Callable[[], None]] = field(default_factory=list)
    """What may be done once this turn's write is durable, and not before."""
    allowance: Allowance = field(default_factory=lambda: Allowance.of(Config()))

    def send(self, peer: NodeId, envelope: Envelope) -> None:
        """A message that may leave at once."""
        lane = self.urgent if isinstance(envelope.message, URGENT) else self.messages
        lane.setdefault(peer, []).append(envelope)

    def send_message(
        self, peer: NodeId, group: GroupId, source: ReplicaId, target: ReplicaId, message: Message
    ) -> None:
        """A message that may leave at once, from one replica of a group to another."""
        self.send(peer, Envelope(group, source, target, message))

    def reply(
        self,
        connection: int,
        group: GroupId,
        ids: list[int],
        results: list[bytes],
        term: int,
        status: MachineStatus,
    ) -> None:
        """Answers for a client; those of a turn for one client and group become one Reply."""
        assert len(ids) == len(results)
        place = (connection, group)
        reply = self.replies.get(place)
        if reply is None:
            self.replies[place] = Reply(
                connection, group, ids, results, term, status.log_time, status.revision
            )
        else:
            reply.ids.extend(ids)
            reply.results.extend(results)

    def into(self, effects: Effects) -> None:
        """Moves everything but the records, which become a numbered Write, into the effects."""
        for peer, envelopes in self.urgent.items():
            effects.messages[peer] = envelopes
        for peer, envelopes in self.messages.items():
            effects.messages.setdefault(peer, []).extend(envelopes)
        effects.replies.extend(self.replies.values())
        effects.transitions.extend(self.transitions)
