"""Read-index rounds: linearizable reads without a log entry (Ongaro's thesis, section 6.4).

A leader may not know that it has been deposed. Before it serves a read it therefore notes its
commit index and asks a quorum, with a heartbeat, whether it still leads; once they have answered,
a state that has applied that index contains every write acknowledged before the read arrived.

-   A read joins only a round whose heartbeats are sent after the read arrived. One round is under
    way at a time, the reads that arrive meanwhile share the next one: under load a round serves a
    whole batch.
-   A round starts only once an entry of the leader's own term is committed; before that its commit
    index may be older than what its predecessor acknowledged (etcd issue 7331).
-   A round is known by the leader's boot and a counter that never restarts within a boot, so no
    answer to an earlier round, term or process can confirm it (etcd issue 20418 and its
    relatives).
-   Rounds die with the leadership: every read queued or under way is refused, none is carried over.

A lost heartbeat costs no more than the wait for the next one: every heartbeat repeats the round.

A round without reads costs nothing, since heartbeats go out anyway: with it a leader makes sure
that it still leads, and can vouch for the state of its followers (bounded staleness). Reads that
arrive meanwhile do not wait for it, they replace it.
"""

from dataclasses import dataclass, field

from kvorum_server.consensus.core import ReadReady
from kvorum_server.consensus.quorum import has_quorum
from kvorum_server.types import NO_ROUND, Configuration, ReadRound, ReplicaId


@dataclass(slots=True)
class ReadRounds:
    """The reads of one replica, over all of its leaderships since it was started."""

    boot: int
    counter: int = 0
    round: ReadRound = NO_ROUND
    """The round under way, NO_ROUND when there is none."""
    index: int = 0
    """The leader's commit index when the newest round began."""
    _waiting: list[int] = field(default_factory=list)
    _asking: list[int] = field(default_factory=list)
    _acknowledged: set[ReplicaId] = field(default_factory=set)

    def queue(self, token: int) -> None:
        """Takes in a read; the next round to start will carry it."""
        self._waiting.append(token)

    def can_start(self) -> bool:
        """Whether reads wait and no round is under way."""
        return bool(self._waiting) and not self._asking

    def start(self, commit: int, leader: ReplicaId) -> ReadRound:
        """Opens a round for all waiting reads; the leader's own agreement is in it."""
        assert not self._asking, "one round with reads at a time"
        self.counter += 1
        self.round = ReadRound(self.boot, self.counter)
        self._asking, self._waiting = self._waiting, []
        self.index = commit
        self._acknowledged = {leader}
        assert self.round != NO_ROUND, "a round is never mistaken for no round"
        return self.round

    def acknowledge(self, replica: ReplicaId, round: ReadRound) -> None:
        """A replica has answered a heartbeat that carried ``round``; other rounds are over."""
        if round == self.round and round != NO_ROUND:
            self._acknowledged.add(replica)

    def confirmed(self, configuration: Configuration) -> list[ReadReady]:
        """The reads of the round, if a quorum has answered; this ends the round."""
        if self.round is NO_ROUND or not has_quorum(configuration, self._acknowledged):
            return []
        served = [ReadReady(token, self.index) for token in self._asking]
        self._end()
        return served

    def refuse_all(self) -> list[ReadReady]:
        """Leadership is lost: no read that is queued or under way may be served."""
        refused = [ReadReady(token, None) for token in self._asking + self._waiting]
        self._end()
        self._waiting = []
        return refused

    def _end(self) -> None:
        self.round = NO_ROUND
        self._asking = []
        self._acknowledged = set()
