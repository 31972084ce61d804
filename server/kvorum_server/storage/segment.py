"""The bytes of one segment file: writes made of frames, built and found again.

``wal.py`` tells what they are for; in short, a segment is a *prefix*, then one write after the
other, then zeros. A *write* is all or nothing: a claim frame that knows the length of the whole,
then one frame per record. Integers are little-endian::

    prefix (32)   b"kvorumwl", format number (4), segment number (8), size of the file (8),
                  CRC-32C of those 28 bytes (4); magic, format and checksum stay in every format
    frame (24+)   CRC-32C (4), body length (4), kind (1), zero (3), group (4), replica (8), body
    claim body    segment (8) and offset (8) that were durable before this write, its length (8)
    start body    where the writes of the segment before this one end (8); 0 in the first segment

The first write of a segment is a start frame and the live state of the log at that point.

The checksum of a frame covers the segment number and the offset of the frame as well as all that
follows it, so a frame that the disk put elsewhere, or that an older file left behind, is none.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from google_crc32c import extend

from kvorum_server.storage.disk import DiskFile
from kvorum_server.storage.errors import CorruptRecord, NewerFormat
from kvorum_server.storage.log_state import LogState
from kvorum_server.storage.record import Frame, RecordKind

FORMAT = 2
"""Raised with every change of what a segment may hold; a program refuses what is newer than it."""

SUFFIX = ".wal"
PREFIX_BYTES = 32

_MAGIC = b"kvorumwl"
_PREFIX = struct.Struct("<8sIQQ")
_CRC = struct.Struct("<I")
_SEALED = struct.Struct("<QQIB3xIQ")
_PLACE_BYTES = 16
_HEAD = struct.Struct("<IIB3xIQ")
_START = struct.Struct("<Q")
_CLAIM = struct.Struct("<QQQ")
_CLAIM_FRAME_BYTES = _HEAD.size + _CLAIM.size
# What all claim frames have in common, from their fifth byte: how a search finds them.
_CLAIM_PATTERN = _HEAD.pack(0, _CLAIM.size, RecordKind.CLAIM, 0, 0)[_CRC.size :]


class Position(NamedTuple):
    """A place in the log; positions compare in log order."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class WholeWrite:
    """A write whose every frame is intact. ``end`` is the offset after it."""

    claim: Position
    frames: list[Frame]
    end: int


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A segment as the log holds it."""

    number: int
    file: DiskFile
    size_bytes: int

    @property
    def name(self) -> str:
        """Its name in the directory of the log."""
        return segment_name(self.number)


def segment_name(number: int) -> str:
    """
    >>> segment_name(3)
    '0000000000000003.wal'
    """
    return f"{number:016d}{SUFFIX}"


def segment_number(name: str) -> int | None:
    """The number in a segment's name; None for the name of anything else."""
    stem = name.removesuffix(SUFFIX)
    if stem == name or len(stem) != 16 or not (stem.isascii() and stem.isdigit()):
        return None
    return int(stem)


def encode_prefix(number: int, size_bytes: int, *, version: int = FORMAT) -> bytes:
    """The first bytes of a segment, written before its file gets its name."""
    start = _PREFIX.pack(_MAGIC, version, number, size_bytes)
    return start + _CRC.pack(extend(0, start))


def check_prefix(data: bytes, number: int) -> None:
    """Raises CorruptRecord for a file that is not this segment in its full size.

    Raises NewerFormat when it is one of a later format.
    """
    start, checksum = data[: _PREFIX.size], data[_PREFIX.size : PREFIX_BYTES]
    if checksum != _CRC.pack(extend(0, start)) or not start.startswith(_MAGIC):
        raise CorruptRecord("the file does not begin as a segment")
    _, version, found_number, size_bytes = _PREFIX.unpack(start)
    if version > FORMAT:
        raise NewerFormat(segment_name(number), version, FORMAT)
    if (found_number, size_bytes) != (number, len(data)):
        raise CorruptRecord(
            f"the file is segment {found_number} of {size_bytes} bytes by its beginning, "
            f"but has {len(data)} bytes"
        )


def write_bytes(frames: Sequence[Frame]) -> int:
    """Length of the write that these frames make."""
    return _CLAIM_FRAME_BYTES + sum(_HEAD.size + len(body) for _, _, _, body in frames)


def encode_write(at: Position, claim: Position, frames: Sequence[Frame]) -> bytes:
    """The bytes of a write that begins at ``at``."""
    number, offset = at
    parts: list[bytes] = []
    claim_body = _CLAIM.pack(*claim, write_bytes(frames))
    for kind, group, replica, body in ((RecordKind.CLAIM, 0, 0, claim_body), *frames):
        sealed = _SEALED.pack(number, offset, len(body), kind, group, replica)
        parts.append(_CRC.pack(extend(extend(0, sealed), body)))
        parts.append(sealed[_PLACE_BYTES:])
        parts.append(body)
        offset += _HEAD.size + len(body)
    return b"".join(parts)


def _frame_at(data: bytes, number: int, offset: int, end: int) -> Frame | None:
    """The frame at an offset when it is intact and ends at or before ``end``."""
    if offset + _HEAD.size > end:
        return None
    checksum, size, kind, group, replica = _HEAD.unpack_from(data, offset)
    start = offset + _HEAD.size
    if start + size > end:
        return None
    body = data[start : start + size]
    sealed = _SEALED.pack(number, offset, size, kind, group, replica)
    # The three zero bytes are in the checksum as zeros: other ones must not pass for them.
    if data[offset + _CRC.size : start] != sealed[_PLACE_BYTES:]:
        return None
    return (kind, group, replica, body) if checksum == extend(extend(0, sealed), body) else None


def write_at(data: bytes, number: int, offset: int) -> WholeWrite | None:
    """The write at an offset of segment ``number``; None when it is not there, whole and intact."""
    claim = _claim_at(data, number, offset)
    if claim is None:
        return None
    durable, size = claim
    end = offset + size
    if end > len(data):
        return None
    frames: list[Frame] = []
    offset += _CLAIM_FRAME_BYTES
    while offset < end:
        frame = _frame_at(data, number, offset, end)
        if frame is None:
            return None
        frames.append(frame)
        offset += _HEAD.size + len(frame[3])
    return WholeWrite(durable, frames, end) if offset == end else None


def _claim_at(data: bytes, number: int, offset: int) -> tuple[Position, int] | None:
    frame = _frame_at(data, number, offset, min(len(data), offset + _CLAIM_FRAME_BYTES))
    if frame is None or frame[0] != RecordKind.CLAIM or len(frame[3]) != _CLAIM.size:
        return None
    segment, durable, size = _CLAIM.unpack(frame[3])
    return Position(segment, durable), size


def claims_from(data: bytes, number: int, offset: int) -> Iterator[Position]:
    """Every claim that can still be read at or after ``offset``, whatever lies between."""
    found = data.find(_CLAIM_PATTERN, offset + _CRC.size)
    while found >= 0:
        claim = _claim_at(data, number, found - _CRC.size)
        if claim is not None:
            yield claim[0]
        found = data.find(_CLAIM_PATTERN, found + 1)


def start_frames(previous_end: int, state: LogState) -> list[Frame]:
    """What the first write of a segment says."""
    return [(RecordKind.SEGMENT_START, 0, 0, _START.pack(previous_end)), *state.frames()]


def decode_start(frames: Sequence[Frame]) -> tuple[int, LogState]:
    """The inverse of :func:`start_frames`; raises CorruptRecord."""
    if not frames or frames[0][0] != RecordKind.SEGMENT_START or len(frames[0][3]) != _START.size:
        raise CorruptRecord("the first write of the segment does not start one")
    (previous_end,) = _START.unpack(frames[0][3])
    return previous_end, LogState.from_frames(frames[1:])
