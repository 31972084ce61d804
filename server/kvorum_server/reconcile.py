"""The next step from the members that a group has to those that it shall have.

The catalog says which nodes shall hold a replica of a group (its *placement*); the group's own log
says which do (its *configuration*). The leader of the group compares the two at every tick and
takes one step, which is one entry of the log:

1.  A node that is missing gets a new replica id and begins as a **learner**: no quorum changes.
2.  When learners that shall vote have caught up, voters change by **joint consensus** (Raft paper,
    section 6), however many at once: from here on decisions need a majority of the old *and* of the
    new voters.
3.  When the joint configuration is committed, the old half is left.

What keeps it safe does not depend on a fresh catalog. Each step is decided by quorums of the log
itself, and a configuration remembers the version of the placement that it follows: a leader
whose copy of the catalog is older than that takes no step, so nothing that was done is undone.

What keeps it live: a voter that a newcomer replaces stays until the newcomer has caught up, and no
step is taken whose voters would have no quorum among the nodes that this leader is connected to.
What a change waits for is said in one line, for ``status``.

Left out: turning a voter into a learner in one step. It leaves, and comes back under a new id.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from kvorum_proto.command_pb2 import Placement, Seat
from kvorum_server.consensus.quorum import has_quorum
from kvorum_server.types import Configuration, Member, NodeId, ReplicaId


@dataclass(frozen=True, slots=True)
class Step:
    """``configuration`` is the next one to append, None when there is nothing to do now;
    ``waiting`` says what a change that is under way waits for.
    """

    configuration: Configuration | None = None
    waiting: str = ""


def next_step(
    configuration: Configuration,
    placement: Placement,
    caught_up: Collection[ReplicaId],
    reachable: Collection[ReplicaId],
    name_of: Callable[[NodeId], str] = "{:016x}".format,
) -> Step:
    """The step to take from a committed ``configuration``.

    ``caught_up`` are the learners that hold nearly the whole log; ``reachable`` the replicas, the
    leader's own included, that it is connected to.

    >>> three = Configuration.initial((11, 22, 33))
    >>> seats = [Seat(identity=identity, voter=True) for identity in (11, 22, 44)]
    >>> placement = Placement(version=9, seats=seats)
    >>> first = next_step(three, placement, set(), {1, 2, 3}).configuration
    >>> first.voters, first.learners, first.identity_of(4)
    ((1, 2, 3), (4,), 44)
    >>> second = next_step(first, placement, {4}, {1, 2, 3, 4}).configuration
    >>> second.voters, second.outgoing, second.learners
    ((1, 2, 4), (1, 2, 3), ())
    >>> third = next_step(second, placement, set(), {1, 2, 4}).configuration
    >>> third.voters, third.outgoing, [member.replica for member in third.members]
    ((1, 2, 4), (), [1, 2, 4])
    """
    if configuration.is_joint:
        return Step(_with(configuration, configuration.voters, (), configuration.learners))
    if placement.version < configuration.version:
        return Step()
    seats = {seat.identity: seat for seat in placement.seats}
    changed = _with_learners(configuration, seats)
    if changed is None:
        step = _with_voters(configuration, seats, caught_up, reachable, name_of)
        if step.waiting:
            return step
        changed = step.configuration
    if changed is None and configuration.version < placement.version:
        changed = configuration
    if changed is None:
        return Step()
    return Step(replace(changed, version=placement.version))


def _with_learners(configuration: Configuration, seats: dict[NodeId, Seat]) -> Configuration | None:
    """Newcomers come as learners, learners without a seat go; None when there are neither."""
    held = {member.identity for member in configuration.members}
    missing = [identity for identity in seats if identity not in held]
    learners = [
        replica for replica in configuration.learners if configuration.identity_of(replica) in seats
    ]
    if not missing and len(learners) == len(configuration.learners):
        return None
    first = configuration.next_replica
    new = [Member(first + number, identity) for number, identity in enumerate(missing)]
    return _with(
        replace(
            configuration,
            members=(*configuration.members, *new),
            next_replica=first + len(new),
        ),
        configuration.voters,
        (),
        (*learners, *(member.replica for member in new)),
    )


def _with_voters(
    configuration: Configuration,
    seats: dict[NodeId, Seat],
    caught_up: Collection[ReplicaId],
    reachable: Collection[ReplicaId],
    name_of: Callable[[NodeId], str],
) -> Step:
    """The joint configuration towards the voters that the seats want, as far as it can go now."""

    def seat_of(replica: ReplicaId) -> Seat | None:
        return seats.get(configuration.identity_of(replica) or 0)

    behind: list[str] = []
    kept: set[NodeId] = set()
    ready: list[ReplicaId] = []
    for replica in configuration.learners:
        seat = seat_of(replica)
        if seat is None or not seat.voter or seat.replaces in seats:
            continue
        if replica in caught_up:
            ready.append(replica)
        else:
            behind.append(name_of(seat.identity))
            kept.add(seat.replaces)
    voters = [
        replica
        for replica in configuration.voters
        if ((seat := seat_of(replica)) is not None and seat.voter)
        or configuration.identity_of(replica) in kept
    ]
    voters = sorted((*voters, *ready))
    if voters == sorted(configuration.voters):
        return Step(waiting=f"{' and '.join(behind)} must catch up first" if behind else "")
    if not voters:
        return Step(waiting="the change would leave no voter")
    learners = tuple(replica for replica in configuration.learners if replica not in ready)
    joint = replace(
        configuration, voters=tuple(voters), outgoing=configuration.voters, learners=learners
    )
    if not has_quorum(joint, reachable):
        missing = [
            name_of(configuration.identity_of(replica) or 0)
            for replica in sorted(joint.all_voters() - set(reachable))
        ]
        return Step(waiting=f"no quorum would be left without {' and '.join(missing)}")
    return Step(joint)


def _with(
    configuration: Configuration,
    voters: tuple[ReplicaId, ...],
    outgoing: tuple[ReplicaId, ...],
    learners: tuple[ReplicaId, ...],
) -> Configuration:
    """With these members only."""
    stay = {*voters, *outgoing, *learners}
    members = tuple(member for member in configuration.members if member.replica in stay)
    return replace(
        configuration, voters=voters, outgoing=outgoing, learners=learners, members=members
    )
