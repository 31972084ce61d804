"""Small disks for nodes, which can be filled up and freed: a tmpfs mounted as data directory.

A tmpfs gives real errors: when it is full a write fails with ENOSPC in the node's own process, in
whatever part of it happens to write. The file that fills a disk is called ``ballast``; it lies
beside the node's own files, as if somebody had copied something large to the wrong place.
"""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

BALLAST = "ballast"
BLOCK_BYTES = 1 << 20


class Disk:
    """One mounted tmpfs. ``name`` stands in the table of mounts and says whose it is."""

    def __init__(self, directory: Path, name: str, size_bytes: int) -> None:
        self.directory = directory
        self._name = name
        self._size_bytes = size_bytes

    def mount(self) -> None:
        """Makes the directory if need be, and the disk."""
        self.directory.mkdir(parents=True, exist_ok=True)
        size = f"size={self._size_bytes}"
        command = ["mount", "-t", "tmpfs", "-o", size, self._name, str(self.directory)]
        subprocess.run(command, check=True, capture_output=True)

    def unmount(self) -> None:
        """Takes the disk away, with all that is on it."""
        command = ["umount", "--lazy", str(self.directory)]
        subprocess.run(command, check=False, capture_output=True)

    @property
    def free_bytes(self) -> int:
        """What is left."""
        return shutil.disk_usage(self.directory).free

    def fill(self, leave_bytes: int) -> None:
        """Takes all space but so much; 0: to the last byte."""
        with (self.directory / BALLAST).open("ab", buffering=0) as file:
            while (room := self.free_bytes - leave_bytes) > 0:
                with contextlib.suppress(OSError):
                    file.write(bytes(min(room, BLOCK_BYTES)))
                    continue
                return

    def free(self) -> None:
        """Gives the space back."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.directory / BALLAST)
