"""The catalog: who the members are, and the level that all of them can follow."""

import pytest

from kvorum_proto.command_pb2 import (
    CommandBatch,
    ErrorCode,
    Get,
    MemberInfo,
    MembersQuery,
    Put,
    Query,
    RaiseLevel,
    RecoverCluster,
    Result,
    SetMember,
    Submission,
)
from kvorum_proto.peer_pb2 import Bootstrap, InitialMember
from kvorum_server.config import Config
from kvorum_server.placement.catalog import CatalogMachine
from kvorum_server.placement.roster import INITIAL_LEVEL
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.overlay import Overlay
from kvorum_server.types import Entry, EntryKind

BIRTH = Bootstrap(
    members=[
        InitialMember(identity=identity, name=f"n{n}", address=f"127.0.0.1:{7400 + n}")
        for n, identity in enumerate((30, 10, 20), 1)
    ]
)


class Catalog:
    """A CatalogMachine and its place in the log."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.restart(BIRTH)

    def restart(self, bootstrap: Bootstrap) -> None:
        self.overlay = Overlay(self.engine)
        self.machine = CatalogMachine(
            space=1, overlay=self.overlay, config=Config(), bootstrap=bootstrap
        )

    def do(self, submission: Submission) -> Result:
        index = self.machine.status().applied_index + 1
        payload = CommandBatch(submissions=[submission]).SerializeToString()
        (result,) = self.machine.apply(Entry(index, 1, EntryKind.COMMANDS, 0, 1, payload))
        self.overlay.flush()
        self.machine.check_invariants()
        return Result.FromString(result)

    def names(self) -> list[str]:
        answer = self.machine.read(Query(members=MembersQuery()))
        assert isinstance(answer, Result)
        assert answer.members.level == self.machine.level
        return [member.name for member in answer.members.members]


def member(identity: int = 10, name: str = "n2", level: int = 1) -> SetMember:
    return SetMember(identity=identity, name=name, address="host:1", supported_level=level)


def test_it_begins_as_the_birth_certificate() -> None:
    catalog = Catalog()
    assert catalog.names() == ["n2", "n3", "n1"], "by identity"
    assert {one.supported_level for one in catalog.machine.members()} == {INITIAL_LEVEL}
    assert catalog.machine.level == INITIAL_LEVEL
    assert catalog.machine.status().applied_index == 0


def test_a_known_node_may_move_and_be_renamed() -> None:
    catalog = Catalog()
    assert catalog.do(Submission(set_member=member(name="new"))).HasField("done")
    assert catalog.names() == ["new", "n3", "n1"]
    assert catalog.machine.members()[0].address == "host:1"


@pytest.mark.parametrize("wrong", [member(identity=99), member(name="n1"), member(level=0)])
def test_strangers_name_thieves_and_old_programs_are_refused(wrong: SetMember) -> None:
    catalog = Catalog()
    result = catalog.do(Submission(set_member=wrong))
    assert result.error.code == ErrorCode.INVALID_REQUEST
    assert catalog.names() == ["n2", "n3", "n1"]


def test_the_level_rises_when_the_last_member_supports_it_and_never_falls() -> None:
    catalog = Catalog()
    raise_level = Submission(raise_level=RaiseLevel(level=2))
    for identity, name in ((20, "n3"), (10, "n2")):
        catalog.do(Submission(set_member=member(identity, name, level=3)))
        refused = catalog.do(raise_level)
        assert refused.error.code == ErrorCode.INVALID_REQUEST
        assert "supports level 1 only" in refused.error.message
    catalog.do(Submission(set_member=member(30, "n1", level=2)))
    assert catalog.do(raise_level).HasField("done")
    assert catalog.do(raise_level).HasField("done"), "again is no refusal"
    assert catalog.do(Submission(raise_level=RaiseLevel(level=1))).HasField("error")
    assert catalog.machine.level == 2
    downgraded = catalog.do(Submission(set_member=member(30, "n1", level=1)))
    assert downgraded.error.code == ErrorCode.INVALID_REQUEST


def test_a_restart_reads_rows_and_not_the_birth_certificate() -> None:
    catalog = Catalog()
    catalog.do(Submission(set_member=member(name="new", level=4)))
    catalog.restart(Bootstrap())
    assert catalog.names() == ["new", "n3", "n1"]
    assert catalog.machine.status().applied_index == 1


@pytest.mark.parametrize(
    ("submission", "code"),
    [
        (Submission(), ErrorCode.MALFORMED),
        (Submission(put=Put(key=b"a")), ErrorCode.MALFORMED),
        (Submission(session=1, sequence=1, set_member=member()), ErrorCode.SESSION_EXPIRED),
    ],
)
def test_what_the_catalog_does_not_know_changes_nothing(
    submission: Submission, code: ErrorCode
) -> None:
    catalog = Catalog()
    assert catalog.machine.admit(submission) is not None
    assert catalog.do(submission).error.code == code
    assert catalog.names() == ["n2", "n3", "n1"]


def test_a_lone_survivor_is_the_only_member_and_nobody_else_can_say_so() -> None:
    catalog = Catalog()
    survivor = MemberInfo(identity=10, name="n2", address="n2:1", supported_level=INITIAL_LEVEL)
    command = Submission(recover_cluster=RecoverCluster(survivor=survivor, groups=[0, 1]))
    refusal = catalog.machine.admit(command)
    assert refusal is not None
    assert "only `kvorum-server recover`" in refusal.message
    for _ in range(2):
        assert catalog.do(command).HasField("done")
        assert catalog.names() == ["n2"]
        assert sorted(catalog.machine.roster.removed) == [20, 30]
        placements = catalog.machine.roster.placements
        assert {group: [seat.identity for seat in p.seats] for group, p in placements.items()} == {
            0: [10],
            1: [10],
        }
        assert not catalog.machine.roster.reports


def test_admission_wants_whole_members_of_reasonable_size() -> None:
    machine = Catalog().machine
    assert machine.admit(Submission(set_member=member())) is None
    assert machine.admit(Submission(raise_level=RaiseLevel(level=2))) is None
    nameless = machine.admit(Submission(set_member=member(name="")))
    assert nameless is not None
    assert nameless.code == ErrorCode.INVALID_REQUEST
    huge = machine.admit(Submission(set_member=member(name="n" * (3 << 20))))
    assert huge is not None
    assert huge.code == ErrorCode.LIMIT_EXCEEDED


def test_a_query_for_keys_is_refused() -> None:
    answer = Catalog().machine.read(Query(get=Get(key=b"a")))
    assert isinstance(answer, Result)
    assert answer.error.code == ErrorCode.MALFORMED
