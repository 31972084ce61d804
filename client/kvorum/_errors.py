"""Everything that this library raises on purpose, as one tree.

::

    KvorumError
    ├── Unavailable              nobody could serve the request in time; it was not applied
    │   ├── Busy                 the cluster sheds load
    │   ├── DiskFull             the disks of the cluster are full; deleting and reading still work
    │   └── TooStale             no replica was as fresh as the read asked for
    ├── DeadlineExceeded         time ran out; nothing was applied (also a TimeoutError)
    ├── UnknownOutcome           a write was sent and never answered: it may or may not be applied
    ├── Conflict                 compare-and-set met another value; carries the current item
    ├── InvalidRequest           the request can never succeed as it is (also a ValueError)
    │   ├── Malformed            the node could not read it: client and cluster differ in version
    │   ├── LimitExceeded        too large, too deep or too many
    │   ├── RangeTooLarge        an atomic delete_range met too many keys
    │   ├── NotAnInteger         increment of a value that is no decimal 64-bit integer
    │   └── WrongGroup           no node that could be reached holds the group of the key
    ├── OutOfBounds              increment would leave its bounds or 64 bits
    ├── Compacted                the revision is no longer kept; carries the oldest one that is
    ├── FutureRevision           the revision does not exist yet
    ├── KeyNotFound              the request needs a key that is absent
    ├── LeaseNotFound            the request names a lease that is absent
    ├── WrongCluster             every endpoint belongs to another cluster
    └── ClientClosed             the client was closed, or was inherited through a fork

Two questions decide what a caller does, and the tree answers both. *May it have been applied?*
Only after ``UnknownOutcome``; after any other error the request changed nothing. *Is it worth
asking again?* After ``Unavailable`` and ``DeadlineExceeded`` yes, later; after the rest only with
another request.

Errors of gRPC never leave this library. Each message is one line that names the thing and the
remedy. Session bookkeeping (SESSION_EXPIRED, STALE_SEQUENCE, WINDOW_EXCEEDED) and leadership
(NOT_LEADER, UNCERTAIN) are handled inside; a caller meets them, if ever, as UnknownOutcome or
Unavailable.
"""

from typing import TYPE_CHECKING

from kvorum_proto import command_pb2 as wire

if TYPE_CHECKING:
    from kvorum._types import Item


class KvorumError(Exception):
    """Root of everything that this library raises on purpose."""


class Unavailable(KvorumError):
    """No endpoint could serve the request within its deadline; it was not applied."""


class Busy(Unavailable):
    """The cluster sheds load, and did so until the deadline; send less, or later."""


class DiskFull(Unavailable):
    """The disks of the cluster are full; reading and deleting still work, writing resumes later."""


class TooStale(Unavailable):
    """No replica that could be reached was as fresh as ``max_staleness`` asked for."""


class DeadlineExceeded(KvorumError, TimeoutError):
    """Time ran out before an answer; nothing was applied."""


class UnknownOutcome(KvorumError):
    """A write was sent and never answered: read before you repeat it."""


class Conflict(KvorumError):
    """A compare-and-set met another state than the expected one.

    ``current`` is the item as it is now, None when the key is absent.
    """

    def __init__(self, message: str, current: "Item | None") -> None:
        super().__init__(message)
        self.current = current


class InvalidRequest(KvorumError, ValueError):
    """The request can never succeed as it is."""


class Malformed(InvalidRequest):
    """The node could not read the request: client and cluster differ in version."""


class LimitExceeded(InvalidRequest):
    """The request is too large, too deeply nested, or has too many operations."""


class RangeTooLarge(InvalidRequest):
    """An atomic delete_range met more keys than one command may touch."""


class NotAnInteger(InvalidRequest):
    """The value to increment is not a decimal signed 64-bit integer."""


class WrongGroup(InvalidRequest):
    """No node that could be reached holds the group of this key."""


class OutOfBounds(KvorumError):
    """An increment would leave the bounds asked for, or 64 bits; the value is unchanged."""


class Compacted(KvorumError):
    """The revision asked for is no longer kept; ``oldest_revision`` is the oldest that is."""

    def __init__(self, message: str, oldest_revision: int) -> None:
        super().__init__(message)
        self.oldest_revision = oldest_revision


class FutureRevision(KvorumError):
    """The revision asked for does not exist yet."""


class KeyNotFound(KvorumError):
    """The request needs a key that is absent."""


class LeaseNotFound(KvorumError):
    """The request names a lease that is absent."""


class WrongCluster(KvorumError):
    """Every endpoint belongs to another cluster than the one asked for."""


class ClientClosed(KvorumError):
    """The client was closed, or this process inherited it through a fork: make a new one."""


_REFUSALS: dict[int, type[KvorumError]] = {
    wire.UNSPECIFIED: KvorumError,
    wire.MALFORMED: Malformed,
    wire.LIMIT_EXCEEDED: LimitExceeded,
    wire.INVALID_REQUEST: InvalidRequest,
    wire.NOT_AN_INTEGER: NotAnInteger,
    wire.OUT_OF_BOUNDS: OutOfBounds,
    wire.RANGE_TOO_LARGE: RangeTooLarge,
    wire.FUTURE_REVISION: FutureRevision,
    wire.KEY_NOT_FOUND: KeyNotFound,
    wire.LEASE_NOT_FOUND: LeaseNotFound,
    wire.SESSION_EXPIRED: UnknownOutcome,
    wire.STALE_SEQUENCE: UnknownOutcome,
    wire.WINDOW_EXCEEDED: Busy,
    wire.WRONG_GROUP: WrongGroup,
    wire.NOT_LEADER: Unavailable,
    wire.BUSY: Busy,
    wire.UNAVAILABLE: Unavailable,
    wire.DISK_FULL: DiskFull,
    wire.TOO_STALE: TooStale,
    wire.UNCERTAIN: UnknownOutcome,
}


def from_wire(error: wire.Error) -> KvorumError:
    """The exception for a node's refusal; a code newer than this library is a plain KvorumError.

    >>> from_wire(wire.Error(code=wire.OUT_OF_BOUNDS, message="the sum is 11; maximum is 10"))
    OutOfBounds('the sum is 11; maximum is 10')
    """
    message = error.message or f"the node refused the request with error code {error.code}"
    if error.code == wire.COMPACTED:
        return Compacted(message, error.oldest_revision)
    return _REFUSALS.get(error.code, KvorumError)(message)
