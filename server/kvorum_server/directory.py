"""What a node can say about its cluster: members, levels, leaders, and where to find them.

Everything is read from the replicas of this node at the moment of asking: the members from its
copy of the catalog, leaders from what its consensus objects believe. Nothing is kept here and
nothing is decided, so two nodes may well answer differently for a moment; what must be true
everywhere goes through a log.
"""

from collections.abc import Mapping

from kvorum_server.placement.catalog import CatalogMachine
from kvorum_server.replica import Replica
from kvorum_server.types import CATALOG_GROUP, FEATURE_LEVEL, Contact, GroupId, NodeId


class Directory:
    """A view of the cluster from one node; ``replicas`` is the Host's own table."""

    def __init__(self, replicas: Mapping[GroupId, Replica]) -> None:
        self._replicas = replicas

    @property
    def catalog(self) -> CatalogMachine | None:
        """This node's copy of the catalog; None while it has none, or none to rely on because it
        is being rebuilt.
        """
        replica = self._replicas.get(CATALOG_GROUP)
        return None if replica is None or replica.consensus.rebuilding else self._last_known()

    def _last_known(self) -> CatalogMachine | None:
        """Old addresses are better than none, and an old level is understood by everybody."""
        replica = self._replicas.get(CATALOG_GROUP)
        if replica is None:
            return None
        assert isinstance(replica.machine, CatalogMachine)
        return replica.machine

    @property
    def level(self) -> int:
        """The feature level under which this node's leaders propose."""
        catalog = self._last_known()
        return FEATURE_LEVEL if catalog is None else catalog.level

    def addresses(self) -> dict[NodeId, tuple[str, str]]:
        """Name and address of every member, as the catalog has them."""
        catalog = self._last_known()
        if catalog is None:
            return {}
        return {member.identity: (member.name, member.address) for member in catalog.members()}

    def contacts(self) -> tuple[Contact, ...]:
        """All members, this node included; none while it has no catalog."""
        catalog = self.catalog
        if catalog is None:
            return ()
        return tuple(Contact(one.address, one.name, one.identity) for one in catalog.members())

    def name_of(self, identity: NodeId | None) -> str:
        """The name of a member; empty when there is none."""
        return self.addresses().get(identity or 0, ("", ""))[0]

    def leader_of(self, group: GroupId) -> NodeId | None:
        """The node that leads a group, as far as this one knows."""
        replica = self._replicas.get(group)
        if replica is None or replica.consensus.leader is None:
            return None
        return replica.identity_of(replica.consensus.leader)

    def leaders(self) -> tuple[NodeId | None, ...]:
        """The nodes that lead the groups held here, in the order of the groups."""
        return tuple(map(self.leader_of, sorted(self._replicas)))

    def leader_address(self, group: GroupId) -> str:
        """Where the leader of a group listens; empty when unknown."""
        return self.addresses().get(self.leader_of(group) or 0, ("", ""))[1]
