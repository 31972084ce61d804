"""The simulated twin of the real disk: a directory in memory that keeps exactly what it must.

It makes the contract of ``kvorum_server.storage.disk`` as unhelpful as POSIX allows. A file has
two faces: what a running process reads, and what is durable. Writes since the last ``sync`` of the
file and changes of names since the last ``sync_directory`` are kept aside, and ``crash`` decides
by its random source what becomes of each: it happened, it did not, or only pieces of it did, torn
at any byte and in any order. Even the length of a file is only as durable as its last sync.

Faults are ordered from outside. ``capacity_bytes`` fills the disk. ``interrupt`` is asked before
every operation and may raise in its place: an OSError is what a broken device reports, and
:class:`Killed` ends the process right there, in the middle of whatever it was doing. A write that
is interrupted has happened up to some byte. A sync that fails forgets, like Linux, that the pages
were dirty: the next one succeeds and writes nothing, and what processes see of these pages may be
the old content. ``fail_next_sync`` is the short form for tests; there, processes go on to see the
new content. ``flip`` turns one bit of what is stored; ``damaged`` tells whether a flipped file is
still there; ``copy`` is what a backup of the machine would hold; ``open_files`` counts what was
opened since the last crash and not closed. Everything is a function of the random source given.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from kvorum_server.storage.disk import DiskFull

Interrupt = Callable[[str], None]
"""Asked with the name of an operation that is about to happen; raises what is to happen instead."""


class Killed(Exception):
    """The process ends in the middle of what it was doing; with ``power_loss`` the machine does."""

    def __init__(self, *, power_loss: bool) -> None:
        super().__init__("power loss" if power_loss else "kill -9")
        self.power_loss = power_loss


@dataclass(slots=True, eq=False)
class _Node:
    """A file behind its names: both faces and what happened between them."""

    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes]] = field(default_factory=list)
    flipped: bool = False

    def evict(self, random: Random) -> None:
        """The pages of a failed sync count as clean: each may be read again from the medium."""
        for offset, data in self.unsynced:
            if random.random() < 0.5:
                old = bytes(self.durable[offset : offset + len(data)])
                _put(self.content, offset, old.ljust(len(data), b"\0"))
        self.unsynced.clear()


@dataclass(frozen=True, slots=True)
class _NameChange:
    """``target`` gets the file; ``source``, when there is one, loses it. No file: a removal."""

    target: str
    node: _Node | None
    source: str | None = None

    def apply(self, names: dict[str, _Node]) -> None:
        if self.source is not None:
            names.pop(self.source, None)
        if self.node is None:
            names.pop(self.target, None)
        else:
            names[self.target] = self.node


class SimulatedFile:
    """An open file; of no use after the crash of its disk."""

    def __init__(self, disk: "SimulatedDisk", node: _Node) -> None:
        self._disk = disk
        self._node = node
        self._generation = disk.generation
        self._closed = False
        disk.open_files += 1

    def write(self, offset: int, data: bytes) -> None:
        """Visible at once, durable after ``sync``."""
        self._check_open()
        try:
            self._disk.interrupt("write")
        except Exception:
            self._put(offset, data[: self._disk.random.randrange(len(data) + 1)])
            raise
        self._put(offset, data)

    def _put(self, offset: int, data: bytes) -> None:
        _put(self._node.content, offset, data)
        self._node.unsynced.append((offset, bytes(data)))

    def read(self, offset: int, size: int) -> bytes:
        """What a process sees, durable or not."""
        self._check_open()
        self._disk.interrupt("read")
        return bytes(self._node.content[offset : offset + size])

    def sync(self) -> None:
        """Makes the visible content durable, or fails and forgets what it had to do."""
        self._check_open()
        if self._disk.fail_next_sync:
            self._node.unsynced.clear()
        try:
            self._disk.before_sync("sync")
        except OSError:
            self._node.evict(self._disk.random)
            raise
        for offset, data in self._node.unsynced:
            _put(self._node.durable, offset, data)
        self._node.unsynced.clear()

    def size(self) -> int:
        """Length that a process sees."""
        self._check_open()
        return len(self._node.content)

    def close(self) -> None:
        """Idempotent, like the real one; a file may also be closed after a crash."""
        if not self._closed and self._generation == self._disk.generation:
            self._disk.open_files -= 1
        self._closed = True

    def _check_open(self) -> None:
        assert not self._closed, "use of a closed file"
        assert self._generation == self._disk.generation, "use of a file from before the crash"


class SimulatedDisk:
    """A directory of a machine that can crash.

    >>> disk = SimulatedDisk(Random(1))
    >>> file = disk.create("a", 4)
    >>> file.write(0, b"kept"); file.sync(); disk.sync_directory()
    >>> disk.crash()
    >>> disk.open("a").read(0, 4)
    b'kept'
    """

    def __init__(self, random: Random, capacity_bytes: int = 1 << 40) -> None:
        self.random = random
        self.capacity_bytes = capacity_bytes
        self.fail_next_sync = False
        self.generation = 0
        self.syncs = 0
        self.open_files = 0
        self.interrupt: Interrupt = _let_it_happen
        self._names: dict[str, _Node] = {}
        self._durable_names: dict[str, _Node] = {}
        self._changes: list[_NameChange] = []

    def create(self, name: str, size: int) -> SimulatedFile:
        """A new file of zeros; DiskFull leaves no file behind."""
        if name in self._names:
            raise FileExistsError(errno.EEXIST, "the file exists", name)
        self.interrupt("create")
        if self.free_bytes() < size:
            raise DiskFull(errno.ENOSPC, "simulated full disk", name)
        node = _Node(bytearray(size))
        node.unsynced.append((0, bytes(size)))
        self._change(_NameChange(name, node))
        return SimulatedFile(self, node)

    def open(self, name: str) -> SimulatedFile:
        """An existing file."""
        return SimulatedFile(self, self._named(name))

    def rename(self, old: str, new: str) -> None:
        """Replaces ``new``; in a crash the whole step happens or none of it."""
        self.interrupt("rename")
        self._change(_NameChange(new, self._named(old), old))

    def remove(self, name: str) -> None:
        """Takes the name away; open files stay usable."""
        self._named(name)
        self.interrupt("remove")
        self._change(_NameChange(name, None))

    def names(self) -> list[str]:
        """All names that a process sees, sorted."""
        return sorted(self._names)

    def sync_directory(self) -> None:
        """Makes the visible names durable."""
        self.before_sync("sync directory")
        self._durable_names = dict(self._names)
        self._changes.clear()

    def before_sync(self, operation: str) -> None:
        """Raises what the next sync is to end with instead of doing its work."""
        self.syncs += 1
        if self.fail_next_sync:
            self.fail_next_sync = False
            raise OSError(errno.EIO, "simulated sync failure")
        self.interrupt(operation)

    def free_bytes(self) -> int:
        """Capacity minus the visible files."""
        return self.capacity_bytes - sum(len(node.content) for node in self._names.values())

    def crash(self) -> None:
        """The power fails and comes back: unsynced changes survive, vanish or tear, at random."""
        survivors = dict(self._durable_names)
        for change in self._changes:
            if self.random.random() < 0.5:
                change.apply(survivors)
        # A file may have two names or none left; each one's fate is drawn once, in a fixed order.
        for node in dict.fromkeys([*survivors.values(), *self._names.values()]):
            for offset, data in node.unsynced:
                for start, end in self._surviving_pieces(len(data)):
                    _put(node.durable, offset + start, data[start:end])
            node.unsynced.clear()
            node.content = bytearray(node.durable)
        self._names = survivors
        self._durable_names = dict(survivors)
        self._changes.clear()
        self.fail_next_sync = False
        self.generation += 1
        self.open_files = 0

    def flip(self, name: str, offset: int, bit: int = 0) -> None:
        """Turns one bit of a file, for readers and on the medium."""
        node = self._named(name)
        node.flipped = True
        for face in (node.content, node.durable):
            if offset < len(face):
                face[offset] ^= 1 << bit

    @property
    def damaged(self) -> bool:
        """Whether a file that was flipped has still its name."""
        return any(node.flipped for node in self._names.values())

    def durable(self) -> dict[str, bytes]:
        """What is on the medium for sure, file by file."""
        return {name: bytes(node.durable) for name, node in sorted(self._durable_names.items())}

    def copy(self, random: Random) -> "SimulatedDisk":
        """A disk of its own with what this one holds durably: the machine as a backup keeps it."""
        twin = SimulatedDisk(random, self.capacity_bytes)
        for name, content in self.durable().items():
            node = _Node(bytearray(content), bytearray(content))
            twin._names[name] = twin._durable_names[name] = node
        return twin

    def _surviving_pieces(self, size: int) -> list[tuple[int, int]]:
        fate = self.random.randrange(4)
        if fate == 0 or not size:
            return []
        if fate == 1:
            return [(0, size)]
        cuts = sorted(self.random.randrange(size + 1) for _ in range(self.random.randrange(1, 4)))
        edges = [0, *cuts, size]
        pieces = list(pairwise(edges))
        if fate == 2:
            return pieces[: self.random.randrange(len(pieces))]
        return [piece for piece in pieces if self.random.random() < 0.5]

    def _change(self, change: _NameChange) -> None:
        change.apply(self._names)
        self._changes.append(change)

    def _named(self, name: str) -> _Node:
        if name not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return self._names[name]


def _let_it_happen(_: str) -> None:
    """The interrupt of a disk without faults."""


def _put(face: bytearray, offset: int, data: bytes) -> None:
    if len(face) < offset:
        face.extend(bytes(offset - len(face)))
    face[offset : offset + len(data)] = data
