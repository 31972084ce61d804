"""Admission: what a leader does with the commands of a client before they may enter the log.

Each command is parsed once, here. The leader keeps the object for its own apply and puts the
client's bytes into the entry as they are: encoded batches concatenate (see ``command.proto``).
What does not parse, what has fields that its feature level does not define, and what breaks a
limit is refused here with a typed error and never reaches the log, where it would have to be
dealt with on every replica for ever.
"""

from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from kvorum_proto.command_pb2 import (
    BUSY,
    DISK_FULL,
    MALFORMED,
    CommandBatch,
    Error,
    ErrorCode,
    Result,
    Submission,
    Txn,
)
from kvorum_server.config import Config
from kvorum_server.state_machine import StateMachine

FREEING_COMMANDS = frozenset({"delete", "delete_range", "compact", "session_open", "session_close"})
"""What a node with a full disk still admits: commands that free space, and the session of a new
client that wants to."""

DRAIN_MS = 250
"""About how long a node takes to serve all that it holds when it holds as much as it may."""

RETRY_MS_MIN, RETRY_MS_MAX = 20, 2000


@dataclass(slots=True)
class Batch:
    """The commands that become one entry, and who waits for which of them."""

    submissions: list[Submission] = field(default_factory=list)
    takers: list[tuple[int, list[int]]] = field(default_factory=list)
    """(connection, ids) in the order of the submissions."""
    encoded: list[bytes] = field(default_factory=list)
    size: int = 0
    weight: int = 0

    def payload(self) -> bytes:
        """The payload of the entry."""
        return b"".join(self.encoded)


@dataclass(slots=True)
class Admitted:
    """The outcome of admission: what may be proposed, and a typed refusal for each of the rest."""

    submissions: list[Submission]
    ids: list[int]
    encoded: bytes
    refused_ids: list[int] = field(default_factory=list)
    refusals: list[bytes] = field(default_factory=list)


def error_result(code: ErrorCode, message: str, **details: str | int) -> bytes:
    """An encoded Result that says why a request was refused."""
    error = Error(code=code, message=message, **details)  # type: ignore[arg-type]
    return Result(error=error).SerializeToString()


def retry_after_ms(backlog: float) -> int:
    """When who is refused should come back: about when the backlog is worked off.

    ``backlog`` is what has to be done first, in units of what a node holds at most.

    >>> [retry_after_ms(backlog) for backlog in (0.0, 0.5, 1.0, 3.0, 1000.0)]
    [20, 125, 250, 750, 2000]
    """
    return max(RETRY_MS_MIN, min(RETRY_MS_MAX, int(DRAIN_MS * backlog)))


def busy_result(pause_ms: int) -> bytes:
    """An encoded Result: nothing was done, try again after a while."""
    return error_result(
        BUSY, "the node has too much to do; try again shortly", retry_after_ms=pause_ms
    )


def admit(
    commands: bytes, ids: tuple[int, ...], machine: StateMachine, disk_full: bool
) -> Admitted:
    """Parses and judges an encoded CommandBatch with one id per submission."""
    try:
        batch = CommandBatch.FromString(commands)
    except DecodeError:
        return _all_malformed(ids, "the commands are no encoded CommandBatch")
    submissions = list(batch.submissions)
    if len(submissions) != len(ids):
        return _all_malformed(ids, f"{len(submissions)} commands came with {len(ids)} ids")
    refusals: dict[int, bytes] = {}
    if _has_unknown_fields(batch):
        for position, submission in enumerate(CommandBatch.FromString(commands).submissions):
            if _has_unknown_fields(submission):
                refusals[position] = error_result(
                    MALFORMED,
                    "the command has fields that this cluster's feature level does not define; "
                    "use a client of the cluster's version",
                )
        if not refusals:
            return _all_malformed(ids, "the batch has fields that are not defined")
    for position, submission in enumerate(submissions):
        error = machine.admit(submission)
        if error is not None:
            refusals.setdefault(position, Result(error=error).SerializeToString())
        elif disk_full and submission.WhichOneof("command") not in FREEING_COMMANDS:
            refusals.setdefault(
                position,
                error_result(
                    DISK_FULL,
                    "the disks of this group are full; delete keys or compact, or add disk space",
                ),
            )
    if not refusals:
        return Admitted(submissions, list(ids), commands)
    return _without(submissions, ids, refusals)


def _has_unknown_fields(message: CommandBatch | Submission) -> bool:
    """Whether anything in the message, however deep, is not in our schema; drops it if so."""
    size = message.ByteSize()
    message.DiscardUnknownFields()
    return bool(message.ByteSize() != size)


def _all_malformed(ids: tuple[int, ...], reason: str) -> Admitted:
    refusal = error_result(MALFORMED, reason)
    return Admitted([], [], b"", list(ids), [refusal] * len(ids))


def _without(
    submissions: list[Submission], ids: tuple[int, ...], refusals: dict[int, bytes]
) -> Admitted:
    kept = [position for position in range(len(ids)) if position not in refusals]
    kept_submissions = [submissions[position] for position in kept]
    encoded = CommandBatch(submissions=kept_submissions).SerializeToString()
    return Admitted(
        kept_submissions,
        [ids[position] for position in kept],
        encoded,
        [ids[position] for position in refusals],
        list(refusals.values()),
    )


class Batcher:
    """Packs the admitted commands of a turn into as few entries as the limits allow.

    An entry is applied in one piece, on every replica, while heartbeats wait. So it is not only
    the number of commands and bytes that has a limit but also their *weight*: a command that may
    touch a thousand keys counts as a thousand.
    """

    def __init__(self, config: Config) -> None:
        self._commands_max = config.entry_commands_max
        self._bytes_max = config.entry_bytes_max
        self._range_weight = config.range_keys_max
        self.batches: list[Batch] = []

    def add(self, connection: int, admitted: Admitted) -> None:
        """Queues admitted commands behind those that came before."""
        if not admitted.submissions:
            return
        weight = sum(self._weight(submission) for submission in admitted.submissions)
        self._add(connection, admitted, weight)

    def _add(self, connection: int, admitted: Admitted, weight: int) -> None:
        is_large = weight > self._commands_max or len(admitted.encoded) > self._bytes_max
        if is_large and len(admitted.submissions) > 1:
            self._add_in_parts(connection, admitted)
            return
        batch = self._batch_with_room(weight, len(admitted.encoded))
        batch.submissions += admitted.submissions
        batch.takers.append((connection, admitted.ids))
        batch.encoded.append(admitted.encoded)
        batch.size += len(admitted.encoded)
        batch.weight += weight

    def _batch_with_room(self, weight: int, size: int) -> Batch:
        if self.batches:
            batch = self.batches[-1]
            has_room = batch.weight + weight <= self._commands_max
            if has_room and batch.size + size <= self._bytes_max:
                return batch
        self.batches.append(Batch())
        return self.batches[-1]

    def _add_in_parts(self, connection: int, admitted: Admitted) -> None:
        for submission, request in zip(admitted.submissions, admitted.ids, strict=True):
            encoded = CommandBatch(submissions=[submission]).SerializeToString()
            self.add(connection, Admitted([submission], [request], encoded))

    def _weight(self, submission: Submission) -> int:
        """About how many keys a command touches at most, in units of a put."""
        match submission.WhichOneof("command"):
            case "put":
                return 1
            case "txn":
                return self._weight_of_txn(submission.txn)
            case "delete_range":
                return self._range_weight
            case _:
                return 1

    def _weight_of_txn(self, txn: Txn) -> int:
        """The operations of both branches, and one range: all ranges share what one may touch."""
        weight = 1 + len(txn.compares) + len(txn.success) + len(txn.failure)
        touches_ranges = any(compare.range_end for compare in txn.compares)
        for branch in (txn.success, txn.failure):
            for operation in branch:
                if operation.HasField("txn"):
                    weight += self._weight_of_txn(operation.txn)
                touches_ranges |= operation.HasField("range") or operation.HasField("delete_range")
        return weight + self._range_weight if touches_ranges else weight

    def take(self) -> list[Batch]:
        """The batches of this turn; the next turn starts empty."""
        batches, self.batches = self.batches, []
        return batches
