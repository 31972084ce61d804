"""What can be wrong with a data directory, as one tree of errors, each with a one-line message.

::

    StorageError
    ├── DirectoryInUse        another process holds the lock of the directory
    ├── DirectoryUnusable     it cannot be made, read or written
    ├── NoRoom                the disk is too full to start
    ├── CorruptRecord         bytes that are not a record of the write-ahead log
    ├── NewerFormat           written by a kvorum that knows more than this one
    ├── WalDamage             the log lost something that it had promised to keep
    ├── DiskFailure           a write or sync failed: nobody knows what is on disk
    ├── EngineDamage          the rows of the state cannot be read or written any more
    ├── StateDamaged          the state holds less than a durable checkpoint says
    └── StateBeyondRepair     the state is damaged and there is nobody to get it from

None of them is retried and none is a bug: the node stops and prints the message. ``DiskFull`` is
not here, because it is an expected refusal that a running node lives with (see ``disk.py``).
"""

REMEDY = (
    "nothing was changed; start the node with --join and addresses of other members, or restore a "
    "backup; `kvorum-server verify` tells more"
)


ROT = ("Corruption", "No such file", "no format number", "was found damaged")
"""What RocksDB, or the engine, says when files are rotten or missing."""


class StorageError(Exception):
    """Root of the tree: this node cannot go on with this directory or this disk."""


class DirectoryInUse(StorageError):
    """A second process on one data directory would write over the first one's records."""

    def __init__(self, directory: str) -> None:
        super().__init__(
            f"{directory} is in use by another kvorum-server; "
            "stop it or give this node a --data of its own"
        )
        self.directory = directory


class DirectoryUnusable(StorageError):
    """The operating system refuses the data directory."""

    def __init__(self, directory: str, reason: str) -> None:
        super().__init__(
            f"cannot use {directory} as data directory: {reason}; "
            "create it and make it writable for the user that runs kvorum-server"
        )
        self.directory = directory
        self.reason = reason


class NoRoom(StorageError):
    """The disk has no room for what a start has to write; a running node lives with a full disk."""

    def __init__(self, directory: str, free_bytes: int) -> None:
        super().__init__(
            f"cannot start in {directory}: its disk has {free_bytes} free bytes; free some space"
        )


class CorruptRecord(StorageError):
    """A body that is not what its kind says; the checksum did not catch it or was never asked."""


class NewerFormat(StorageError):
    """A file of a later format: opening it could only misread it."""

    def __init__(self, file: str, found: int, known: int) -> None:
        super().__init__(
            f"{file} has format {found}, this program knows formats up to {known}: "
            "it was written by a newer kvorum; upgrade"
        )
        self.file = file
        self.found = found


class WalDamage(StorageError):
    """Something below the durable end of the write-ahead log is gone, or not the same any more.

    ``offset`` is where in ``file`` the first unreadable write begins.
    """

    def __init__(self, file: str, offset: int, reason: str) -> None:
        self.found = f"{file} at byte {offset}: {reason}"
        """What and where, without a remedy."""
        super().__init__(f"write-ahead log damaged: {self.found}; {REMEDY}")
        self.file = file
        self.offset = offset
        self.reason = reason


class DiskFailure(StorageError):
    """A write or sync of the log failed. What is on disk is unknown: the process ends, no retry."""

    def __init__(self, action: str, reason: str) -> None:
        super().__init__(f"cannot {action} the write-ahead log: {reason}; the node stops")


class EngineDamage(StorageError):
    """A read found rotten bytes, or a write or flush failed: do not trust the table of rows."""

    def __init__(self, action: str, directory: str, reason: str) -> None:
        super().__init__(f"cannot {action} the state in {directory}: {reason}; the node stops")
        self.directory = directory
        self.reason = reason

    @property
    def is_rot(self) -> bool:
        """Whether the rows are wrong or gone. Otherwise it is the disk that does not let us at
        them, because it is full, for instance, and moving files would help nobody.

        >>> EngineDamage("read", "state", "Corruption: block checksum mismatch").is_rot
        True
        """
        return any(sign in self.reason for sign in ROT)


class StateDamaged(StorageError):
    """The engine holds less than the write-ahead log says it must."""

    def __init__(self, group: int, found: int, expected: int) -> None:
        super().__init__(
            f"the state of group {group} ends at entry {found}, but a checkpoint at {expected} was "
            "durable: files of the engine are lost or old"
        )


class StateBeyondRepair(StorageError):
    """The state is damaged, the log does not go back to its beginning, and no peer has a copy."""

    def __init__(self, damage: StorageError, group: int) -> None:
        super().__init__(
            f"{damage}; no other voter has the state of group {group}: nothing was moved; restore "
            "a backup into an empty directory"
        )
