"""What a node says of itself when asked; it needs no quorum and changes nothing.

Everything is read from the Host between two turns, so that the figures of one answer belong
together. What other nodes think, who is really the leader, for instance, is not known here: the CLI
asks every node and puts the answers side by side.
"""

import resource
import sys
from typing import TYPE_CHECKING

from kvorum_proto.backup_pb2 import BackupHeader
from kvorum_proto.cluster_pb2 import (
    GroupStatus,
    MemberStatus,
    ReplicaStatus,
    StatusResponse,
)
from kvorum_server.consensus.core import Status
from kvorum_server.replica import Replica

if TYPE_CHECKING:
    from kvorum_server.host import Host
    from kvorum_server.node import Node

PAGE_BYTES = resource.getpagesize()


def node_status(node: "Node") -> StatusResponse:
    """The answer to ``Cluster.Status``."""
    host = node.host
    bootstrap = host.bootstrap
    return StatusResponse(
        cluster_id=bootstrap.cluster_id if bootstrap is not None else b"",
        identity=host.identity,
        name=node.config.name,
        version=node.version,
        protocol=bootstrap.protocol if bootstrap is not None else node.config.consensus,
        level=host.directory.level,
        groups=[
            group_status(replica, host.directory.name_of(host.directory.leader_of(group)))
            for group, replica in sorted(host.replicas.items())
        ],
        members=member_statuses(host),
        disk_bytes=node.disk_bytes,
        disk_free_bytes=node.free_bytes,
        resident_bytes=resident_bytes(),
        uptime_seconds=node.uptime_seconds,
        loop_lag_ms=node.loop_lag_ms,
        alarms=alarms(host, joins=bool(node.joins)),
        table=node.server_hello().table,
    )


def member_statuses(host: "Host") -> list[MemberStatus]:
    """Everybody whom the catalog knows, those who are expected last."""
    catalog = host.directory.catalog
    if catalog is None:
        return []
    members = [
        MemberStatus(
            identity=member.identity,
            name=member.name,
            address=member.address,
            connected=member.identity == host.identity or member.identity in host.peers,
            learner=member.learner,
            leaving=bool(member.leaving_since),
        )
        for member in catalog.members()
    ]
    expected = [
        MemberStatus(
            name=one.name,
            address=one.address,
            learner=one.learner,
            expected=True,
            replaces=host.directory.name_of(one.replaces),
        )
        for _, one in sorted(catalog.roster.expected.items())
    ]
    return members + expected


def backup_header(host: "Host", version: str) -> BackupHeader | None:
    """What a backup says of the cluster; None while the node belongs to none."""
    bootstrap = host.bootstrap
    if bootstrap is None:
        return None
    return BackupHeader(
        cluster_id=bootstrap.cluster_id,
        partitions=bootstrap.partitions,
        level=host.directory.level,
        protocol=bootstrap.protocol,
        settings=bootstrap.settings,
        version=version,
    )


def alarms(host: "Host", *, joins: bool) -> list[str]:
    """What an operator should look into; an alarm goes by itself when its reason has gone."""
    found = []
    if host.disk_full:
        found.append("disk full: writes are refused until space is free")
    if host.bootstrap is None:
        found.append("waiting to be let in" if joins else "waiting for the other initial nodes")
    for group, replica in sorted(host.replicas.items()):
        if not host.disk_full and replica.quorum_is_full():
            found.append(f"group {group} refuses writes: no quorum of its disks has room")
        if replica.consensus.rebuilding:
            found.append(
                f"group {group}: rebuilding the state, a snapshot of the leader is awaited"
            )
        verdict = replica.comparison.verdict
        if replica.is_leader and verdict is not None and verdict.differs:
            found.append(f"group {group}: {verdict.describe()}")
    return found


def group_status(replica: Replica, leader: str) -> GroupStatus:
    """One replica, for the table of groups."""
    status = replica.consensus.status()
    machine = replica.machine.status()
    verdict = replica.comparison.verdict
    compared_index, compared_log_time = replica.comparison.agreed_at
    return GroupStatus(
        group=replica.group,
        replica=replica.replica,
        role=status.role.value,
        term=status.term,
        leader=leader,
        commit=status.commit,
        applied=status.applied,
        log_first=status.first_index,
        log_last=status.last_index,
        checkpoint=replica.checkpoint_index,
        revision=machine.revision,
        compacted_revision=machine.compacted_revision,
        log_time=machine.log_time,
        sessions=machine.sessions,
        lag=max(0, status.commit - status.applied),
        rebuilding=replica.consensus.rebuilding,
        compared_index=compared_index,
        compared_log_time=compared_log_time,
        comparison="" if verdict is None else verdict.describe(),
        differs=verdict is not None and verdict.differs,
        replicas=replica_statuses(status),
        waiting=replica.waiting_for if replica.is_leader else "",
    )


def replica_statuses(status: Status) -> list[ReplicaStatus]:
    """The configuration in force, by replica id."""
    configuration = status.configuration
    return [
        ReplicaStatus(
            replica=member.replica,
            identity=member.identity,
            role="voter"
            if member.replica in configuration.voters
            else "outgoing"
            if member.replica in configuration.outgoing
            else "learner",
            matched=status.matched.get(member.replica, 0),
        )
        for member in configuration.members
    ]


def resident_bytes() -> int:
    """Memory of this process that is in RAM: now on Linux, the highest so far elsewhere."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * PAGE_BYTES
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
