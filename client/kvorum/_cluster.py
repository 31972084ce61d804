"""Questions to single nodes: status and leadership. Unary calls, no quorum, no retries.

These serve operators, who want to see what one node thinks even when the cluster as a whole has no
answer; so they bypass the dispatcher and its search for a leader.
"""

import asyncio
from collections.abc import Sequence

from kvorum._channel import StreamBroken, request
from kvorum._errors import Unavailable
from kvorum._types import ClusterStatus, GroupStatus, NodeStatus, PeerStatus
from kvorum_proto import cluster_pb2 as wire


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
            PeerStatus(member.identity, member.name, member.address, member.connected)
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
