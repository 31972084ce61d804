"""Quorums: the one place that knows how many is enough.

A decision of a group needs a majority of its voters. While a configuration is joint (Raft paper,
section 6) it needs a majority of the incoming *and* of the outgoing voters, each counted by
itself: an election, a commit, a read round and the leader's own check that it still has followers
all ask here, so none of them can forget the second half. Learners never count.

Two quorums of one half share a replica, and that replica is why a committed entry cannot be lost.
An empty set of voters has no quorum at all: a replica that knows of no configuration decides
nothing.
"""

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from kvorum_server.types import Configuration, ReplicaId


class Outcome(enum.Enum):
    """How an election stands."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


def majority(voters: int) -> int:
    """The smallest number that is more than half of ``voters``.

    >>> [majority(voters) for voters in (1, 2, 3, 4, 5)]
    [1, 2, 2, 3, 3]
    """
    return voters // 2 + 1


def halves(configuration: Configuration) -> tuple[tuple[ReplicaId, ...], ...]:
    """The sets of voters that must agree, each by its own majority: one, or two while joint."""
    if configuration.is_joint:
        return (configuration.voters, configuration.outgoing)
    return (configuration.voters,)


def has_quorum(configuration: Configuration, replicas: Collection[ReplicaId]) -> bool:
    """Whether ``replicas`` hold a majority in every half.

    >>> joint = Configuration((3, 4, 5), (1, 2, 3), learners=(), members=(), next_replica=6)
    >>> has_quorum(joint, {3, 4, 5}), has_quorum(joint, {2, 3, 4})
    (False, True)
    """
    return all(
        sum(voter in replicas for voter in half) >= majority(len(half))
        for half in halves(configuration)
    )


def quorum_index(configuration: Configuration, matched: Mapping[ReplicaId, int]) -> int:
    """The highest index that a quorum holds, when replica ``r`` holds everything up to
    ``matched[r]``.

    >>> quorum_index(Configuration.initial((11, 22, 33)), {1: 7, 2: 5, 3: 2})
    5
    """
    return min(_half_index(half, matched) for half in halves(configuration))


def _half_index(half: tuple[ReplicaId, ...], matched: Mapping[ReplicaId, int]) -> int:
    if not half:
        return 0
    held = sorted(matched.get(voter, 0) for voter in half)
    return held[len(half) - majority(len(half))]


@dataclass(slots=True)
class Tally:
    """The answers to one election or pre-vote; the first answer of a replica counts."""

    granted: set[ReplicaId] = field(default_factory=set)
    refused: set[ReplicaId] = field(default_factory=set)

    def record(self, replica: ReplicaId, granted: bool) -> None:
        """Takes in an answer; a repeated one changes nothing."""
        if replica not in self.granted and replica not in self.refused:
            (self.granted if granted else self.refused).add(replica)
        assert not self.granted & self.refused, "a replica has answered both yes and no"

    def outcome(self, configuration: Configuration) -> Outcome:
        """WON with a quorum of grants; LOST once refusals leave no quorum to hope for."""
        if has_quorum(configuration, self.granted):
            return Outcome.WON
        hopeful = configuration.all_voters() - self.refused
        return Outcome.OPEN if has_quorum(configuration, hopeful) else Outcome.LOST
