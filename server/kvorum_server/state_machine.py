"""What a replica asks of the state that its log drives.

A state machine is a function of its log: ``apply`` sees nothing but the entry (its stamp is the
only time there is) and the rows that earlier entries left. It writes rows through the turn's
overlay, which the Host writes to the engine once per turn for all groups, applied index included.
Tables kept in memory (sessions, for instance) are rebuilt from rows when the object is made, so
that a snapshot of a group is nothing but the rows of its space.

An expected refusal is a result like any other. Any exception that leaves ``apply`` stops the node.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kvorum_proto.command_pb2 import CommandBatch, Error, Query, Result, Submission
from kvorum_server.storage.errors import StorageError
from kvorum_server.types import FEATURE_LEVEL, Entry, GroupId

HASH_FORMAT = 1
"""Which rows make the hash of a state, and how (see ``state_hash.py``); raised with either."""


CATALOG_COMMANDS = frozenset(
    field.name
    for field in Submission.DESCRIPTOR.oneofs_by_name["command"].fields
    if field.number >= 30
)
"""Commands of group 0 only: by the numbering of ``command.proto``, those from 30 on."""


class UnknownLevel(StorageError):
    """An entry of a feature level that this program does not know: the node stops before applying
    it.
    """

    def __init__(self, group: GroupId, entry: Entry) -> None:
        super().__init__(
            f"entry {entry.index} of group {group} needs feature level {entry.level}, this program "
            f"knows {FEATURE_LEVEL}; upgrade kvorum-server on this node"
        )


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """Figures for status pages. Log time is in milliseconds; revisions are 0 where there are
    none.
    """

    applied_index: int
    applied_term: int
    log_time: int
    revision: int
    compacted_revision: int
    sessions: int


class Scan(Protocol):
    """A query that reads many rows: one bounded slice a turn, on a view that does not move."""

    def advance(self) -> Result | None:
        """Reads the next slice; the answer when it was the last, else None."""
        ...

    def close(self) -> None:
        """Gives the view back. Idempotent; ``advance`` does it with the last slice."""
        ...


class StateMachine(Protocol):
    """The state of one group on one replica, resting on the rows of one space."""

    hash_due: bool
    """Whether the entry applied last asks for a hash of the state after it."""

    effort: int
    """Keys that range operations of commands have met so far: what they cost beyond a put."""

    def admit(self, submission: Submission) -> Error | None:
        """Refuses what must never reach the log: limits, key range, nesting, unknown arms.

        A function of the submission, the feature level and Config alone; unknown *fields* are the
        caller's to find (one check a frame).
        """
        ...

    def apply(self, entry: Entry, submissions: Sequence[Submission] | None = None) -> list[bytes]:
        """Applies the next entry; encoded Results, one per submission, in order.

        ``submissions`` is what the leader parsed at admission; without it the payload is parsed
        here (a batch that does not parse gives no results and changes nothing but the applied
        index). Entries of other kinds move the applied index and log time only.
        """
        ...

    def read(self, query: Query) -> Result | Scan:
        """Answers a query from the applied state, after the turn's rows were written."""
        ...

    def maintenance(self) -> Submission | None:
        """A command that is due and that the leader should propose (automatic compaction, say)."""
        ...

    def clear_away(self) -> bool:
        """One bounded slice of physical clean-up; False when nothing is left to do."""
        ...

    def status(self) -> MachineStatus:
        """Cheap; called for every reply frame."""
        ...

    def check_invariants(self) -> None:
        """Raises AssertionError when memory and rows contradict each other."""
        ...


def parse_batch(payload: bytes) -> list[Submission]:
    """The submissions of an entry's payload; raises ``DecodeError`` on garbage."""
    return list(CommandBatch.FromString(payload).submissions)
