"""The state machine of group 0: the members of the cluster, where replicas shall be, the level.

The catalog begins as the cluster's birth certificate and changes by commands. Operators add,
replace, promote and remove members; nodes report that an expected node has come, what the members
of their groups are, and who they are themselves. What these commands do to the tables is in
``roster.py``; here are admission, the log, the rows and the queries. ``raise_level``: the level
goes up, never down, and only when every member supports it, because from then on entries may mean
what an older program cannot know.

All commands are idempotent, so the catalog needs no sessions: a command that names one is refused.
There is a row for each member, expected member, placement and report, and the level beside them.

Invariants: those of the roster; every member supports the level; the level never falls.
"""

import struct
from collections.abc import Callable, Iterator, Sequence

from google.protobuf.message import DecodeError, Message

from kvorum_proto.command_pb2 import (
    Error,
    ErrorCode,
    ExpectedMember,
    GroupReport,
    MemberInfo,
    Placement,
    Query,
    RaiseLevel,
    Result,
    SetMember,
    Submission,
)
from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server.config import Config
from kvorum_server.placement.roster import INITIAL_LEVEL, Refusal, Roster
from kvorum_server.state_machine import (
    CATALOG_COMMANDS,
    HASH_FORMAT,
    MachineStatus,
    Scan,
    parse_batch,
)
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.rows import MetaRow, Table, table_end, table_prefix
from kvorum_server.types import Entry, EntryKind, GroupId, NodeId

_IDENTITY = struct.Struct(">Q")
_GROUP = struct.Struct(">I")
_LEVEL = struct.Struct(">I")
_LEVEL_KEY = b"level"

_NAMED = ("set_member", "add_member", "replace_member", "join_member")
"""Commands that describe a node and therefore need its name and address."""


class CatalogMachine:
    """The StateMachine of group 0, resting on the rows of one space."""

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

        ``quorum_without`` says why the cluster could not do without a node now, empty when it
        could; it is asked at admission only. Raises NewerFormat or DamagedRows when the rows cannot
        be used.
        """
        self._space = space
        self._overlay = overlay
        self._config = config
        self._quorum_without = quorum_without
        self._meta_key = MetaRow.key(space)
        self._level_key = self._meta_key + _LEVEL_KEY
        if overlay.get(self._meta_key) is None:
            self._overlay.put(self._meta_key, MetaRow().encode())
            self._overlay.put(self._level_key, _LEVEL.pack(INITIAL_LEVEL))
            self._write({}, dict(self._rows(Roster.of_birth(bootstrap))))
        self.effort = 0
        self.hash_due = False
        """Whether the entry that was applied last asks for a hash of the state."""
        self._meta, self._level, self.roster = self._load()

    def admit(self, submission: Submission) -> Error | None:
        """Refuses everything that is no command of the catalog, values that are too long, and the
        removal of a node without which no quorum would be left at present.
        """
        if submission.ByteSize() > self._config.request_bytes_max:
            limit = self._config.request_bytes_max
            return Error(
                code=ErrorCode.LIMIT_EXCEEDED,
                message=f"the request has {submission.ByteSize()}; request_bytes_max is {limit}",
            )
        arm = submission.WhichOneof("command")
        if arm is None:
            return Error(code=ErrorCode.MALFORMED, message="the submission has no command")
        if arm not in CATALOG_COMMANDS and arm != "hash_state":
            return _invalid(f"{arm} is a command of a partition, not of the catalog (group 0)")
        if arm == "recover_cluster":
            return _invalid("only `kvorum-server recover` does that, to a stopped node")
        if submission.session:
            return _invalid("the catalog has no sessions: its commands are idempotent")
        if arm in _NAMED:
            command = getattr(submission, arm)
            if not command.name or not command.address:
                return _invalid("a member needs a name and an address")
        if arm in ("set_member", "join_member") and not getattr(submission, arm).identity:
            return _invalid("a member needs an identity")
        if arm == "remove_member":
            return self._judge_removal(submission.remove_member.name)
        return None

    def _judge_removal(self, name: str) -> Error | None:
        member = self.roster.named(name)
        if member is None or member.leaving_since:
            return None
        reason = self._quorum_without(member.identity)
        return _invalid(f"cannot remove {name}: {reason}") if reason else None

    # --- Apply ---

    def apply(self, entry: Entry, submissions: Sequence[Submission] | None = None) -> list[bytes]:
        """Applies the next entry; one encoded Result for each submission."""
        assert entry.index == self._meta.index + 1, "entries are applied in order, each once"
        assert entry.stamp >= self._meta.stamp, "log time never goes back"
        results: list[bytes] = []
        self.hash_due = False
        if entry.kind is EntryKind.COMMANDS:
            if submissions is None:
                submissions = _parse(entry.payload)
            for submission in submissions:
                error = self._execute(submission, entry.index)
                result = Result(error=error) if error is not None else Result()
                if error is None:
                    result.done.SetInParent()
                results.append(result.SerializeToString())
        self._meta = MetaRow(entry.index, entry.term, entry.stamp)
        self._overlay.put(self._meta_key, self._meta.encode())
        return results

    def _execute(self, submission: Submission, index: int) -> Error | None:
        """One command; why it was refused, None when it is done."""
        if submission.session:
            return Error(
                code=ErrorCode.SESSION_EXPIRED,
                message="the catalog has no sessions; nothing was applied",
            )
        arm = submission.WhichOneof("command")
        if arm == "hash_state":
            self.hash_due = submission.hash_state.format == HASH_FORMAT
            return None
        if arm == "raise_level":
            return self._raise_level(submission.raise_level)
        if arm not in CATALOG_COMMANDS:
            return Error(
                code=ErrorCode.MALFORMED,
                message="the submission has no command that the catalog knows",
            )
        before = dict(self._rows(self.roster))
        try:
            self._change(submission, index)
        except Refusal as refusal:
            return _invalid(str(refusal))
        self._write(before, dict(self._rows(self.roster)))
        return None

    def _change(self, submission: Submission, index: int) -> None:
        """What a command does to the roster; raises Refusal."""
        roster = self.roster
        match submission.WhichOneof("command"):
            case "set_member":
                self._set_member(submission.set_member)
            case "add_member":
                roster.add(submission.add_member)
            case "replace_member":
                roster.replace(submission.replace_member)
            case "join_member":
                if submission.join_member.supported_level < self._level:
                    raise Refusal(self._too_old(submission.join_member.name))
                roster.join(submission.join_member, index)
            case "promote_member":
                roster.promote(submission.promote_member.name, index)
            case "remove_member":
                roster.remove(submission.remove_member.name, index)
            case "report_group":
                roster.report(submission.report_group.report, index)
            case "recover_cluster":
                roster.recover(submission.recover_cluster, index)

    def _too_old(self, name: str) -> str:
        return f"{name} does not support level {self._level} of this cluster: upgrade that node"

    def _set_member(self, described: SetMember) -> None:
        """A known node describes itself."""
        member = self.roster.members.get(described.identity)
        if member is None:
            raise Refusal(f"{described.identity:016x} is no member of this cluster")
        if described.supported_level < self._level:
            raise Refusal(self._too_old(described.name))
        other = self.roster.named(described.name)
        if other is not None and other.identity != described.identity:
            raise Refusal(f"another member has the name {described.name}")
        member.name = described.name
        member.address = described.address
        member.supported_level = described.supported_level

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
        roster = self.roster
        result.members.level = self._level
        result.members.members.extend(self.members())
        result.members.expected.extend(expected for _, expected in sorted(roster.expected.items()))
        result.members.placements.extend(p for _, p in sorted(roster.placements.items()))
        result.members.reports.extend(report for _, report in sorted(roster.reports.items()))
        return result

    def members(self) -> list[MemberInfo]:
        """All members, by identity; those that are leaving included."""
        return [self.roster.members[identity] for identity in sorted(self.roster.members)]

    def placement(self, group: GroupId) -> Placement:
        """Where replicas of a group shall be."""
        return self.roster.placements[group]

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
        meta, level, roster = self._load()
        assert meta == self._meta, "memory is at the rows' place"
        assert level == self._level, "the level is that of its row"
        assert roster == self.roster, "the roster is that of the rows"
        roster.check_invariants()
        supported = min((member.supported_level for member in self.members()), default=level)
        assert supported >= level, "every member supports the level"

    # --- Rows ---

    def _key(self, table: Table, suffix: bytes) -> bytes:
        return table_prefix(self._space, table) + suffix

    def _rows(self, roster: Roster) -> Iterator[tuple[bytes, bytes]]:
        """A roster as rows."""
        tables: list[tuple[Table, list[tuple[bytes, Message]]]] = [
            (Table.MEMBER, [(_IDENTITY.pack(i), m) for i, m in roster.members.items()]),
            (Table.EXPECTED_MEMBER, [(n.encode(), e) for n, e in roster.expected.items()]),
            (Table.REMOVED_MEMBER, [(_IDENTITY.pack(i), m) for i, m in roster.removed.items()]),
            (Table.PLACEMENT, [(_GROUP.pack(g), p) for g, p in roster.placements.items()]),
            (Table.REPORT, [(_GROUP.pack(g), r) for g, r in roster.reports.items()]),
        ]
        for table, rows in tables:
            for suffix, message in rows:
                yield self._key(table, suffix), message.SerializeToString(deterministic=True)

    def _write(self, before: dict[bytes, bytes], after: dict[bytes, bytes]) -> None:
        """Writes what a command has changed; there are a few dozen rows at most."""
        for key in before.keys() - after.keys():
            self._overlay.delete(key)
        for key, row in after.items():
            if before.get(key) != row:
                self._overlay.put(key, row)

    def _load(self) -> tuple[MetaRow, int, Roster]:
        """What the rows say."""
        row = self._overlay.get(self._meta_key)
        assert row is not None, "the birth certificate was written"
        meta = MetaRow.decode(self._space, row)
        level_row = self._overlay.get(self._level_key)
        level = INITIAL_LEVEL if level_row is None else _LEVEL.unpack(level_row)[0]
        roster = Roster()
        for row in self._scan(Table.MEMBER):
            member = MemberInfo.FromString(row)
            roster.members[member.identity] = member
        for row in self._scan(Table.EXPECTED_MEMBER):
            expected = ExpectedMember.FromString(row)
            roster.expected[expected.name] = expected
        for row in self._scan(Table.REMOVED_MEMBER):
            removed = MemberInfo.FromString(row)
            roster.removed[removed.identity] = removed
        for row in self._scan(Table.PLACEMENT):
            placement = Placement.FromString(row)
            roster.placements[placement.group] = placement
        for row in self._scan(Table.REPORT):
            report = GroupReport.FromString(row)
            roster.reports[report.group] = report
        return meta, level, roster

    def _scan(self, table: Table) -> Iterator[bytes]:
        start, end = table_prefix(self._space, table), table_end(self._space, table)
        return (row for _, row in self._overlay.scan(start, end))


def _invalid(message: str) -> Error:
    return Error(code=ErrorCode.INVALID_REQUEST, message=message)


def _parse(payload: bytes) -> Sequence[Submission]:
    """A payload that is no batch holds no commands: every replica finds the same."""
    try:
        return parse_batch(payload)
    except DecodeError:
        return ()
