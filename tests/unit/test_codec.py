"""Every message survives the wire, and whatever else arrives is refused as what it is."""

import dataclasses
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum_proto import peer_pb2
from kvorum_server.rpc.codec import (
    MalformedFrame,
    decode_frame,
    encode_frame,
    envelope_to_proto,
    parse_frame,
)
from kvorum_server.types import (
    AppendRequest,
    Configuration,
    Entry,
    EntryKind,
    Envelope,
    Member,
    Message,
    ReadRound,
    SnapshotChunk,
    SnapshotMeta,
    TimeoutNow,
)

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
PLAIN = {int: U64, bool: st.booleans(), bytes: st.binary()}

configurations = st.builds(
    Configuration,
    voters=st.lists(U64, max_size=5).map(tuple),
    outgoing=st.lists(U64, max_size=3).map(tuple),
    learners=st.lists(U64, max_size=3).map(tuple),
    members=st.lists(st.builds(Member, replica=U64, identity=U64), max_size=4).map(tuple),
    next_replica=U64,
    version=U64,
)


@st.composite
def append_requests(draw: st.DrawFn) -> AppendRequest:
    """Entries follow the previous index without a gap: others are refused."""
    previous_index = draw(st.integers(0, 2**63))
    kinds = draw(st.lists(st.sampled_from(EntryKind), max_size=4))
    entries = [
        Entry(
            index,
            draw(U64),
            kind,
            draw(U64),
            draw(U32),
            draw(configurations).encode() if kind is EntryKind.CONFIGURATION else draw(st.binary()),
        )
        for index, kind in enumerate(kinds, previous_index + 1)
    ]
    return AppendRequest(draw(U64), previous_index, draw(U64), tuple(entries), draw(U64))


snapshot_chunks = st.builds(
    SnapshotChunk,
    term=U64,
    transfer=U64,
    number=U64,
    meta=st.builds(SnapshotMeta, index=U64, term=U64, stamp=U64, configuration=configurations),
    rows=st.lists(st.tuples(st.binary(), st.binary()), max_size=4).map(tuple),
    checksum=U32,
    last=st.booleans(),
)


def messages_of(kind: type[typing.Any]) -> st.SearchStrategy[typing.Any]:
    """Any value of a message class; what is not a plain number has a strategy of its own."""
    if kind is AppendRequest:
        return append_requests()
    if kind is SnapshotChunk:
        return snapshot_chunks
    rounds = st.builds(ReadRound, boot=U64, counter=U64)
    types = typing.get_type_hints(kind)
    return st.builds(
        kind,
        **{f.name: PLAIN.get(types[f.name], rounds) for f in dataclasses.fields(kind)},
    )


KINDS = typing.get_args(Message)
envelopes = st.builds(
    Envelope,
    group=U32,
    source_replica=U64,
    target_replica=U64,
    message=st.one_of([messages_of(kind) for kind in KINDS]),
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_has_a_place_on_the_wire(kind: type[typing.Any]) -> None:
    @given(messages_of(kind))
    def survives(message: Message) -> None:
        envelope = Envelope(1, 2, 3, message)
        assert decode_frame(encode_frame([envelope])) == (envelope,)

    survives()


def test_the_wire_has_no_message_that_we_do_not_know() -> None:
    arms = {field.name for field in peer_pb2.Envelope.DESCRIPTOR.oneofs[0].fields}
    assert len(arms) == len(KINDS)


@given(st.lists(envelopes, max_size=5))
def test_a_frame_keeps_its_envelopes_in_order(sent: list[Envelope]) -> None:
    assert decode_frame(encode_frame(sent)) == tuple(sent)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_frame_or_malformed(data: bytes) -> None:
    try:
        frame = decode_frame(data)
    except MalformedFrame:
        return
    assert decode_frame(encode_frame(frame)) == frame


@given(st.lists(envelopes, min_size=1, max_size=3), st.data())
def test_a_mutated_frame_is_a_frame_or_malformed(sent: list[Envelope], data: st.DataObject) -> None:
    mutated = bytearray(encode_frame(sent))
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        frame = decode_frame(bytes(mutated))
    except MalformedFrame:
        return
    assert all(isinstance(envelope, Envelope) for envelope in frame)


def entry(index: int, kind: int, payload: bytes = b"") -> peer_pb2.Entry:
    return peer_pb2.Entry(index=index, kind=kind, payload=payload)


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (peer_pb2.Envelope(group=1), "without a message"),
        (
            peer_pb2.Envelope(append_request=peer_pb2.AppendRequest(entries=[entry(2, 0)])),
            "entry 2 where 1 belongs",
        ),
        (
            peer_pb2.Envelope(append_request=peer_pb2.AppendRequest(entries=[entry(1, 9)])),
            "unknown kind 9",
        ),
        (
            peer_pb2.Envelope(
                append_request=peer_pb2.AppendRequest(entries=[entry(1, 2, b"\xff")])
            ),
            "no configuration",
        ),
        (
            peer_pb2.Envelope(
                snapshot_chunk=peer_pb2.SnapshotChunk(meta=peer_pb2.SnapshotMeta(format=2))
            ),
            "a snapshot of format 2; this version reads 1",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_message_that_makes_no_sense_says_why(proto: peer_pb2.Envelope, reason: str) -> None:
    data = peer_pb2.PeerFrame(envelopes=[proto]).SerializeToString()
    with pytest.raises(MalformedFrame, match=reason):
        decode_frame(data)


def test_fields_of_a_later_version_are_no_reason_to_refuse_a_frame() -> None:
    proto = envelope_to_proto(Envelope(1, 2, 3, TimeoutNow(4)))
    proto.MergeFromString(b"\xf8\x07\x01")  # field 127
    frame = peer_pb2.PeerFrame(envelopes=[proto]).SerializeToString()
    assert decode_frame(frame) == (Envelope(1, 2, 3, TimeoutNow(4)),)
    assert len(parse_frame(frame).envelopes) == 1
