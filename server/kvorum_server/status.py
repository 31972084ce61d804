"""What a node says of itself when asked; it needs no quorum and changes nothing.

Everything is read from the Host between two turns, so that the figures of one answer belong
together. What other nodes think, who is really the leader, for instance, is not known here: the CLI
asks every node and puts the answers side by side.
"""

import resource
import sys
from typing import TYPE_CHECKING

from kvorum_proto.cluster_pb2 import GroupStatus, MemberStatus, StatusResponse
from kvorum_server.replica import Replica

if TYPE_CHECKING:
    from kvorum_server.node import Node

PAGE_BYTES = resource.getpagesize()


def node_status(node: "Node") -> StatusResponse:
    """The answer to ``Cluster.Status``."""
    host = node.host
    bootstrap = host.bootstrap
    alarms = []
    if host.disk_full:
        alarms.append("disk full: writes are refused until space is free")
    if bootstrap is None:
        alarms.append("waiting for the other initial nodes")
    names = host.directory.addresses()
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
        members=[
            MemberStatus(
                identity=identity,
                name=name,
                address=address,
                connected=identity == host.identity or identity in host.peers,
            )
            for identity, (name, address) in names.items()
        ],
        disk_bytes=node.disk_bytes,
        disk_free_bytes=node.free_bytes,
        resident_bytes=resident_bytes(),
        uptime_seconds=node.uptime_seconds,
        loop_lag_ms=node.loop_lag_ms,
        alarms=alarms,
        table=node.server_hello().table,
    )


def group_status(replica: Replica, leader: str) -> GroupStatus:
    """One replica, for the table of groups."""
    status = replica.consensus.status()
    machine = replica.machine.status()
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
    )


def resident_bytes() -> int:
    """Memory of this process that is in RAM: now on Linux, the highest so far elsewhere."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * PAGE_BYTES
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
