"""The birth certificate, and where it puts the groups."""

import dataclasses

import pytest

from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server.config import Config, ConfigError
from kvorum_server.placement.bootstrap import (
    CATALOG_VOTERS_MAX,
    flaw_in,
    initial_configurations,
    make_bootstrap,
    with_cluster_settings,
)

IDENTITIES = (11, 22, 33, 44, 55, 66)


def founded(nodes: int, *, partitions: int = 1, replicas: int = 3) -> Bootstrap:
    names = [f"n{number}" for number in range(1, nodes + 1)]
    return make_bootstrap(
        cluster_id=b"c",
        members=tuple((name, f"{name}:7400") for name in names),
        identities=dict(zip(names, IDENTITIES, strict=False)),
        partitions=partitions,
        replicas=replicas,
        protocol="raft",
        initial_cluster_hash=b"h",
        settings=Config(session_window=64),
    )


def test_the_catalog_is_everywhere_with_few_voters() -> None:
    catalog = initial_configurations(founded(6))[0]
    assert len(catalog.voters) == CATALOG_VOTERS_MAX
    assert [catalog.identity_of(learner) for learner in catalog.learners] == [66]


def test_partitions_spread_over_the_nodes() -> None:
    groups = initial_configurations(founded(3, partitions=3, replicas=2))
    placed = {group: [m.identity for m in groups[group].members] for group in (1, 2, 3)}
    assert placed == {1: [11, 22], 2: [22, 33], 3: [33, 11]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"replicas": 0}, "it names 3 nodes for 0 replicas of 1 partitions"),
        ({"replicas": 4}, "it names 3 nodes for 4 replicas"),
        ({"partitions": 0}, "replicas of 0 partitions"),
        ({"protocol": "gossip"}, "protocol is 'gossip'"),
    ],
)
def test_a_certificate_that_no_cluster_can_begin_with(change: dict[str, int], reason: str) -> None:
    made = founded(3)
    for name, value in change.items():
        setattr(made, name, value)
    assert reason in flaw_in(made, ["raft"])
    assert bool(flaw_in(made, ["raft"])) == bool(reason)
    made.members[1].identity = made.members[0].identity
    assert flaw_in(made, ["raft"]) == "two of its nodes have the same identity"


def test_more_replicas_than_nodes_are_refused() -> None:
    with pytest.raises(ConfigError, match="replicas is 3, but initial_cluster names 2 nodes"):
        founded(2)


def test_what_apply_obeys_is_the_same_on_every_node() -> None:
    told = Config(session_window=7, name="n2")
    effective = with_cluster_settings(told, founded(3))
    assert effective == dataclasses.replace(told, session_window=64)
