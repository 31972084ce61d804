"""What clients are told first: the cluster's id, who this node is, and where to ask for what.

The greeting is looked at once a tick and made anew only when something in it changed: the catalog,
or who leads a group. Its partition table then gets the next version, which every reply frame
carries, so that clients know when theirs is old. Versions count per process: they say "newer", not
what.
"""

from kvorum_proto.kv_pb2 import Partition, PartitionTable, ServerHello
from kvorum_server.host import Host
from kvorum_server.rpc.services import WIRE_VERSION
from kvorum_server.types import CATALOG_GROUP, NodeId

TOKENS = 1 << 64


class Greeting:
    """The present greeting of one node."""

    def __init__(self, host: Host, name: str) -> None:
        self._host = host
        self._name = name
        self._known: tuple[tuple[int, int], tuple[NodeId | None, ...]] | None = None
        self.hello = ServerHello()
        self.refresh()

    def refresh(self) -> bool:
        """Brings the greeting up to date; whether anything changed."""
        host = self._host
        bootstrap = host.bootstrap
        if bootstrap is None:
            return False
        catalog = host.replicas.get(CATALOG_GROUP)
        known = (catalog.applied if catalog is not None else (0, 0), host.directory.leaders())
        if known == self._known:
            return False
        self._known = known
        count = bootstrap.partitions
        width = TOKENS // count
        table = PartitionTable(
            version=self.hello.table.version + 1,
            partitions=[
                Partition(
                    group=number + 1,
                    token_first=number * width,
                    token_last=TOKENS - 1 if number == count - 1 else (number + 1) * width - 1,
                    leader=host.directory.leader_address(number + 1),
                )
                for number in range(count)
            ],
        )
        self.hello = ServerHello(
            wire_version=WIRE_VERSION,
            cluster_id=bootstrap.cluster_id,
            member=host.identity,
            name=self._name,
            table=table,
            addresses=[address for _, address in host.directory.addresses().values()],
        )
        return True
