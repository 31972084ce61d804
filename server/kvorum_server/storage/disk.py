"""What the write-ahead log needs of a file system, small enough to have a simulated twin.

The contract is that of POSIX and no better. Written bytes survive a crash only after ``sync`` of
their file returned; a created, renamed or removed name survives only after ``sync_directory``.
After a crash an unsynced write may be there in full, in part (torn at any byte) or not at all. A
failed ``sync`` says nothing about what is on disk and must never be retried: the process stops
(PITFALLS "durability").
"""

from typing import Protocol


class DiskFull(OSError):
    """No space left: the caller refuses new work and goes on serving what frees space."""


class DiskFile(Protocol):
    """An open file of the log's directory. Offsets and sizes are bytes."""

    def write(self, offset: int, data: bytes) -> None:
        """Writes all of ``data`` at ``offset``; not durable yet."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer only at the end of the file."""
        ...

    def sync(self) -> None:
        """Makes all writes of this file durable (fdatasync). Releases the GIL."""
        ...

    def size(self) -> int:
        """Length of the file."""
        ...

    def close(self) -> None:
        """Releases the file; does not sync."""
        ...


class LogDirectory(Protocol):
    """As much of a disk as reading a log takes."""

    def open(self, name: str) -> DiskFile:
        """An existing file; FileNotFoundError when there is none."""
        ...

    def names(self) -> list[str]:
        """All file names, sorted."""
        ...


class Disk(Protocol):
    """One directory, flat: names have no slash."""

    def create(self, name: str, size: int) -> DiskFile:
        """A new file of ``size`` zero bytes, blocks allocated.

        DiskFull when there is no room: then no file is left. FileExistsError for a taken name.
        """
        ...

    def open(self, name: str) -> DiskFile:
        """An existing file; FileNotFoundError when there is none."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Replaces ``new`` if it exists."""
        ...

    def remove(self, name: str) -> None:
        """FileNotFoundError when there is none."""
        ...

    def names(self) -> list[str]:
        """All file names, sorted."""
        ...

    def sync_directory(self) -> None:
        """Makes created, renamed and removed names durable."""
        ...

    def free_bytes(self) -> int:
        """Space that new files could take."""
        ...
