"""Do the replicas of a group hold the same state? One replica's part in finding out.

A round of comparison, one at a time in a group:

1.  The leader proposes ``hash_state``: every ``state_hash_interval_ms`` of log time if there were
    commands since the round before, and when an operator asks.
2.  Each replica that applies it stops applying for the rest of that turn. At the turn's end, its
    rows written, it takes a view: exactly the state after that entry, on every replica.
3.  It folds the view into a hash, a slice a tick (see ``state_hash.py``), and tells the leader,
    again every ``RESEND_TICKS`` for a while, since messages get lost.
4.  The leader, once it has its own and all connected members have answered or had ample time,
    compares. What a quorum of the voters has is right. A replica that has something else
    is told ``StateDamage`` and rebuilds its state (see ``rebuild`` in ``replica.py``); a leader
    among those gives up its leadership. If no quorum agrees, nobody knows who is right: that is
    an alarm, and nothing is done by itself; in particular the leader, which may be the one that
    is wrong, gives its state to nobody (``is_in_doubt``), so that a lagging replica cannot make
    the wrong state that of a quorum.

Whoever is told checks what it is told against its own hash at that index, so a late or repeated
message harms nobody. Nothing here is durable and nothing needs to be: the next round finds what
this one missed. A new leader begins with nothing; a round that its predecessor began ends with it
all the same, because its members answer whoever leads.

Left out: which row it is that differs; the replica that has it is replaced as a whole.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvorum_proto.command_pb2 import HashState, Submission
from kvorum_server.config import Config
from kvorum_server.consensus.quorum import has_quorum
from kvorum_server.outbox import Outbox
from kvorum_server.state_hash import StateHasher
from kvorum_server.state_machine import HASH_FORMAT
from kvorum_server.storage.engine import Engine
from kvorum_server.types import (
    Configuration,
    Entry,
    EntryKind,
    NodeId,
    ReplicaId,
    StateDamage,
    StateHash,
)

if TYPE_CHECKING:
    from kvorum_server.replica import Replica

RESEND_TICKS = 40
"""A follower repeats its hash this often, and a leader its proposal that came to nothing."""

RESENDS = 10
"""How often at most."""

WAIT_TICKS_MIN = 40
"""The leader waits so long for the hashes of others, and twice as long as its own took."""

SOON = 10
"""After a round that found a difference the next one comes in a tenth of the interval."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the leader makes of the hashes at ``index``. ``agreed``: what a quorum has, if any."""

    index: int
    log_time: int
    agreed: int | None
    differing: tuple[ReplicaId, ...]
    """Who has another hash than the quorum; everybody who answered if there is no quorum."""
    missing: tuple[ReplicaId, ...]

    @property
    def differs(self) -> bool:
        """Whether the replicas do not have the same state, as far as they answered."""
        return bool(self.differing)

    def describe(self) -> str:
        """One line for people.

        >>> Verdict(7, 0, 0xAB, (3,), ()).describe()
        'entry 7: the state of replica 3 is not that of the quorum (00000000000000ab)'
        """
        place = f"entry {self.index}: "
        rest = f", no answer of {_names(self.missing)}" if self.missing else ""
        if self.agreed is None and not self.differing:
            return f"{place}too few answers{rest}"
        if self.agreed is None:
            return (
                f"{place}the states of {_names(self.differing)} differ and no quorum agrees{rest}"
            )
        if self.differing:
            who = _names(self.differing)
            return f"{place}the state of {who} is not that of the quorum ({self.agreed:016x}){rest}"
        return f"{place}equal ({self.agreed:016x}){rest}"


def judge(
    configuration: Configuration, index: int, log_time: int, answers: dict[ReplicaId, int]
) -> Verdict:
    """Compares the hashes that replicas have at an index.

    >>> trio = Configuration.initial((11, 22, 33))
    >>> judge(trio, 7, 0, {1: 5, 2: 5, 3: 5}).differs
    False
    >>> judge(trio, 7, 0, {1: 5, 2: 5, 3: 6}).differing
    (3,)
    >>> judge(trio, 7, 0, {1: 5, 2: 6}).agreed is None
    True
    """
    holders: defaultdict[int, set[ReplicaId]] = defaultdict(set)
    for replica, state_hash in answers.items():
        holders[state_hash].add(replica)
    agreed = next((h for h, who in holders.items() if has_quorum(configuration, who)), None)
    differing: Collection[ReplicaId] = ()
    if agreed is not None:
        differing = answers.keys() - holders[agreed]
    elif len(holders) > 1:
        differing = answers.keys()
    missing = set(configuration.replicas()) - answers.keys()
    return Verdict(index, log_time, agreed, tuple(sorted(differing)), tuple(sorted(missing)))


def _names(replicas: tuple[ReplicaId, ...]) -> str:
    names = " and ".join(map(str, replicas))
    return f"replica {names}" if len(replicas) == 1 else f"replicas {names}"


class Comparison:
    """The rounds of one replica, the one under way and what became of the last."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._asked: int | None = None
        """The entry after which a view is to be taken at the end of this turn."""
        self._hasher: StateHasher | None = None
        self._own: StateHash | None = None
        self._own_ticks = 0
        """Since the own hash was there."""
        self._hash_ticks = 0
        """How long it took."""
        self._entry = (0, 0)
        """Index and stamp of the last entry that began a round here."""
        self._answers: dict[ReplicaId, int] = {}
        """On the leader: the hashes of others at the newest round that anybody has ended."""
        self._answers_index = 0
        self._has_changed = False
        self._wanted = False
        self._proposed_ticks = 0
        self.verdict: Verdict | None = None
        """On the leader: of the newest round that is over."""
        self.agreed_at = (0, 0)
        """Index and log time of the newest round in which a quorum agreed, as this leader knows."""

    # --- On every replica ---

    def applied(self, entry: Entry, *, hash_due: bool) -> None:
        """An entry was applied; ``hash_due``: it begins a round."""
        if hash_due:
            self._asked = entry.index
            self._entry = (entry.index, entry.stamp)
            self._has_changed = self._wanted = False
            self._proposed_ticks = 0
        elif entry.kind is EntryKind.COMMANDS:
            self._has_changed = True

    @property
    def needs_view(self) -> bool:
        """Whether nothing more may be applied in this turn."""
        return self._asked is not None

    def take_view(self, engine: Engine, space: int) -> None:
        """At the turn's end: the engine holds exactly what was applied."""
        if self._asked is not None:
            self._stop_hashing()
            self._hasher = StateHasher(index=self._asked, view=engine.snapshot(), space=space)
            self._asked = self._own = None
            self._hash_ticks = 0

    def tick(self, replica: "Replica", connected: Collection[NodeId], outbox: Outbox) -> None:
        """A slice of the hash; then whatever is due."""
        if self._hasher is not None:
            self._hash_ticks += 1
            state_hash = self._hasher.advance(self._config.state_hash_slice_rows)
            if state_hash is not None:
                self._own = StateHash(self._hasher.index, state_hash)
                self._own_ticks = 0
                self._hasher = None
        if self._own is not None:
            self._tell(replica, self._own, connected, outbox)
            self._own_ticks += 1
        self._propose_when_due(replica)

    def _tell(
        self,
        replica: "Replica",
        own: StateHash,
        connected: Collection[NodeId],
        outbox: Outbox,
    ) -> None:
        leader = replica.consensus.leader
        if leader == replica.replica:
            if self._is_under_way:
                self._judge_when_due(replica, own, connected, outbox)
        elif (
            leader is not None
            and self._own_ticks % RESEND_TICKS == 0
            and self._own_ticks < RESENDS * RESEND_TICKS
        ):
            replica.send(leader, own, outbox)

    def is_damaged(self, replica: "Replica", source: ReplicaId, told: StateDamage) -> bool:
        """Whether the leader is right that this replica's state differs from the quorum's."""
        consensus = replica.consensus
        if told.term != consensus.term or consensus.leader != source:
            return False
        own = self._own
        return own is not None and own.index == told.index and own.hash != told.hash

    def reset(self) -> None:
        """The state is another one now, or none: what was found out about the old one is void."""
        self._stop_hashing()
        self._asked = self._own = None

    def _stop_hashing(self) -> None:
        if self._hasher is not None:
            self._hasher.close()
            self._hasher = None

    # --- On the leader ---

    def lose_leadership(self) -> None:
        """The next leader compares."""
        self._answers.clear()
        self._answers_index = 0
        self._wanted = False
        self._proposed_ticks = 0
        self.verdict = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether replicas differ and the leader's state may be the wrong one."""
        return self.verdict is not None and self.verdict.differs and self.verdict.agreed is None

    def ask(self) -> None:
        """An operator wants a round now."""
        self._wanted = True

    def receive(
        self, replica: "Replica", source: ReplicaId, message: StateHash, outbox: Outbox
    ) -> None:
        """The hash of another replica; one of an older round says nothing any more."""
        if not replica.is_leader or message.index < self._answers_index:
            return
        if message.index > self._answers_index:
            self._answers_index = message.index
            self._answers.clear()
        self._answers[source] = message.hash
        own = self._own
        if self.verdict is not None and own is not None and self.verdict.index == own.index:
            # The round is over already: this one was late, or has not understood yet.
            self._judge(replica, own, outbox)

    def _judge_when_due(
        self, replica: "Replica", own: StateHash, connected: Collection[NodeId], outbox: Outbox
    ) -> None:
        configuration = replica.consensus.configuration
        answered = self._answers_of(own.index)
        waits = any(
            configuration.identity_of(other) in connected
            for other in configuration.replicas()
            if other != replica.replica and other not in answered
        )
        if not waits or self._own_ticks >= WAIT_TICKS_MIN + 2 * self._hash_ticks:
            self._judge(replica, own, outbox)

    def _judge(self, replica: "Replica", own: StateHash, outbox: Outbox) -> None:
        before = self.verdict
        answers = {**self._answers_of(own.index), replica.replica: own.hash}
        verdict = judge(replica.consensus.configuration, own.index, self._entry[1], answers)
        self.verdict = verdict
        if verdict.agreed is not None:
            self.agreed_at = (verdict.index, verdict.log_time)
        if verdict.differs and verdict != before:
            details: dict[str, str | int] = {"finding": verdict.describe()}
            outbox.transitions.append(replica.transition("states differ", details))
        if verdict.agreed is None:
            return
        damage = StateDamage(replica.consensus.term, own.index, verdict.agreed)
        for other in verdict.differing:
            if other != replica.replica:
                replica.send(other, damage, outbox)
        if replica.replica in verdict.differing:
            replica.lose_state(outbox)

    def _answers_of(self, index: int) -> dict[ReplicaId, int]:
        return self._answers if index == self._answers_index else {}

    def _propose_when_due(self, replica: "Replica") -> None:
        if not replica.is_leader or replica.requests.stopping:
            return
        if self._proposed_ticks > 0:
            self._proposed_ticks -= 1
            return
        is_due = self._wanted or self._is_due(replica.log_time)
        # A full disk has no room for entries that change nothing.
        if is_due and not self._is_under_way and not replica.quorum_is_full():
            self._proposed_ticks = RESEND_TICKS
            replica.requests.submit_own(Submission(hash_state=HashState(format=HASH_FORMAT)))

    @property
    def _is_under_way(self) -> bool:
        """Whether a round that began here is not judged yet."""
        if self._asked is not None or self._hasher is not None:
            return True
        own, verdict = self._own, self.verdict
        return own is not None and (verdict is None or verdict.index < own.index)

    def _is_due(self, log_time: int) -> bool:
        interval_ms = self._config.state_hash_interval_ms
        if not interval_ms:
            return False
        if self.verdict is not None and self.verdict.differs:
            return log_time - self._entry[1] >= interval_ms // SOON
        if not self._entry[0]:
            # The first round after a start comes an interval later, not at once.
            self._entry = (0, self._entry[1] or log_time)
        return self._has_changed and log_time - self._entry[1] >= interval_ms
