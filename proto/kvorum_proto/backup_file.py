"""Backup files: the state of a cluster, byte by byte, for whoever writes, reads or judges one.

::

    file     = preamble  block*
    preamble = magic (8)  format (4)
    block    = kind (1)  count (4)  length (4)  payload (length)  digest (16)
    item     = key length (4)  value length (4)
               create revision (8)  mod revision (8)  version (8)  lease (8)  key  value

Integers are big-endian. Blocks come in this order: one HEADER (a ``BackupHeader``), then for each
group one GROUP (a ``BackupGroup``) and any number of ITEMS (``count`` items, in key order over all
blocks of the group), and one TRAILER (a ``BackupTrailer``) that counts what came before it.

A digest is the BLAKE2b-128 of the digest before it and of the block without its own digest; the
preamble stands in for the first. So every byte of the file is judged before it is believed, and a
block that was lost, doubled, moved, or taken from another file is found like a flipped bit. The
trailer tells a whole file from one that was cut between two blocks, and its digest, which depends
on every byte, is *the* checksum of the backup.

BLAKE2b is in the standard library, so the client, which writes the files, needs no dependency for
it; it costs a nanosecond a byte, far less than the items themselves; and it leaves no chance to
accidents where a CRC leaves one in four billion.

What is in a file is what a new cluster needs: items with their revisions. Left out on purpose are
sessions (a restored cluster must not answer for one that may still be running), old versions of
keys, and everything that belongs to nodes: the log, votes, identities. Encryption and compression
are left to the programs that do them well.

Reading raises :class:`BackupError`, never anything else, whatever the bytes are; the other errors
are those of the operating system.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO, NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from kvorum_proto.backup_pb2 import BackupCount, BackupGroup, BackupHeader, BackupTrailer

Parsed = TypeVar("Parsed", bound=Message)

FORMAT = 1
"""Raised whenever the meaning of a byte changes; a golden file in the tests guards it."""

MAGIC = b"\x93KVORUM\n"
"""No text begins like this, and a transfer as text would change it."""

DIGEST_BYTES = 16

PREAMBLE = struct.Struct(">8sI")
BLOCK_HEAD = struct.Struct(">BII")
ITEM_HEAD = struct.Struct(">IIqqqq")


class BlockKind(IntEnum):
    """What a block holds. Values are in files: never renumber."""

    HEADER = 1
    GROUP = 2
    ITEMS = 3
    TRAILER = 4


class BackupError(ValueError):
    """A file that must not be restored; ``offset`` is the byte at which that shows."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class NotABackup(BackupError):
    """The file does not even begin like a backup."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is no backup of kvorum; check the name", 0)


class NewerBackup(BackupError):
    """The file has a format that only a later program knows."""

    def __init__(self, name: str, found: int) -> None:
        super().__init__(
            f"{name} has format {found}, this program knows formats up to {FORMAT}: "
            "it was written by a newer kvorum; upgrade",
            len(MAGIC),
        )


class DamagedBackup(BackupError):
    """The file was a backup once, or part of one."""

    def __init__(self, name: str, offset: int, reason: str) -> None:
        super().__init__(
            f"{name} is damaged at byte {offset}: {reason}; take another copy of the file", offset
        )


class BackupItem(NamedTuple):
    """One key with its value and what the cluster knew of it."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int


@dataclass(frozen=True, slots=True)
class ItemsBlock:
    """Items of the group that was named last; ``offset`` is that of the first in the file."""

    name: str
    offset: int
    count: int
    payload: bytes

    def items(self) -> Iterator[BackupItem]:
        """The items, in key order. Raises DamagedBackup when the payload is no list of them."""
        payload, offset = self.payload, 0
        for _ in range(self.count):
            if offset + ITEM_HEAD.size > len(payload):
                raise DamagedBackup(self.name, self.offset + offset, "an item is cut off")
            key_bytes, value_bytes, *numbers = ITEM_HEAD.unpack_from(payload, offset)
            key_start = offset + ITEM_HEAD.size
            value_start = key_start + key_bytes
            end = value_start + value_bytes
            if end > len(payload):
                raise DamagedBackup(self.name, self.offset + offset, "an item is cut off")
            yield BackupItem(payload[key_start:value_start], payload[value_start:end], *numbers)
            offset = end
        if offset != len(payload):
            raise DamagedBackup(self.name, self.offset + offset, "bytes that are no item")


def encode_item(
    key: bytes, value: bytes, create_revision: int, mod_revision: int, version: int, lease: int
) -> bytes:
    """An item as a block of items holds it.

    >>> block = ItemsBlock("a.kvb", 0, 1, encode_item(b"k", b"v", 2, 3, 2, 0))
    >>> list(block.items())
    [BackupItem(key=b'k', value=b'v', create_revision=2, mod_revision=3, version=2, lease=0)]
    """
    head = ITEM_HEAD.pack(len(key), len(value), create_revision, mod_revision, version, lease)
    return head + key + value


def checksum_of(payload: bytes) -> bytes:
    """The digest that goes with items on their way from a node to the writer of a file."""
    return hashlib.blake2b(payload, digest_size=DIGEST_BYTES).digest()


def _chain(before: bytes, head: bytes, payload: bytes) -> bytes:
    digest = hashlib.blake2b(before, digest_size=DIGEST_BYTES)
    digest.update(head)
    digest.update(payload)
    return digest.digest()


class BackupWriter:
    """Makes a file, front to back, through ``write``; ``size_bytes`` counts what has gone out.

    >>> import io
    >>> file = io.BytesIO()
    >>> writer = BackupWriter(file.write)
    >>> writer.begin(BackupHeader(partitions=1))
    >>> writer.group(BackupGroup(group=1, revision=2))
    >>> writer.items(1, encode_item(b"k", b"v", 2, 2, 1, 0))
    >>> checksum = writer.finish()
    >>> file.seek(0)
    0
    >>> read_through(file, "a.kvb").checksum == checksum
    True
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._digest = b""
        self._counts: list[BackupCount] = []
        self.size_bytes = 0

    def begin(self, header: BackupHeader) -> None:
        """The preamble and the header, first and once."""
        assert not self.size_bytes, "a file begins once"
        preamble = PREAMBLE.pack(MAGIC, FORMAT)
        self._digest = checksum_of(preamble)
        self._write(preamble)
        self.size_bytes = len(preamble)
        self._block(BlockKind.HEADER, 0, _encoded(header))

    def group(self, group: BackupGroup) -> None:
        """From here on the items are this group's."""
        assert self.size_bytes, "the header comes first"
        self._counts.append(BackupCount(group=group.group))
        self._block(BlockKind.GROUP, 0, _encoded(group))

    def items(self, count: int, payload: bytes) -> None:
        """``count`` items, encoded, whose keys follow those before them."""
        assert self._counts, "items belong to a group"
        counts = self._counts[-1]
        counts.items += count
        counts.item_bytes += len(payload)
        self._block(BlockKind.ITEMS, count, payload)

    def finish(self) -> bytes:
        """The trailer; the checksum of the whole file."""
        self._block(BlockKind.TRAILER, 0, _encoded(BackupTrailer(counts=self._counts)))
        return self._digest

    def _block(self, kind: BlockKind, count: int, payload: bytes) -> None:
        head = BLOCK_HEAD.pack(kind, count, len(payload))
        self._digest = _chain(self._digest, head, payload)
        for part in (head, payload, self._digest):
            self._write(part)
            self.size_bytes += len(part)


class BackupReader:
    """Reads a file front to back; nothing is handed out before its digest was found right.

    Raises NotABackup, NewerBackup or DamagedBackup; ``name`` is what their messages call the file.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self.name = name
        self.size_bytes = file.seek(0, 2)
        file.seek(max(0, self.size_bytes - DIGEST_BYTES))
        self.stated_checksum = file.read(DIGEST_BYTES)
        """The checksum that the file ends with: its own once ``blocks`` has come to the end."""
        self._offset = file.seek(0)
        self._digest = self._read_preamble()
        self._counts: list[BackupCount] = []
        self.header = self._read_header()

    @property
    def offset(self) -> int:
        """How far into the file everything was found right."""
        return self._offset

    @property
    def counts(self) -> tuple[BackupCount, ...]:
        """Items and bytes of each group read so far."""
        return tuple(self._counts)

    def blocks(self) -> Iterator[BackupGroup | ItemsBlock]:
        """Everything between header and trailer, in order; ends only if the trailer agrees."""
        while True:
            start = self._offset
            kind, count, payload = self._read_block()
            match kind:
                case BlockKind.GROUP:
                    group = self._parsed(BackupGroup, payload, start)
                    if self._counts and group.group <= self._counts[-1].group:
                        raise self._damaged(start, f"group {group.group} is out of order")
                    self._counts.append(BackupCount(group=group.group))
                    yield group
                case BlockKind.ITEMS if self._counts:
                    self._counts[-1].items += count
                    self._counts[-1].item_bytes += len(payload)
                    yield ItemsBlock(self.name, start + BLOCK_HEAD.size, count, payload)
                case BlockKind.TRAILER:
                    return self._end(start, self._parsed(BackupTrailer, payload, start))
                case _:
                    raise self._damaged(start, f"a block of kind {kind} is out of place")

    def _read_preamble(self) -> bytes:
        preamble = self._file.read(PREAMBLE.size)
        if not preamble.startswith(MAGIC):
            raise NotABackup(self.name)
        if len(preamble) < PREAMBLE.size:
            raise self._damaged(len(preamble), "the file ends here")
        _, found = PREAMBLE.unpack(preamble)
        if found > FORMAT:
            raise NewerBackup(self.name, found)
        if found < FORMAT:
            raise self._damaged(len(MAGIC), f"there was never a format {found}")
        self._offset = len(preamble)
        return checksum_of(preamble)

    def _read_header(self) -> BackupHeader:
        start = self._offset
        kind, _, payload = self._read_block()
        if kind != BlockKind.HEADER:
            raise self._damaged(start, f"a block of kind {kind} stands where the header should")
        return self._parsed(BackupHeader, payload, start)

    def _read_block(self) -> tuple[int, int, bytes]:
        """Kind, count and payload of the next block, once its digest was found right."""
        start = self._offset
        left = self.size_bytes - start
        if left == 0:
            raise self._damaged(start, "the file ends here, before its trailer")
        head = self._file.read(BLOCK_HEAD.size)
        if len(head) < BLOCK_HEAD.size:
            raise self._damaged(start, "the file ends within the block that begins here")
        kind, count, length = BLOCK_HEAD.unpack(head)
        if left < BLOCK_HEAD.size + length + DIGEST_BYTES:
            raise self._damaged(start, "the file ends within the block that begins here")
        payload = self._file.read(length)
        digest = self._file.read(DIGEST_BYTES)
        expected = _chain(self._digest, head, payload)
        if digest != expected:
            raise self._damaged(start, "the block that begins here does not have its checksum")
        self._digest = digest
        self._offset = start + BLOCK_HEAD.size + length + DIGEST_BYTES
        return kind, count, payload

    def _end(self, start: int, trailer: BackupTrailer) -> None:
        if list(trailer.counts) != self._counts:
            raise self._damaged(start, "the trailer counts other items than there are")
        if self._offset != self.size_bytes:
            more = self.size_bytes - self._offset
            raise self._damaged(self._offset, f"{more} bytes follow the end")

    def _parsed(self, kind: type[Parsed], payload: bytes, start: int) -> Parsed:
        try:
            return kind.FromString(payload)
        except DecodeError:
            raise self._damaged(start, f"no {kind.__name__} in its block") from None

    def _damaged(self, offset: int, reason: str) -> DamagedBackup:
        return DamagedBackup(self.name, offset, reason)


@dataclass(frozen=True, slots=True)
class BackupContents:
    """What a whole and undamaged file holds, its items aside."""

    header: BackupHeader
    groups: tuple[tuple[BackupGroup, BackupCount], ...]
    checksum: bytes
    size_bytes: int

    @property
    def items(self) -> int:
        """Items of all groups."""
        return sum(count.items for _, count in self.groups)


def read_through(
    file: BinaryIO, name: str, progress: Callable[[BackupReader], None] | None = None
) -> BackupContents:
    """Judges every byte of a file; ``progress`` is called after each block.

    Raises NotABackup, NewerBackup or DamagedBackup.
    """
    reader = BackupReader(file, name)
    groups = []
    for block in reader.blocks():
        if isinstance(block, BackupGroup):
            groups.append(block)
        if progress is not None:
            progress(reader)
    counted = tuple(zip(groups, reader.counts, strict=True))
    return BackupContents(reader.header, counted, reader.stated_checksum, reader.size_bytes)


def _encoded(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)
