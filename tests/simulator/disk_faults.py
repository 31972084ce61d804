"""What goes wrong with the disks of machines: full, failing, stuck, damaged, emptied, out of date.

Two families. A disk that is full, slow to answer or returns an error takes a process down at worst:
what was durable stays so, and the node comes back. *Damage* takes back what was durable: bits that
turn in the log, rows of the state that cannot be read, lost files of the state, an empty disk, an
old disk in place of the new one. A node that is damaged does not come back as its old self, so that
damage strikes only whom the others can be without (``Cluster.bears_the_loss_of``).

*Old disks.* A copy of a disk is recognised by its peers, which remember the latest boot of each
node that they have met, and how far it has told them that its log was durable. They remember as
long as their processes live. So a copy is brought back only while every other member runs and knows
better, and its operator ends it before any process is started that cannot know.
"""

import errno
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.wal import Position
from tests.simulator.cluster import Cluster
from tests.simulator.damage import flip_log
from tests.simulator.disk import SimulatedDisk
from tests.simulator.engine import SimulatedEngine
from tests.simulator.node import Node
from tests.simulator.rhythm import Rhythm
from tests.simulator.world import Ambush

STEPS_MAX = 30
"""An ambush strikes within so many steps of a machine."""


@dataclass(frozen=True, slots=True)
class Backup:
    """The disk of a node as it was in one of its boots."""

    boot: int
    log_end: Position
    disk: SimulatedDisk
    engine: SimulatedEngine


class DiskFaults:
    """Hurts the disks of one cluster; ``victim`` chooses a machine, ``restart`` starts it later."""

    def __init__(
        self,
        cluster: Cluster,
        rhythm: Rhythm,
        victim: Callable[[Sequence[Node]], Node],
        restart: Callable[[Node], None],
    ) -> None:
        self._cluster = cluster
        self._options = cluster.options
        self._rhythm = rhythm
        self._generator = rhythm.generator
        self._victim = victim
        self._restart = restart
        self._backups: dict[int, Backup] = {}
        self._seed = rhythm.generator.getrandbits(63)

    def start(self) -> None:
        """Begins every rhythm that the options have."""
        options = self._options
        for mean, fault in (
            (options.fill_every, self._fill),
            (options.error_every, self._fail),
            (options.stick_every, self._stick),
            (options.flip_every, self._flip),
            (options.rot_every, self._rot),
            (options.lose_state_every, self._lose_state),
            (options.wipe_every, self._wipe),
            (options.restore_every, self._restore),
            (options.restore_every and options.restore_every // 3 + 1, self._back_up),
        ):
            self._rhythm.every(mean, fault)

    def _note(self, node: Node, fault: str, what: str = "") -> None:
        self._cluster.count(fault)
        self._cluster.trace.note(node.name, what or fault)

    # --- What passes ---

    def _fill(self) -> None:
        """The disk of one machine, or of several, has no room for a while."""
        victims = [self._victim(self._cluster.machines)]
        if self._rhythm.chance(0.3):
            victims = self._cluster.machines
        self._cluster.count("disk full")
        for node in victims:
            node.fill_disk(self._generator.randrange(3 * self._options.config.segment_bytes))
        self._rhythm.later(self._options.fill_mean, lambda: self._free(victims))

    def _free(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self._cluster.trace.note(node.name, "disk space again")
            node.free_disk()

    def _fail(self) -> None:
        """One of the next operations of a disk ends in an error, be it during a start."""
        node = self._victim(self._cluster.machines)
        error = OSError(errno.EIO, "input/output error")
        if self._rhythm.chance(self._options.full_errors):
            error = DiskFull(errno.ENOSPC, "no space left")
        node.ambush = Ambush(self._generator.randrange(STEPS_MAX), error)

    def _stick(self) -> None:
        node = self._victim(self._cluster.machines)
        self._cluster.count("disk stuck")
        node.stick_disk(self._rhythm.wait(self._options.stick_mean))

    # --- Damage ---

    def _damageable(self) -> list[Node]:
        """Members whose loss the others can bear now; none when they cannot bear any."""
        return [
            node
            for node in self._cluster.members
            if node.host is not None
            and node.host.is_certified
            and not node.is_spoiled
            and self._cluster.bears_the_loss_of(node)
        ]

    def _flip(self) -> None:
        candidates = self._damageable()
        if candidates:
            node = self._victim(candidates)
            where = flip_log(node.disk, self._generator)
            if where:
                self._note(node, "bit of the log flipped", f"bit flipped in {where}")

    def _rot(self) -> None:
        candidates = self._damageable()
        if candidates:
            node = self._victim(candidates)
            node.engine.rot(self._generator.randrange(1, 10))
            self._note(node, "rows of the state rotten")

    def _lose_state(self) -> None:
        """Files of the engine are gone when the machine comes back, or older ones are there."""
        candidates = self._damageable()
        if not candidates:
            return
        node = self._victim(candidates)
        self._note(node, "files of the state lost")
        node.crash(power_loss=self._rhythm.chance(0.5))
        node.state_is_lost = True
        node.engine.lose()
        self._cluster.connections.links_changed()
        self._restart(node)

    def _wipe(self) -> None:
        """A machine comes back with an empty disk: with another identity, and nobody's member."""
        candidates = self._damageable()
        if not candidates:
            return
        node = self._victim(candidates)
        self._note(node, "disk lost")
        node.crash(power_loss=True)
        node.lost = "its disk was lost"
        newcomer = self._cluster.add_node(node.name, self._cluster.new_identity())
        self._cluster.connections.links_changed()
        self._restart(newcomer)

    # --- Old disks ---

    def _back_up(self) -> None:
        """Somebody copies the disk of a machine, and sometimes files of the engine only."""
        running = [node for node in self._cluster.members if node.host is not None]
        if not running:
            return
        node = self._generator.choice(running)
        assert node.host is not None
        node.engine.remember()
        if not node.is_spoiled:
            self._seed += 1
            self._backups[node.number] = Backup(
                node.host.boot,
                node.log_end,
                node.disk.copy(random.Random(self._seed)),
                node.engine.copy(random.Random(self._seed)),
            )

    def _restore(self) -> None:
        """An old disk comes back in place of the present one, or beside it on another machine."""
        beside = self._rhythm.chance(0.4)
        candidates = [node for node in self._cluster.members if self._is_known_better(node)]
        if not beside:
            candidates = [node for node in self._damageable() if node in candidates]
        if not candidates:
            return
        node = self._generator.choice(candidates)
        backup = self._backups.pop(node.number)
        if beside:
            self._note(node, "second process on an old copy of a disk")
        else:
            self._note(node, "old disk in place of the present one")
            node.crash(power_loss=True)
            node.lost = "its disk was exchanged for an old one"
        copy = self._cluster.add_node(node.name, node.identity, is_copy=True)
        copy.disk, copy.engine = backup.disk, backup.engine
        copy.start()
        for peer in self._cluster.members:
            if copy.alive and peer is not node:
                self._cluster.connections.introduce(copy, peer)
        if copy.alive:
            # All have refused it, but it remembers more members than there are. Who starts anew
            # would not know what it has forgotten: that is outside of what is promised.
            copy.crash(power_loss=False)
            copy.lost = "sent away by every member"

    def _is_known_better(self, node: Node) -> bool:
        """Whether all peers know of more than the copy of the node has."""
        backup = self._backups.get(node.number)
        if backup is None or node.host is None or not node.host.is_certified:
            return False
        peers = [peer for peer in self._cluster.members if peer is not node]
        return bool(peers) and all(
            peer.alive
            and (hello := peer.hellos.get(node.identity)) is not None
            and (hello.boot > backup.boot or peer.reached[node.identity] > backup.log_end)
            for peer in peers
        )
