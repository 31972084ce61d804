"""The hash of a state: the same for the same rows, however they lie and however it is taken."""

from random import Random

import pytest

from kvorum_proto import command_pb2 as wire
from kvorum_server.config import Config
from kvorum_server.kv.machine import KvMachine
from kvorum_server.state_hash import StateHasher, row_hash, shared_rows
from kvorum_server.state_machine import HASH_FORMAT
from kvorum_server.storage.engine import space_prefix
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.rows import Table, table_prefix
from kvorum_server.types import Entry, EntryKind

CONFIG = Config(compaction_slice_rows=1)


class State:
    """The rows of one replica of a group that applies what it is told."""

    def __init__(self, space: int = 1) -> None:
        self.space = space
        self.engine = MemoryEngine()
        self.overlay = Overlay(self.engine)
        self.machine = KvMachine(space=space, overlay=self.overlay, config=CONFIG, group=1)

    def apply(self, *submissions: wire.Submission) -> None:
        """The next entry."""
        index = self.machine.status().applied_index + 1
        payload = wire.CommandBatch(submissions=submissions).SerializeToString()
        self.machine.apply(Entry(index, 1, EntryKind.COMMANDS, 10 * index, 1, payload))
        self.overlay.flush()

    def clear_away(self, slices: int) -> bool:
        """Some slices of the clean-up; whether there is more."""
        more = True
        for _ in range(slices):
            more = self.machine.clear_away()
        self.overlay.flush()
        return more

    def hash(self, rows_max: int = 1 << 30) -> int:
        """The hash of the state, taken in slices."""
        hasher = StateHasher(index=1, view=self.engine.snapshot(), space=self.space)
        while True:
            found = hasher.advance(rows_max)
            if found is not None:
                return found


def put(key: bytes, value: bytes = b"v") -> wire.Submission:
    return wire.Submission(put=wire.Put(key=key, value=value))


def work(state: State, seed: int) -> None:
    """Puts, deletes, sessions and compactions, the same for the same seed."""
    generator = Random(seed)
    state.apply(wire.Submission(session_open=wire.SessionOpen()))
    for _ in range(60):
        key = b"k%d" % generator.randrange(6)
        if generator.random() < 0.2:
            state.apply(wire.Submission(delete=wire.Delete(key=key)))
        else:
            state.apply(put(key, generator.randbytes(3)), put(b"other", b"x"))
        status = state.machine.status()
        if generator.random() < 0.1:
            state.apply(wire.Submission(compact=wire.Compact(revision=status.revision - 3)))


def test_the_hash_does_not_depend_on_slices_or_on_the_number_of_the_space() -> None:
    states = [State(space=1), State(space=9)]
    for state in states:
        work(state, seed=1)
    assert len({state.hash(rows_max) for state in states for rows_max in (1, 2, 7, 1000)}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_hash_does_not_depend_on_how_far_the_clean_up_has_come(seed: int) -> None:
    lazy, busy = State(), State()
    for state in (lazy, busy):
        work(state, seed)
    assert lazy.machine.status().compacted_revision > 1
    more = True
    while more:
        more = busy.clear_away(slices=1)
        assert busy.hash() == lazy.hash()
    assert dict(busy.engine.scan(b"", b"\xff")) != dict(lazy.engine.scan(b"", b"\xff"))


def test_the_hash_stays_that_of_the_view_while_the_state_moves_on() -> None:
    state = State()
    work(state, seed=2)
    expected = state.hash()
    hasher = StateHasher(index=1, view=state.engine.snapshot(), space=1)
    found = None
    while found is None:
        state.apply(put(b"k1", b"later"))
        found = hasher.advance(3)
    assert found == expected != state.hash()


def test_every_shared_row_counts() -> None:
    """Changing, losing or adding any one of them moves the hash."""
    state = State()
    work(state, seed=3)
    while state.clear_away(slices=1):
        continue
    expected = state.hash()
    rows = list(shared_rows(state.engine, 1))
    tables = {key[0] for key, _ in rows}
    assert tables == {Table.META, Table.CURRENT, Table.HISTORY, Table.EVENT, Table.SESSION}
    for key, value in rows:
        row_key = space_prefix(1) + key
        damaged = bytes((*value[:-1], value[-1] ^ 1))
        changes: list[bytes | None] = [damaged] if key[0] != Table.META else []
        if key[0] != Table.META:
            changes.append(None)
        for change in changes:
            state.engine.write({row_key: change})
            assert state.hash() != expected, f"row {key!r} as {change!r}"
        state.engine.write({row_key: value})
    state.engine.write({table_prefix(1, Table.CURRENT) + b"ghost\x00\x01": b"v"})
    assert state.hash() != expected


def test_where_a_key_ends_counts() -> None:
    assert row_hash(b"\x01a", b"bc") != row_hash(b"\x01ab", b"c")


def test_an_empty_group_has_a_hash() -> None:
    assert State().hash() == 0


def test_a_command_asks_for_a_hash_once() -> None:
    state = State()
    state.apply(put(b"a"), wire.Submission(hash_state=wire.HashState(format=HASH_FORMAT)))
    assert state.machine.hash_due
    state.apply(put(b"a"))
    assert not state.machine.hash_due
    state.apply(wire.Submission(hash_state=wire.HashState(format=HASH_FORMAT + 1)))
    assert not state.machine.hash_due, "what another version hashes would look like damage"
