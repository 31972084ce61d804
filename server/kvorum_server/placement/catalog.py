"""The state machine of group 0: who the members are and which feature level the cluster has.

The catalog begins as the cluster's birth certificate and changes by two commands. ``set_member``:
a node that is already known says under which name and address it can be reached and which feature
level it supports. ``raise_level``: the level goes up, never down, and only when every member
supports it, because from then on entries may mean what an older program cannot know.

Both commands are idempotent, so the catalog needs no sessions: a command that names one is refused.
There is a row for each member, and the level stands beside them.

Invariants: identities and names are unique; every member supports the level; the level never falls.
Left out: desired placement, the partition table's moves, and new members; a member joins by
configuration change, which is not offered yet.
"""

import struct
from collections.abc import Callable, Sequence

from google.protobuf.message import DecodeError

from kvorum_proto.command_pb2 import (
    Error,
    ErrorCode,
    Query,
    RaiseLevel,
    Result,
    SetMember,
    Submission,
)
from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server.config import Config
from kvorum_server.state_machine import MachineStatus, Scan, parse_batch
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.rows import MetaRow, Table, table_end, table_prefix
from kvorum_server.types import Entry, EntryKind, NodeId

INITIAL_LEVEL = 1
"""What every program that can read a birth certificate supports."""

_IDENTITY = struct.Struct(">Q")
_LEVEL = struct.Struct(">I")
_LEVEL_KEY = b"level"


class CatalogMachine:
    """The StateMachine of group 0, resting on the rows of one space."""

    __slots__ = (
        "_config",
        "_level",
        "_level_key",
        "_members",
        "_members_end",
        "_members_prefix",
        "_meta",
        "_meta_key",
        "_overlay",
        "_quorum_without",
        "_space",
    )

    def __init__(
        self,
        *,
        space: int,
        overlay: Overlay,
        config: Config,
        bootstrap: Bootstrap,
        quorum_without: Callable[[NodeId], str] = lambda _: "",
    ) -> None:
        """Reads the rows of the space; where there are none, writes those of the birth certificate.

        Raises NewerFormat or DamagedRows when the rows cannot be used.
        """
        self._space = space
        self._overlay = overlay
        self._config = config
        self._quorum_without = quorum_without
        self._meta_key = MetaRow.key(space)
        self._level_key = self._meta_key + _LEVEL_KEY
        self._members_prefix = table_prefix(space, Table.MEMBER)
        self._members_end = table_end(space, Table.MEMBER)
        if overlay.get(self._meta_key) is None:
            self._write_birth(bootstrap)
        self._meta, self._level, self._members = self._load()

    def admit(self, submission: Submission) -> Error | None:
        """Refuses everything that is no command of the catalog, and values that are too long."""
        if submission.ByteSize() > self._config.request_bytes_max:
            limit = self._config.request_bytes_max
            return Error(
                code=ErrorCode.LIMIT_EXCEEDED,
                message=f"the request has {submission.ByteSize()}; request_bytes_max is {limit}",
            )
        arm = submission.WhichOneof("command")
        if arm is None:
            return Error(code=ErrorCode.MALFORMED, message="the submission has no command")
        if arm not in ("set_member", "raise_level"):
            return _invalid(f"{arm} is a command of a partition, not of the catalog (group 0)")
        if submission.session:
            return _invalid("the catalog has no sessions: its commands are idempotent")
        if arm == "set_member":
            member = submission.set_member
            if not member.identity or not member.name or not member.address:
                return _invalid("a member needs an identity, a name and an address")
        return None

    # --- Apply ---

    def apply(self, entry: Entry, submissions: Sequence[Submission] | None = None) -> list[bytes]:
        """Applies the next entry; one encoded Result for each submission."""
        assert entry.index == self._meta.index + 1, "entries are applied in order, each once"
        assert entry.stamp >= self._meta.stamp, "log time never goes back"
        results: list[bytes] = []
        if entry.kind is EntryKind.COMMANDS:
            if submissions is None:
                submissions = _parse(entry.payload)
            for submission in submissions:
                error = self._execute(submission)
                result = Result(error=error) if error is not None else Result()
                if error is None:
                    result.done.SetInParent()
                results.append(result.SerializeToString())
        self._meta = MetaRow(entry.index, entry.term, entry.stamp)
        self._overlay.put(self._meta_key, self._meta.encode())
        return results

    def _execute(self, submission: Submission) -> Error | None:
        """One command; why it was refused, None when it is done."""
        if submission.session:
            return Error(
                code=ErrorCode.SESSION_EXPIRED,
                message="the catalog has no sessions; nothing was applied",
            )
        match submission.WhichOneof("command"):
            case "set_member":
                return self._set_member(submission.set_member)
            case "raise_level":
                return self._raise_level(submission.raise_level)
            case _:
                return Error(
                    code=ErrorCode.MALFORMED,
                    message="the submission has no command that the catalog knows",
                )

    def _set_member(self, member: SetMember) -> Error | None:
        """A known node describes itself."""
        if member.identity not in self._members:
            return _invalid(f"{member.identity:016x} is no member of this cluster")
        if member.supported_level < self._level:
            return _invalid(
                f"{member.name} supports level {member.supported_level} and the cluster is at "
                f"{self._level}: upgrade that node"
            )
        for other in self._members.values():
            if other.name == member.name and other.identity != member.identity:
                return _invalid(f"another member has the name {member.name}")
        described = SetMember()
        described.CopyFrom(member)
        self._members[member.identity] = described
        self._put_member(described)
        return None

    def _raise_level(self, command: RaiseLevel) -> Error | None:
        """Every member must be able to follow. The present level again is no refusal."""
        if command.level < self._level:
            return _invalid(f"the level is {self._level} and never falls")
        for member in self.members():
            if member.supported_level < command.level:
                return _invalid(
                    f"{member.name} supports level {member.supported_level} only: upgrade that node"
                )
        self._level = command.level
        self._overlay.put(self._level_key, _LEVEL.pack(command.level))
        return None

    # --- Read ---

    def read(self, query: Query) -> Result | Scan:
        """The members and the level."""
        result = Result()
        if query.WhichOneof("query") != "members":
            result.error.code = ErrorCode.MALFORMED
            result.error.message = "the catalog does not know this query"
            return result
        result.members.level = self._level
        result.members.members.extend(self.members())
        return result

    def members(self) -> list[SetMember]:
        """All members, by identity."""
        return [self._members[identity] for identity in sorted(self._members)]

    @property
    def level(self) -> int:
        """The feature level under which leaders propose."""
        return self._level

    # --- Upkeep ---

    def maintenance(self) -> Submission | None:
        """Nothing is ever due: the nodes themselves say what changes."""
        return None

    def clear_away(self) -> bool:
        """Nothing is left behind."""
        return False

    def status(self) -> MachineStatus:
        """Where the catalog stands here; it has no revisions and no sessions."""
        return MachineStatus(
            applied_index=self._meta.index,
            applied_term=self._meta.term,
            log_time=self._meta.stamp,
            revision=0,
            compacted_revision=0,
            sessions=0,
        )

    def check_invariants(self) -> None:
        """Memory is what the rows say; raises AssertionError if not."""
        meta, level, members = self._load()
        assert meta == self._meta, "memory is at the rows' place"
        assert level == self._level, "the level is that of its row"
        assert members == self._members, "the members are those of the rows"
        names = {member.name for member in members.values()}
        assert len(names) == len(members), "names are unique"
        supported = min((member.supported_level for member in members.values()), default=level)
        assert supported >= level, "every member supports the level"

    # --- Rows ---

    def _write_birth(self, bootstrap: Bootstrap) -> None:
        """The rows before the first entry."""
        self._overlay.put(self._meta_key, MetaRow().encode())
        self._overlay.put(self._level_key, _LEVEL.pack(INITIAL_LEVEL))
        for initial in bootstrap.members:
            self._put_member(
                SetMember(
                    identity=initial.identity,
                    name=initial.name,
                    address=initial.address,
                    supported_level=INITIAL_LEVEL,
                )
            )

    def _put_member(self, member: SetMember) -> None:
        row_key = self._members_prefix + _IDENTITY.pack(member.identity)
        self._overlay.put(row_key, member.SerializeToString(deterministic=True))

    def _load(self) -> tuple[MetaRow, int, dict[int, SetMember]]:
        """What the rows say."""
        row = self._overlay.get(self._meta_key)
        assert row is not None, "the birth certificate was written"
        meta = MetaRow.decode(self._space, row)
        level_row = self._overlay.get(self._level_key)
        level = INITIAL_LEVEL if level_row is None else _LEVEL.unpack(level_row)[0]
        members = {}
        for _, encoded in self._overlay.scan(self._members_prefix, self._members_end):
            member = SetMember.FromString(encoded)
            members[member.identity] = member
        return meta, level, members


def _invalid(message: str) -> Error:
    return Error(code=ErrorCode.INVALID_REQUEST, message=message)


def _parse(payload: bytes) -> Sequence[Submission]:
    """A payload that is no batch holds no commands: every replica finds the same."""
    try:
        return parse_batch(payload)
    except DecodeError:
        return ()
