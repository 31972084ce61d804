"""The birth of a cluster: one certificate, made once, kept for ever by every initial node.

The first-named node of ``initial_cluster`` waits until every initial node has said hello and
reported itself fresh, then makes the certificate; each fresh node persists it before it does
anything else and never replaces it. A machine that lost its disk comes back fresh, under a new
identity, meets peers that are bootstrapped, and is sent away: it cannot vote as its old self.

The certificate also fixes the options that change what applying an entry does
(``CLUSTER_SETTINGS``).

Which node holds which group is a function of the certificate, so that all nodes create the same
replicas without talking about it.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from kvorum_proto.peer_pb2 import Bootstrap, InitialMember
from kvorum_server.config import Config, ConfigError
from kvorum_server.types import CATALOG_GROUP, Configuration, GroupId, NodeId

CATALOG_VOTERS_MAX = 5

CLUSTER_SETTINGS = (
    "range_keys_max",
    "scan_page_bytes_max",
    "scan_page_keys_max",
    "session_bytes_max",
    "session_idle_ms",
    "session_window",
    "sessions_max",
)
"""Options that the state machine obeys when it applies an entry."""


def make_bootstrap(
    *,
    cluster_id: bytes,
    members: tuple[tuple[str, str], ...],
    identities: Mapping[str, NodeId],
    partitions: int,
    replicas: int,
    protocol: str,
    initial_cluster_hash: bytes,
    settings: Config,
) -> Bootstrap:
    """The certificate of a cluster of ``members``, (name, address) in their order.

    Raises ConfigError when there are fewer nodes than replicas of a partition.
    """
    if replicas > len(members):
        raise ConfigError(
            f"replicas is {replicas}, but initial_cluster names {len(members)} nodes; "
            f"name more nodes or set --replicas {len(members)}"
        )
    return Bootstrap(
        cluster_id=cluster_id,
        members=[
            InitialMember(identity=identities[name], name=name, address=address)
            for name, address in members
        ],
        partitions=partitions,
        replicas=replicas,
        protocol=protocol,
        initial_cluster_hash=initial_cluster_hash,
        settings={name: getattr(settings, name) for name in CLUSTER_SETTINGS},
    )


def with_cluster_settings(config: Config, bootstrap: Bootstrap) -> Config:
    """The options of a node, with those that must be equal everywhere as its cluster has them.

    Replicas that apply the same entry under different limits would end in different states, so
    what the founding node had is part of the certificate and wins over what a node is told later.
    A setting that the certificate does not name has its default.

    >>> told = Config(session_window=7, tick_ms=10)
    >>> effective = with_cluster_settings(told, Bootstrap(settings={"session_window": 64}))
    >>> effective.session_window, effective.tick_ms
    (64, 10)
    """
    defaults = {option.name: option.default for option in dataclasses.fields(Config)}
    settings: dict[str, Any] = {
        name: bootstrap.settings.get(name, defaults[name]) for name in CLUSTER_SETTINGS
    }
    return dataclasses.replace(config, **settings)


def flaw_in(bootstrap: Bootstrap, protocols: Collection[str]) -> str:
    """Why a certificate cannot be the birth of a cluster; empty when it can. For certificates that
    others have made.

    >>> flaw_in(Bootstrap(partitions=1, replicas=2), ["raft"])
    'it names 0 nodes for 2 replicas of 1 partitions'
    """
    identities = {member.identity for member in bootstrap.members}
    if len(identities) != len(bootstrap.members):
        return "two of its nodes have the same identity"
    if not 1 <= bootstrap.replicas <= len(identities) or bootstrap.partitions < 1:
        return (
            f"it names {len(identities)} nodes for {bootstrap.replicas} replicas of "
            f"{bootstrap.partitions} partitions"
        )
    if bootstrap.protocol not in protocols:
        return f"its consensus protocol is {bootstrap.protocol!r}, which this program does not know"
    return ""


def initial_configurations(bootstrap: Bootstrap) -> dict[GroupId, Configuration]:
    """The first configuration of every group.

    The catalog lives on all nodes, with at most five voters; partition p on ``replicas``
    neighbours of the list of nodes, beginning with node p.

    >>> members = [InitialMember(identity=identity) for identity in (11, 22, 33)]
    >>> groups = initial_configurations(Bootstrap(members=members, partitions=2, replicas=2))
    >>> [[member.identity for member in groups[group].members] for group in (0, 1, 2)]
    [[11, 22, 33], [11, 22], [22, 33]]
    """
    identities = tuple(member.identity for member in bootstrap.members)
    groups = {
        CATALOG_GROUP: Configuration.initial(
            identities[:CATALOG_VOTERS_MAX], identities[CATALOG_VOTERS_MAX:]
        )
    }
    for partition in range(bootstrap.partitions):
        places = [(partition + offset) % len(identities) for offset in range(bootstrap.replicas)]
        groups[partition + 1] = Configuration.initial(tuple(identities[place] for place in places))
    return groups
