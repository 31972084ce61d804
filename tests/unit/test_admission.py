"""What may enter the log: commands of our schema within their limits, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum_proto import command_pb2 as wire
from kvorum_proto.command_pb2 import DISK_FULL, LIMIT_EXCEEDED, MALFORMED, Submission
from kvorum_server.admission import (
    FREEING_COMMANDS,
    Admitted,
    Batcher,
    admit,
    busy_result,
    error_result,
)
from kvorum_server.config import Config
from kvorum_server.events import Proposed
from tests.unit.host_setup import CLIENT, GROUP, alone, delete, encoded, put
from tests.unit.kv_harness import Harness

MACHINE = Harness().machine
UNKNOWN_FIELD = b"\xf8\x07\x01"
"""Field 127, a number."""


def judged(commands: bytes, count: int = 1, *, disk_full: bool = False) -> Admitted:
    return admit(commands, tuple(range(count)), MACHINE, disk_full)


def codes(admitted: Admitted) -> list[int]:
    return [wire.Result.FromString(refusal).error.code for refusal in admitted.refusals]


def with_unknown_field(message: bytes, *path: int) -> bytes:
    """The message with an unknown field where a path of field numbers leads to."""
    if not path:
        return message + UNKNOWN_FIELD
    inner = with_unknown_field(b"", *path[1:])
    tag = path[0] << 3 | 2
    head = bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
    return message + head + bytes([len(inner)]) + inner


def test_the_bytes_of_the_client_are_those_of_the_log() -> None:
    commands = encoded(put(b"a"), delete(b"b"))
    admitted = judged(commands, 2)
    assert admitted.encoded is commands
    assert admitted.ids == [0, 1]
    assert not admitted.refusals


def test_one_refused_command_does_not_refuse_its_neighbours() -> None:
    large = put(b"k" * (MACHINE._config.key_bytes_max + 1))
    admitted = judged(encoded(put(b"a"), large, put(b"c")), 3)
    assert (admitted.ids, admitted.refused_ids) == ([0, 2], [1])
    assert codes(admitted) == [LIMIT_EXCEEDED]
    assert admitted.encoded == encoded(put(b"a"), put(b"c"))


@pytest.mark.parametrize(
    "path",
    [(), (10,), (13,), (13, 1), (13, 2), (13, 2, 6), (13, 2, 6, 2, 6), (14,)],
    ids=["submission", "put", "txn", "compare", "operation", "nested", "deeper", "increment"],
)
def test_an_unknown_field_however_deep_is_malformed(path: tuple[int, ...]) -> None:
    submission = with_unknown_field(b"", *path)
    assert len(submission) < 128
    commands = b"\x0a" + bytes([len(submission)]) + submission
    admitted = judged(commands)
    assert codes(admitted) == [MALFORMED]
    assert admitted.encoded == b""


def test_an_unknown_field_of_one_command_spares_the_others() -> None:
    strange = with_unknown_field(put(b"b").SerializeToString())
    commands = encoded(put(b"a")) + b"\x0a" + bytes([len(strange)]) + strange
    admitted = judged(commands, 2)
    assert (admitted.ids, admitted.refused_ids) == ([0], [1])
    assert admitted.encoded == encoded(put(b"a"))


def test_an_unknown_field_beside_the_commands_refuses_them_all() -> None:
    assert codes(judged(encoded(put(b"a")) + UNKNOWN_FIELD)) == [MALFORMED]


@pytest.mark.parametrize(
    "commands",
    [
        b"\xff",
        b"\x08\x01",
        b"\x0a\x02\x50\x01",
        b"\x0a\x04\x52\x02\x08\x01",
        b"\x0a\x05\x52\x03\x12\x7fx",
        encoded(put(b"a"), put(b"b")),
        b"",
    ],
    ids=[
        "no protobuf",
        "a number for the commands",
        "a number for a put",
        "a number for a key",
        "cut off",
        "two commands, one id",
        "nothing",
    ],
)
def test_what_is_no_batch_is_malformed(commands: bytes) -> None:
    admitted = judged(commands)
    assert codes(admitted) == [MALFORMED]
    assert admitted.encoded == b""


@given(st.binary(max_size=100), st.integers(1, 3))
def test_arbitrary_bytes_are_admitted_whole_or_refused(data: bytes, count: int) -> None:
    admitted = judged(data, count)
    assert sorted(admitted.ids + admitted.refused_ids) == list(range(count))
    batch = wire.CommandBatch.FromString(admitted.encoded)
    assert list(batch.submissions) == admitted.submissions
    batch.DiscardUnknownFields()
    assert batch.ByteSize() == len(admitted.encoded), "nothing unknown enters the log"


@given(st.binary(max_size=60), st.integers(0, 60), st.integers(0, 255))
def test_a_mutated_command_never_enters_the_log_in_another_form(
    value: bytes, place: int, byte: int
) -> None:
    mutated = bytearray(encoded(put(b"key", value)))
    mutated[place % len(mutated)] = byte
    admitted = judged(bytes(mutated))
    if admitted.ids:
        assert admitted.submissions == list(
            wire.CommandBatch.FromString(bytes(mutated)).submissions
        )
    else:
        assert len(admitted.refusals) == 1


LEADER = alone()


@given(st.binary(max_size=60))
def test_what_is_refused_never_reaches_the_log(data: bytes) -> None:
    last = LEADER.replica.consensus.status().last_index
    (request,) = LEADER.request()
    LEADER.turn(Proposed(CLIENT, GROUP, (request,), data))
    was_refused = request in LEADER.answers
    appended = LEADER.replica.consensus.status().last_index - last
    assert appended == (0 if was_refused else 1)
    LEADER.settle()
    assert request in LEADER.answers


@pytest.mark.parametrize(
    "command", [field.name for field in Submission.DESCRIPTOR.oneofs[0].fields]
)
def test_a_full_disk_takes_only_what_frees_space(command: str) -> None:
    submission = Submission()
    getattr(submission, command).SetInParent()
    admitted = judged(encoded(submission), disk_full=True)
    refused_for_space = codes(admitted) == [DISK_FULL]
    otherwise_admitted = not judged(encoded(submission)).refusals
    assert refused_for_space == (otherwise_admitted and command not in FREEING_COMMANDS)


def packed(config: Config, *sizes: int) -> list[int]:
    """How many commands each entry of a turn holds, when clients send so many each."""
    batcher = Batcher(config)
    for connection, size in enumerate(sizes):
        commands = encoded(*[put(b"k", b"v" * 10)] * size)
        batcher.add(connection, judged(commands, size))
    batches = batcher.take()
    assert batcher.take() == []
    for batch in batches:
        parsed = wire.CommandBatch.FromString(batch.payload()).submissions
        assert list(parsed) == batch.submissions
        assert sum(len(ids) for _, ids in batch.takers) == len(parsed)
    return [len(batch.submissions) for batch in batches]


def test_commands_of_a_turn_fill_as_few_entries_as_the_limits_allow() -> None:
    assert packed(Config(), 1, 2, 3) == [6]
    assert packed(Config(entry_commands_max=4), 1, 2, 3) == [3, 3]
    assert packed(Config(entry_commands_max=4), 9) == [4, 4, 1]
    assert packed(Config(entry_bytes_max=1), 3) == [1, 1, 1], "a larger command goes alone"
    assert packed(Config(), 0) == []


def test_refusals_are_results_that_a_client_can_read() -> None:
    busy = wire.Result.FromString(busy_result(20)).error
    assert (busy.code, busy.retry_after_ms) == (wire.BUSY, 20)
    moved = wire.Result.FromString(error_result(wire.NOT_LEADER, "no", leader="n1:1")).error
    assert (moved.message, moved.leader) == ("no", "n1:1")
