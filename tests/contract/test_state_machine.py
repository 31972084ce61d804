"""What every StateMachine does: the Host is written against this and nothing more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvorum_proto.command_pb2 import (
    CommandBatch,
    Compact,
    Delete,
    Get,
    Increment,
    MembersQuery,
    Operation,
    Put,
    Query,
    RaiseLevel,
    Range,
    Result,
    SessionOpen,
    SetMember,
    Submission,
    Txn,
)
from kvorum_proto.peer_pb2 import Bootstrap, InitialMember
from kvorum_server.config import Config
from kvorum_server.kv.machine import KvMachine
from kvorum_server.placement.catalog import CatalogMachine
from kvorum_server.state_machine import StateMachine, parse_batch
from kvorum_server.storage.engine import Engine, space_prefix
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.rocksdb import RocksEngine
from kvorum_server.storage.rows import MetaRow
from kvorum_server.types import Entry, EntryKind

SPACE = 3


@dataclass(frozen=True)
class Kind:
    """A state machine, a story for it and a question about the outcome."""

    make: Callable[[Overlay], StateMachine]
    story: tuple[tuple[Submission, ...], ...]
    question: Query


def put(key: bytes, value: bytes) -> Submission:
    return Submission(put=Put(key=key, value=value))


def in_session(sequence: int) -> Submission:
    increment = Increment(key=b"n", by=1)
    return Submission(session=1 << 10, sequence=sequence, increment=increment)


KV = Kind(
    make=lambda overlay: KvMachine(space=SPACE, overlay=overlay, config=Config(), group=1),
    story=(
        (Submission(session_open=SessionOpen()),),
        (in_session(1), in_session(2), in_session(1)),
        (put(b"a", b"1"), put(b"b", b"2"), Submission(delete=Delete(key=b"a"))),
        (),
        (put(b"n", b"no number"), in_session(3), put(b"", b"against the rules")),
        (Submission(txn=Txn(success=[Operation(put=Put(key=b"c"))])), in_session(2)),
        (Submission(compact=Compact(revision=4)), Submission(), in_session(3)),
    ),
    question=Query(range=Range(key=b"", range_end=b"\x00")),
)

BIRTH = Bootstrap(members=[InitialMember(identity=n, name=f"n{n}", address="a") for n in (1, 2)])


def member(identity: int, level: int) -> Submission:
    described = SetMember(
        identity=identity, name=f"n{identity}", address="elsewhere", supported_level=level
    )
    return Submission(set_member=described)


CATALOG = Kind(
    make=lambda overlay: CatalogMachine(
        space=SPACE, overlay=overlay, config=Config(), bootstrap=BIRTH
    ),
    story=(
        (member(1, 2), member(9, 2)),
        (Submission(raise_level=RaiseLevel(level=2)),),
        (member(2, 2), Submission(raise_level=RaiseLevel(level=2)), Submission()),
        (),
        (put(b"a", b"not here"),),
    ),
    question=Query(members=MembersQuery()),
)


@pytest.fixture(params=[KV, CATALOG], ids=["kv", "catalog"])
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


def entries(story: Sequence[Sequence[Submission]]) -> list[Entry]:
    """The story as a log, with a no-op in front as after every election."""
    log = [Entry(1, 1, EntryKind.NO_OP, 0, 1, b"")] if story is CATALOG.story else []
    for submissions in story:
        payload = CommandBatch(submissions=submissions).SerializeToString()
        index = len(log) + 1
        log.append(Entry(index, 1, EntryKind.COMMANDS, index * 10, 1, payload))
    return log


def rows(engine: Engine) -> list[tuple[bytes, bytes]]:
    return list(engine.scan(space_prefix(SPACE), space_prefix(SPACE + 1)))


def answer(machine: StateMachine, query: Query) -> Result:
    found = machine.read(query)
    assert isinstance(found, Result)
    return found


def test_every_submission_has_one_result_that_can_be_parsed(kind: Kind) -> None:
    machine = kind.make(Overlay(MemoryEngine()))
    for entry in entries(kind.story):
        results = machine.apply(entry)
        expected = parse_batch(entry.payload) if entry.kind is EntryKind.COMMANDS else []
        assert len(results) == len(expected)
        assert all(Result.FromString(result).WhichOneof("result") for result in results)


def test_parsed_or_not_one_write_or_many_the_rows_are_the_same(kind: Kind) -> None:
    leader, follower = MemoryEngine(), MemoryEngine()
    leader_overlay, follower_overlay = Overlay(leader), Overlay(follower)
    leading, following = kind.make(leader_overlay), kind.make(follower_overlay)
    for entry in entries(kind.story):
        parsed = parse_batch(entry.payload) if entry.kind is EntryKind.COMMANDS else None
        assert leading.apply(entry, parsed) == following.apply(entry)
        leader_overlay.flush()
    follower_overlay.flush()
    assert rows(leader) == rows(follower)
    assert answer(leading, kind.question) == answer(following, kind.question)


def test_the_applied_index_is_in_the_write_of_its_entry(kind: Kind) -> None:
    engine = MemoryEngine()
    overlay = Overlay(engine)
    machine = kind.make(overlay)
    overlay.flush()
    for entry in entries(kind.story):
        before = rows(engine)
        machine.apply(entry)
        assert rows(engine) == before, "nothing is written before the turn's one write"
        overlay.flush()
        meta = engine.get(MetaRow.key(SPACE))
        assert meta is not None
        assert MetaRow.decode(SPACE, meta).index == entry.index


def test_made_again_from_rows_it_goes_on_as_if_nothing_had_happened(kind: Kind) -> None:
    log = entries(kind.story)
    for crash in range(len(log)):
        steady, crashing = MemoryEngine(), MemoryEngine()
        steady_overlay, crashing_overlay = Overlay(steady), Overlay(crashing)
        undisturbed, machine = kind.make(steady_overlay), kind.make(crashing_overlay)
        for place, entry in enumerate(log):
            if place == crash:
                crashing_overlay = Overlay(crashing)
                machine = kind.make(crashing_overlay)
            assert undisturbed.apply(entry) == machine.apply(entry)
            steady_overlay.flush()
            crashing_overlay.flush()
        assert rows(steady) == rows(crashing)
        assert undisturbed.status() == machine.status()
        assert answer(undisturbed, kind.question) == answer(machine, kind.question)
        machine.check_invariants()


def test_what_was_not_written_is_applied_again_from_the_log(kind: Kind) -> None:
    engine = MemoryEngine()
    log = entries(kind.story)
    overlay = Overlay(engine)
    machine = kind.make(overlay)
    machine.apply(log[0])
    overlay.flush()
    lost = [machine.apply(entry) for entry in log[1:]]
    overlay = Overlay(engine)
    machine = kind.make(overlay)
    assert machine.status().applied_index == 1
    assert [machine.apply(entry) for entry in log[1:]] == lost


def test_a_payload_that_does_not_parse_moves_the_applied_index_only(kind: Kind) -> None:
    engine = MemoryEngine()
    overlay = Overlay(engine)
    machine = kind.make(overlay)
    before = answer(machine, kind.question)
    assert machine.apply(Entry(1, 2, EntryKind.COMMANDS, 7, 1, b"\xff")) == []
    overlay.flush()
    assert answer(machine, kind.question) == before
    status = machine.status()
    assert (status.applied_index, status.applied_term, status.log_time) == (1, 2, 7)


def test_other_entries_move_the_applied_index_and_log_time(kind: Kind) -> None:
    machine = kind.make(Overlay(MemoryEngine()))
    for index, entry_kind in enumerate((EntryKind.NO_OP, EntryKind.CONFIGURATION), 1):
        assert machine.apply(Entry(index, 1, entry_kind, index, 1, b"\xff")) == []
    assert (machine.status().applied_index, machine.status().log_time) == (2, 2)


def test_an_entry_is_never_applied_twice_or_out_of_order(kind: Kind) -> None:
    machine = kind.make(Overlay(MemoryEngine()))
    machine.apply(Entry(1, 1, EntryKind.NO_OP, 5, 1, b""))
    for entry in (
        Entry(1, 1, EntryKind.NO_OP, 5, 1, b""),
        Entry(3, 1, EntryKind.NO_OP, 5, 1, b""),
        Entry(2, 1, EntryKind.NO_OP, 4, 1, b""),
    ):
        with pytest.raises(AssertionError):
            machine.apply(entry)


def test_a_machine_that_keeps_still_needs_nothing(kind: Kind) -> None:
    overlay = Overlay(MemoryEngine())
    machine = kind.make(overlay)
    assert machine.maintenance() is None
    while machine.clear_away():
        overlay.flush()
    assert not machine.clear_away()


def test_every_machine_refuses_an_empty_submission_and_an_unknown_query(kind: Kind) -> None:
    machine = kind.make(Overlay(MemoryEngine()))
    assert machine.admit(Submission()) is not None
    assert answer(machine, Query()).HasField("error")


def test_rows_and_answers_do_not_depend_on_the_engine(kind: Kind, tmp_path: Path) -> None:
    on_disk = RocksEngine(tmp_path / "state", Config())
    in_memory = MemoryEngine()
    overlays = [Overlay(engine) for engine in (on_disk, in_memory)]
    first, second = (kind.make(overlay) for overlay in overlays)
    for entry in entries(kind.story):
        assert first.apply(entry) == second.apply(entry)
        first.clear_away()
        second.clear_away()
        for overlay in overlays:
            overlay.flush()
    assert rows(on_disk) == rows(in_memory)
    assert answer(first, kind.question) == answer(second, kind.question)
    on_disk.close()


def test_two_spaces_of_one_engine_do_not_meet() -> None:
    overlay = Overlay(MemoryEngine())
    machines = [
        KvMachine(space=space, overlay=overlay, config=Config(), group=1) for space in (1, 2, 257)
    ]
    for machine in machines:
        machine.apply(entries([(put(b"a", b"mine"),)])[0])
        overlay.flush()
    for machine in machines:
        assert answer(machine, KV.question).range.count == 1
        assert answer(machine, Query(get=Get(key=b"a"))).get.item.version == 1
        machine.check_invariants()
