"""Questions to single nodes: status and leadership. Unary calls, no quorum, no retries.

These serve operators, who want to see what one node thinks even when the cluster as a whole has no
answer; so they bypass the dispatcher and its search for a leader.
"""

import asyncio
from collections.abc import Sequence

from kvorum._channel import StreamBroken, request
from kvorum._errors import Unavailable
from kvorum._types import ClusterStatus, GroupStatus, NodeStatus, PeerStatus, StateComparison
from kvorum_proto import cluster_pb2 as wire

COMPARE_POLL_SECONDS = 0.1


def _group(message: wire.GroupStatus) -> GroupStatus:
    return GroupStatus(
        group=message.group,
        replica=message.replica,
        role=message.role,
        term=message.term,
        leader=message.leader,
        commit=message.commit,
        applied=message.applied,
        log_first=message.log_first,
        log_last=message.log_last,
        checkpoint=message.checkpoint,
        revision=message.revision,
        compacted_revision=message.compacted_revision,
        log_time_ms=message.log_time,
        sessions=message.sessions,
        lag=message.lag,
        rebuilding=message.rebuilding,
        comparison=message.comparison,
        differs=message.differs,
        compared_index=message.compared_index,
        compared_log_time_ms=message.compared_log_time,
        waiting=message.waiting,
    )


def _node(endpoint: str, message: wire.StatusResponse) -> NodeStatus:
    return NodeStatus(
        endpoint=endpoint,
        cluster_id=message.cluster_id,
        identity=message.identity,
        name=message.name,
        version=message.version,
        protocol=message.protocol,
        level=message.level,
        groups=tuple(map(_group, message.groups)),
        members=tuple(
            PeerStatus(
                member.identity,
                member.name,
                member.address,
                member.connected,
                learner=member.learner,
                leaving=member.leaving,
                expected=member.expected,
                replaces=member.replaces,
            )
            for member in message.members
        ),
        disk_bytes=message.disk_bytes,
        disk_free_bytes=message.disk_free_bytes,
        resident_bytes=message.resident_bytes,
        uptime_seconds=message.uptime_seconds,
        loop_lag_ms=message.loop_lag_ms,
        alarms=tuple(message.alarms),
    )


async def node_status(endpoint: str, timeout: float) -> NodeStatus:
    """The status of one node. Raises Unavailable."""
    question = wire.StatusRequest().SerializeToString()
    try:
        answer = await request(endpoint, "Cluster/Status", question, timeout)
    except StreamBroken as broken:
        raise Unavailable(f"{endpoint} gave no status: {broken}") from None
    return _node(endpoint, wire.StatusResponse.FromString(answer))


async def cluster_status(endpoints: Sequence[str], timeout: float) -> ClusterStatus:
    """The status of every node that answers, asked all at once; each node once."""
    answers = await asyncio.gather(
        *(node_status(endpoint, timeout) for endpoint in endpoints), return_exceptions=True
    )
    nodes: dict[int, NodeStatus] = {}
    unreachable: list[tuple[str, str]] = []
    for endpoint, answer in zip(endpoints, answers, strict=True):
        if isinstance(answer, NodeStatus):
            nodes.setdefault(answer.identity, answer)
        elif isinstance(answer, Unavailable):
            unreachable.append((endpoint, str(answer)))
        else:
            raise answer
    return ClusterStatus(tuple(nodes.values()), tuple(unreachable))


async def compare_states(
    endpoints: Sequence[str], timeout: float, patience: float
) -> tuple[StateComparison, ...]:
    """Has the replicas of every group compare their states. Nodes answer within ``timeout``
    seconds; raises Unavailable when a group has no result within ``patience``.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    before = _comparisons(await cluster_status(endpoints, timeout))
    question = wire.CompareRequest().SerializeToString()
    for endpoint in {endpoint for endpoint, _, _ in before.values()}:
        try:
            await request(endpoint, "Cluster/CompareStates", question, timeout)
        except StreamBroken as broken:
            raise Unavailable(f"{endpoint} began no comparison: {broken}") from None
    while True:
        now = _comparisons(await cluster_status(endpoints, timeout))
        missing = [
            group
            for group, (_, _, replica) in before.items()
            if group not in now or now[group][2].comparison in ("", replica.comparison)
        ]
        if before and not missing:
            return tuple(
                StateComparison(group, name, replica.differs, replica.comparison)
                for group, (_, name, replica) in sorted(now.items())
            )
        if loop.time() >= deadline:
            what = f"group {missing[0]} gave no result" if missing else "no node leads a group"
            raise Unavailable(f"{what} within {patience:g} s; try again")
        await asyncio.sleep(COMPARE_POLL_SECONDS)


def _comparisons(status: ClusterStatus) -> dict[int, tuple[str, str, GroupStatus]]:
    """Endpoint and name of the leader of each group, and what it says of the group."""
    leaders = [
        (replica, node)
        for node in status.nodes
        for replica in node.groups
        if replica.role == "leader"
    ]
    # Of two that believe to lead, the one of the later term does.
    leaders.sort(key=lambda leader: leader[0].term)
    return {replica.group: (node.endpoint, node.name, replica) for replica, node in leaders}


async def transfer_leadership(
    endpoints: Sequence[str], group: int, target: str, timeout: float
) -> None:
    """Tells the leader of a group to hand over. Raises Unavailable when no leader is found."""
    status = await cluster_status(endpoints, timeout)
    leaders = [
        (replica.term, node.endpoint)
        for node in status.nodes
        for replica in node.groups
        if replica.group == group and replica.role == "leader"
    ]
    if not leaders:
        raise Unavailable(f"no reachable node leads group {group}; try again when one is elected")
    _, leader = max(leaders)
    question = wire.TransferRequest(group=group, target=target).SerializeToString()
    try:
        await request(leader, "Cluster/TransferLeadership", question, timeout)
    except StreamBroken as broken:
        raise Unavailable(f"{leader} did not take the transfer: {broken}") from None
