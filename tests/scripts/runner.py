"""Runs golden scripts: blocks of commands, a line of three dashes, and what they make happen.

    # A comment. Blocks are separated by empty lines.
    campaign 1
    deliver
    ---
    n1@1 leader: elected

``UPDATE_GOLDEN=1 pytest tests/scripts`` writes what happened into the scripts; the difference is
then read like code. Each command of :class:`Runner` is a method whose docstring is its manual: the
command ``drop from=1 to=2`` calls ``drop(from_="1", to="2")``. After the word ``quietly`` messages
are not shown, after ``silently`` nothing is.

Everything but time and deliveries happens by itself: a node is drained after each command, and its
writes are synced at once unless it is on ``hold``. Election timeouts are not random: node n waits
``election_ticks_min + n - 1`` ticks, so that a script knows who comes first.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvorum_server.config import Config
from kvorum_server.types import Configuration, Entry, EntryKind, HardState, Member, ReplicaId
from tests.scripts.cluster import Cluster, Disk, Sent, birth, span

CONFIG = Config(heartbeat_ticks=2, election_ticks_min=10, election_ticks_max=20)

ALL = frozenset({"role", "send", "lost", "commit", "read", "snapshot", "crash"})
SHOWN = {"quietly": ALL - {"send", "lost"}, "silently": frozenset[str]()}
"""What a command shows whose line begins with such a word."""


class ByReplica:
    """Randomness of which each replica gets its own number every time."""

    def __init__(self, replica: ReplicaId) -> None:
        self._replica = replica

    def randrange(self, start: int, stop: int, /) -> int:
        """``start`` for replica 1, one more for each next, round and round."""
        return start + (self._replica - 1) % (stop - start)


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of ``1,2,3``; a dash is none."""
    return tuple(int(number) for number in text.split(",") if number not in ("", "-"))


def entries_of(terms: str) -> list[Entry]:
    """A log whose entries have these terms."""
    return [
        Entry(index, term, EntryKind.COMMANDS, 0, 1, b"")
        for index, term in enumerate(numbers(terms), 1)
    ]


def configuration_of(voters: str, outgoing: str = "-", learners: str = "-") -> Configuration:
    """A configuration in which replica n lives on node 10 + n."""
    halves = numbers(voters), numbers(outgoing), numbers(learners)
    everybody = sorted({replica for half in halves for replica in half})
    members = tuple(Member(replica, 10 + replica) for replica in everybody)
    return Configuration(*halves, members, max(everybody, default=0) + 1)


class Runner:
    """One script's cluster and the verbs that move it."""

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._lines: list[str] = []
        self._shown = ALL
        self._changes = 0
        self._cluster = self._new_cluster(CONFIG)

    def run(self, line: str) -> list[str]:
        """Runs one command; what it made happen, line by line."""
        self._lines = []
        name, *words = line.split()
        self._shown = SHOWN.get(name, ALL)
        if name in SHOWN:
            name, *words = words
        arguments = [word for word in words if "=" not in word]
        options = dict(word.split("=", 1) for word in words if "=" in word)
        if "from" in options:
            options["from_"] = options.pop("from")
        verb: Callable[..., None] = getattr(self, name.replace("-", "_"))
        verb(*arguments, **options)
        for node in self._cluster.running():
            self._cluster.drain(node.replica)
        return self._lines

    def _new_cluster(self, config: Config) -> Cluster:
        return Cluster(
            config=config, randomness=ByReplica, protocol=self._protocol, tell=self._tell
        )

    def _tell(self, kind: str, line: str) -> None:
        self._changes += kind == "role"
        if kind in self._shown:
            self._lines.append(line)

    # --- Making a cluster ---

    def configure(self, **options: str) -> None:
        """``configure append_bytes_max=200``: other limits; before anything else."""
        limits: dict[str, Any] = {name: int(value) for name, value in options.items()}
        self._cluster = self._new_cluster(replace(CONFIG, **limits))

    def cluster(self, voters: str, outgoing: str = "-", learners: str = "-") -> None:
        """``cluster 1,2,3``: initial members with empty logs; ``outgoing=`` makes it joint."""
        configuration = configuration_of(voters, outgoing, learners)
        for replica in configuration.replicas():
            self._cluster.add(replica, Disk(birth(configuration)))

    def node(self, replica: str, members: str, log: str, term: str = "0", vote: str = "0") -> None:
        """``node 1 1,2,3 log=1,1,2 term=3 vote=0``: one replica with a log of these terms."""
        disk = Disk(birth(configuration_of(members)))
        disk.entries = entries_of(log)
        disk.hard_state = HardState(int(term), int(vote), 0)
        self._cluster.add(int(replica), disk)

    # --- Time and the network ---

    def tick(self, replicas: str, count: str = "1") -> None:
        """``tick 1,2 5``: time passes for some replicas, together."""
        for _ in range(int(count)):
            for replica in numbers(replicas):
                self._cluster.consensus(replica).tick()
                self._cluster.drain(replica)

    def campaign(self, replica: str) -> None:
        """``campaign 1``: time passes for one replica until its election timeout."""
        before = self._changes
        for _ in range(CONFIG.election_ticks_max):
            if self._changes == before:
                self.tick(replica)

    def _take(self, from_: str, to: str, count: str) -> list[Sent]:
        sources, targets = numbers(from_), numbers(to)
        chosen = [
            sent
            for sent in self._cluster.network
            if (not sources or sent[0] in sources) and (not targets or sent[1] in targets)
        ][: int(count) or None]
        for sent in chosen:
            self._cluster.network.remove(sent)
        return chosen

    def deliver(self, from_: str = "-", to: str = "-", count: str = "0") -> None:
        """``deliver from=1 to=2 count=1``: hands over what is on the way now, oldest first."""
        for sent in self._take(from_, to, count):
            self._cluster.deliver(sent)

    def deliver_reversed(self, from_: str = "-", to: str = "-", count: str = "0") -> None:
        """Like deliver, newest first: messages overtake each other."""
        for sent in reversed(self._take(from_, to, count)):
            self._cluster.deliver(sent)

    def duplicate(self, from_: str = "-", to: str = "-", count: str = "0") -> None:
        """Hands over what is on the way and leaves it on the way."""
        chosen = self._take(from_, to, count)
        self._cluster.network = chosen + self._cluster.network
        for sent in chosen:
            self._cluster.deliver(sent)

    def drop(self, from_: str = "-", to: str = "-", count: str = "0") -> None:
        """Loses what is on the way."""
        self._take(from_, to, count)

    def settle(self) -> None:
        """Delivers until nothing is on the way."""
        while self._cluster.network:
            self._cluster.deliver(self._cluster.network.pop(0))

    def elect(self, replica: str) -> None:
        """Campaigns and settles."""
        self.campaign(replica)
        self.settle()

    def partition(self, *sides: str) -> None:
        """``partition 1,2 3``: only replicas on one side reach each other from now on."""
        self._cluster.partition(*(set(numbers(side)) for side in sides))

    def heal(self) -> None:
        """Everybody reaches everybody."""
        self._cluster.blocked = set()

    # --- Disks ---

    def hold(self, *replicas: str) -> None:
        """``hold 1 2``: writes of these replicas wait for a sync."""
        for replica in replicas:
            self._cluster.nodes[int(replica)].held = True

    def sync(self, replica: str, count: str = "") -> None:
        """``sync 1``: what waits becomes durable; with a count, only the oldest writes."""
        self._cluster.sync(int(replica), int(count) if count else None)

    def release(self, replica: str) -> None:
        """Ends a hold and syncs."""
        self._cluster.nodes[int(replica)].held = False
        self._cluster.sync(int(replica))

    def crash(self, *replicas: str) -> None:
        """Takes replicas down; unsynced writes are lost."""
        for replica in replicas:
            self._cluster.crash(int(replica))

    def restart(self, *replicas: str) -> None:
        """Starts replicas from their disks."""
        for replica in replicas:
            self._cluster.start(int(replica))

    # --- What a caller may ask for ---

    def propose(self, replica: str, *names: str, count: str = "1", size: str = "1") -> None:
        """``propose 1 a b`` or ``propose 1 count=3 size=100``: commands on one replica."""
        consensus = self._cluster.consensus(int(replica))
        for name in names or ("x" * int(size),) * int(count):
            outcome = consensus.propose(EntryKind.COMMANDS, 1, 1, name.encode())
            if not isinstance(outcome, Entry):
                self._lines.append(f"refused: {outcome.value}")

    def reconfigure(
        self, replica: str, voters: str, outgoing: str = "-", learners: str = "-"
    ) -> None:
        """``reconfigure 1 2,3,4 outgoing=1,2,3``: a configuration entry."""
        configuration = configuration_of(voters, outgoing, learners)
        outcome = self._cluster.consensus(int(replica)).reconfigure(configuration, 1, 1)
        if not isinstance(outcome, Entry):
            self._lines.append(f"refused: {outcome.value}")

    def join(self, replica: str) -> None:
        """A replica that knows nothing comes up."""
        self._cluster.add(int(replica), Disk(birth(configuration_of("-"))))

    def read(self, replica: str, *tokens: str) -> None:
        """``read 1 7 8``: linearizable reads."""
        for token in tokens:
            if not self._cluster.consensus(int(replica)).read(int(token)):
                self._lines.append(f"read {token} refused: not leader")

    def transfer(self, replica: str, target: str) -> None:
        """``transfer 1 2``: replica 1 hands over to 2."""
        if not self._cluster.consensus(int(replica)).transfer(int(target)):
            self._lines.append("refused: impossible now")

    def farewell(self, replica: str) -> None:
        """The leader says that it stops."""
        self._cluster.consensus(int(replica)).farewell()

    def lost(self, replica: str, other: str) -> None:
        """``lost 2 1``: replica 2 notices that its connection to 1 is broken."""
        self._cluster.consensus(int(replica)).connection_lost(int(other))

    def restored(self, replica: str, other: str) -> None:
        """``restored 2 1``: replica 2 reaches 1 again."""
        self._cluster.consensus(int(replica)).connection_restored(int(other))

    def compact(self, replica: str, index: str) -> None:
        """``compact 1 5``: entries up to 5 are cut."""
        self._cluster.compact(int(replica), int(index))

    def install(self, source: str, target: str) -> None:
        """``install 1 2``: replica 2 gets a snapshot of what 1 has applied."""
        if not self._cluster.install(int(source), int(target)):
            self._lines.append("refused: not later than what is committed")

    def lose_state(self, replica: str) -> None:
        """``lose-state 2``: what replica 2 has applied is lost; its log and its vote are not."""
        self._cluster.nodes[int(replica)].lost = True
        self._cluster.consensus(int(replica)).lose_state()

    def rebuild(self, source: str, target: str) -> None:
        """``rebuild 1 2``: replica 2 has lost its state and gets what 1 has; its log stays."""
        if not self._cluster.rebuild(int(source), int(target)):
            self._lines.append("refused: the log does not go on from there")

    def snapshot_failed(self, replica: str, target: str) -> None:
        """``snapshot-failed 1 2``: the transfer from 1 to 2 broke off."""
        self._cluster.consensus(int(replica)).snapshot_failed(int(target))

    def clock(self, replica: str, now: str) -> None:
        """``clock 2 100``: the node's own time in milliseconds."""
        self._cluster.consensus(int(replica)).at(int(now))

    def disk_full(self, replica: str) -> None:
        """The node's disk is full."""
        self._cluster.consensus(int(replica)).disk_full = True

    # --- Looking ---

    def status(self, *replicas: str) -> None:
        """Role, term, vote, commit and durability of some replicas, or of all that are up."""
        for node in self._cluster.running():
            if not replicas or str(node.replica) in replicas:
                status = self._cluster.consensus(node.replica).status()
                line = (
                    f"n{status.replica}@{status.term} {status.role.value} commit={status.commit} "
                    f"durable={status.durable} log={status.first_index}..{status.last_index}"
                )
                line += f" vote=n{status.vote}" if status.vote else ""
                matched = ",".join(f"n{r}:{i}" for r, i in sorted(status.matched.items()))
                line += f" matched={matched}" if matched else ""
                line += f" fresh={status.fresh_at}" if status.fresh_at else ""
                full = ",".join(f"n{r}" for r in sorted(status.full_replicas))
                self._lines.append(line + (f" full={full}" if full else ""))

    def applied(self, *replicas: str) -> None:
        """The commands that some replicas, or all that are up, have applied: protocol-neutral."""
        for node in self._cluster.running():
            if not replicas or str(node.replica) in replicas:
                commands = [entry for entry in node.applied if entry.kind is EntryKind.COMMANDS]
                payloads = [entry.payload.decode() for entry in commands]
                self._lines.append(f"n{node.replica} applied {' '.join(payloads) or 'nothing'}")

    def log(self, *replicas: str) -> None:
        """The durable log of some replicas, or of all: index@term each."""
        for node in self._cluster.nodes.values():
            if not replicas or str(node.replica) in replicas:
                self._lines.append(f"n{node.replica} {span(node.disk.entries)}")


def run_script(text: str, protocol: str) -> str:
    """The script with what really happened in place of what was expected."""
    runner = Runner(protocol)
    blocks: list[str] = []
    for block in text.strip("\n").split("\n\n"):
        commands = block.split("\n---")[0].splitlines()
        happened: list[str] = []
        for command in commands:
            if not command.startswith("#"):
                happened += runner.run(command)
        blocks.append("\n".join([*commands, *(["---", *happened] if happened else [])]))
    return "\n\n".join(blocks) + "\n"


def protocols_of(path: Path, known: list[str]) -> list[str]:
    """The protocols that a script speaks of: those of its first line ``# only: raft``, or all."""
    first = path.read_text().split("\n", 1)[0]
    if first.startswith("# only:"):
        return first.removeprefix("# only:").split()
    return known
