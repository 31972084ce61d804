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
)
from kvorum_server.config import Config
from kvorum_server.state_machine import StateMachine

FREEING_COMMANDS = frozenset({"delete", "delete_range", "compact", "session_open", "session_close"})
"""What a node with a full disk still admits: commands that free space, and the session of a new
client that wants to."""


@dataclass(slots=True)
class Batch:
    """The commands that become one entry, and who waits for which of them."""

    submissions: list[Submission] = field(default_factory=list)
    takers: list[tuple[int, list[int]]] = field(default_factory=list)
    """(connection, ids) in the order of the submissions."""
    encoded: list[bytes] = field(default_factory=list)
    size: int = 0

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


def busy_result(retry_after_ms: int) -> bytes:
    """An encoded Result: nothing was done, try again after a while."""
    return error_result(
        BUSY, "the node has too much to do; try again shortly", retry_after_ms=retry_after_ms
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
    """Packs the admitted commands of a turn into as few entries as the limits allow."""

    def __init__(self, config: Config) -> None:
        self._commands_max = config.entry_commands_max
        self._bytes_max = config.entry_bytes_max
        self.batches: list[Batch] = []

    def add(self, connection: int, admitted: Admitted) -> None:
        """Queues admitted commands behind those that came before."""
        count = len(admitted.submissions)
        if count == 0:
            return
        if count > 1 and (count > self._commands_max or len(admitted.encoded) > self._bytes_max):
            self._add_in_parts(connection, admitted)
            return
        batch = self._batch_with_room(count, len(admitted.encoded))
        batch.submissions += admitted.submissions
        batch.takers.append((connection, admitted.ids))
        batch.encoded.append(admitted.encoded)
        batch.size += len(admitted.encoded)

    def _batch_with_room(self, count: int, size: int) -> Batch:
        if self.batches:
            batch = self.batches[-1]
            if (
                len(batch.submissions) + count <= self._commands_max
                and batch.size + size <= self._bytes_max
            ):
                return batch
        self.batches.append(Batch())
        return self.batches[-1]

    def _add_in_parts(self, connection: int, admitted: Admitted) -> None:
        for submission, request in zip(admitted.submissions, admitted.ids, strict=True):
            encoded = CommandBatch(submissions=[submission]).SerializeToString()
            self.add(connection, Admitted([submission], [request], encoded))

    def take(self) -> list[Batch]:
        """The batches of this turn; the next turn starts empty."""
        batches, self.batches = self.batches, []
        return batches
