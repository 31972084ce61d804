"""The real disk: one directory of a file system, locked for this process.

Files are read and written at explicit offsets with ``pread`` and ``pwrite``; no buffer of our own
lies between a record and the page cache. Three calls block for as long as the device takes and
release the GIL meanwhile: ``sync`` (fdatasync), ``sync_directory`` and ``create`` (fallocate, which
reserves the blocks at once, so that a full disk is noticed before a record is half written).

A :class:`ReadOnlyDisk` is the same directory for those who only look, ``kvorum-server verify``.

A lock file named ``LOCK`` holds an exclusive ``flock``: a second process on the directory would
write over the first one's records. The kernel gives the lock back when the process ends, however.

Left out: direct I/O (the page cache is what a restart reads from) and sub-directories.
"""

import errno
import fcntl
import os
import stat
import sys
from pathlib import Path

from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.errors import DirectoryInUse, DirectoryUnusable

LOCK_NAME = "LOCK"
_ZEROS = bytes(1 << 20)
_FULL = (errno.ENOSPC, errno.EDQUOT)


class FileOfDisk:
    """An open file, by descriptor."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, offset: int, data: bytes) -> None:
        """Writes all of ``data`` at ``offset``; not durable yet. DiskFull when there is no room."""
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                offset += written
                view = view[written:]
        except OSError as error:
            raise _translated(error) from error

    def read(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer only at the end of the file."""
        parts = []
        while size > 0:
            part = os.pread(self._descriptor, size, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    def sync(self) -> None:
        """Makes all writes of this file durable. Releases the GIL."""
        if sys.platform == "darwin":
            fcntl.fcntl(
                self._descriptor, fcntl.F_FULLFSYNC
            )  # fsync stops at the drive's cache there
        else:
            os.fdatasync(self._descriptor)

    def size(self) -> int:
        """Length of the file in bytes."""
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Releases the descriptor. Idempotent; does not sync."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class FileDisk:
    """A directory, made when it does not exist. Close it to let another process in.

    Raises DirectoryInUse when another FileDisk holds it, DirectoryUnusable when the operating
    system does not let us make, read or write it.
    """

    __slots__ = ("_directory", "_lock", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise DirectoryUnusable(str(path), error.strerror or str(error)) from error
        try:
            self._lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            os.close(self._directory)
            raise DirectoryUnusable(str(path), error.strerror or str(error)) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise DirectoryInUse(str(path)) from None

    def create(self, name: str, size: int) -> FileOfDisk:
        """A new file of ``size`` zero bytes, blocks allocated; DiskFull leaves no file behind."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        if self.free_bytes() < size:
            # Asked first: fallocate would take the last free block of all others before it fails.
            raise DiskFull(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        try:
            descriptor = os.open(self._path_of(name), flags, 0o600)
        except OSError as error:
            raise _translated(error) from error
        try:
            _allocate(descriptor, size)
        except OSError as error:
            os.close(descriptor)
            os.unlink(self._path_of(name))
            raise _translated(error) from error
        return FileOfDisk(descriptor)

    def open(self, name: str) -> FileOfDisk:
        """An existing file; FileNotFoundError when there is none."""
        return FileOfDisk(os.open(self._path_of(name), os.O_RDWR | os.O_CLOEXEC))

    def rename(self, old: str, new: str) -> None:
        """Replaces ``new`` if it exists; open files stay open."""
        os.replace(self._path_of(old), self._path_of(new))

    def remove(self, name: str) -> None:
        """FileNotFoundError when there is none."""
        os.unlink(self._path_of(name))

    def names(self) -> list[str]:
        """All regular files but the lock, sorted."""
        with os.scandir(self.path) as found:
            return sorted(
                item.name
                for item in found
                if item.name != LOCK_NAME and stat.S_ISREG(item.stat(follow_symlinks=False).st_mode)
            )

    def sync_directory(self) -> None:
        """Makes created, renamed and removed names durable."""
        os.fsync(self._directory)

    def free_bytes(self) -> int:
        """Space that an unprivileged process could still fill."""
        figures = os.fstatvfs(self._directory)
        return figures.f_bavail * figures.f_frsize

    def close(self) -> None:
        """Gives the lock back."""
        os.close(self._lock)
        os.close(self._directory)

    def _path_of(self, name: str) -> Path:
        assert "/" not in name, f"a disk is flat, {name!r} is not"
        return self.path / name


class ReadOnlyDisk:
    """A directory whose log is looked at while no node runs on it: nothing in it is changed, not
    even the lock file, which is held only where one exists. Close it to let a node start.

    Raises DirectoryInUse and DirectoryUnusable.
    """

    __slots__ = ("_descriptors", "_lock", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptors: list[FileOfDisk] = []
        self._lock: int | None = None
        if not path.is_dir():
            raise DirectoryUnusable(str(path), "no such directory")
        try:
            self._lock = os.open(path / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise DirectoryInUse(str(path)) from None
        except FileNotFoundError:
            # A copy without its lock: nobody runs on it.
            return
        except OSError as error:
            self.close()
            raise DirectoryUnusable(str(path), error.strerror or str(error)) from error

    def open(self, name: str) -> FileOfDisk:
        """An existing file, for reading only; FileNotFoundError when there is none."""
        file = FileOfDisk(os.open(self.path / name, os.O_RDONLY | os.O_CLOEXEC))
        self._descriptors.append(file)
        return file

    def names(self) -> list[str]:
        """All regular files but the lock, sorted."""
        return sorted(
            found.name
            for found in self.path.iterdir()
            if found.name != LOCK_NAME and found.is_file() and not found.is_symlink()
        )

    def close(self) -> None:
        """Closes every file and gives the lock back."""
        for file in self._descriptors:
            file.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _allocate(descriptor: int, size: int) -> None:
    """Zero bytes with blocks behind them; by hand where the platform has no fallocate."""
    if sys.platform == "linux":
        if size:
            os.posix_fallocate(descriptor, 0, size)
        return
    for offset in range(0, size, len(_ZEROS)):
        os.pwrite(descriptor, _ZEROS[: size - offset], offset)


def _translated(error: OSError) -> OSError:
    if error.errno in _FULL:
        return DiskFull(error.errno, error.strerror, error.filename)
    return error
