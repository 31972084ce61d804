"""Agreement on a log: the contract (``core``), its building blocks, and the protocols that keep it.

A protocol is chosen by its name in ``PROTOCOLS`` and nowhere else; what it is called stands in the
birth certificate of the cluster.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from kvorum_server.config import Config
from kvorum_server.consensus.core import Consensus, Randomness
from kvorum_server.consensus.raft import Raft
from kvorum_server.types import Configuration, Entry, HardState, ReplicaId


class ConsensusFactory(Protocol):
    """Makes a consensus object from what is durable; see ``Raft.__init__`` for the arguments."""

    def __call__(
        self,
        *,
        replica: ReplicaId,
        boot: int,
        config: Config,
        randomness: Randomness,
        configuration: Configuration,
        hard_state: HardState,
        log_start: tuple[int, int],
        log_start_stamp: int = 0,
        entries: Sequence[Entry] = (),
        applied: int = 0,
        rebuilding: bool = False,
    ) -> Consensus: ...


PROTOCOLS: Mapping[str, ConsensusFactory] = {"raft": Raft}

__all__ = ["PROTOCOLS", "Consensus", "ConsensusFactory"]
