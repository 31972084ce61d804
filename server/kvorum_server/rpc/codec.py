"""Envelopes as bytes: the only place that knows how messages between replicas look on the wire.

Every message dataclass of ``types`` has one arm in ``peer.proto``; the two tables below pair an
encoder and a decoder with it, and the contract test asserts that nothing is missing on either
side. Decoding is the edge of trust: whatever bytes arrive, the outcome is a value or
:class:`MalformedFrame`.
"""

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import DecodeError

from kvorum_proto import peer_pb2
from kvorum_server.types import (
    AppendRequest,
    AppendResponse,
    Configuration,
    Entry,
    EntryKind,
    Envelope,
    Farewell,
    GroupCall,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    ReadRound,
    ReplicaRemoved,
    SnapshotChunk,
    SnapshotMeta,
    SnapshotResponse,
    SnapshotWanted,
    StateDamage,
    StateHash,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)

SNAPSHOT_FORMAT = 1


class MalformedFrame(ValueError):
    """Bytes from the network that are no frame of ours; the stream they came from is closed."""


def encode_frame(envelopes: Iterable[Envelope]) -> bytes:
    """A PeerFrame with these envelopes.

    >>> frame = encode_frame([Envelope(1, 1, 2, TimeoutNow(term=3))])
    >>> decode_frame(frame)
    (Envelope(group=1, source_replica=1, target_replica=2, message=TimeoutNow(term=3)),)
    """
    frame = peer_pb2.PeerFrame(envelopes=map(envelope_to_proto, envelopes))
    return frame.SerializeToString()


def parse_frame(data: bytes) -> peer_pb2.PeerFrame:
    """The frame itself, envelopes still undecoded; raises MalformedFrame."""
    try:
        return peer_pb2.PeerFrame.FromString(data)
    except DecodeError as error:
        raise MalformedFrame(f"not a peer frame: {error}") from None


def decode_frame(data: bytes) -> tuple[Envelope, ...]:
    """The envelopes of a frame; raises MalformedFrame."""
    return tuple(map(envelope_from_proto, parse_frame(data).envelopes))


def envelope_to_proto(envelope: Envelope) -> peer_pb2.Envelope:
    """The wire form of one envelope."""
    message = envelope.message
    arm, encode = _ENCODERS[type(message)]
    body: dict[str, Any] = {arm: encode(message)}
    return peer_pb2.Envelope(
        group=envelope.group,
        source_replica=envelope.source_replica,
        target_replica=envelope.target_replica,
        **body,
    )


def envelope_from_proto(proto: peer_pb2.Envelope) -> Envelope:
    """The value of a wire form; raises MalformedFrame."""
    arm = proto.WhichOneof("message")
    if arm is None:
        raise MalformedFrame("an envelope without a message that this version knows")
    return Envelope(
        proto.group, proto.source_replica, proto.target_replica, _DECODERS[arm](getattr(proto, arm))
    )


def _encode_append_request(message: AppendRequest) -> peer_pb2.AppendRequest:
    return peer_pb2.AppendRequest(
        term=message.term,
        previous_index=message.previous_index,
        previous_term=message.previous_term,
        entries=[
            peer_pb2.Entry(
                index=entry.index,
                term=entry.term,
                kind=entry.kind,
                stamp=entry.stamp,
                level=entry.level,
                payload=entry.payload,
            )
            for entry in message.entries
        ],
        commit=message.commit,
    )


def _decode_append_request(proto: peer_pb2.AppendRequest) -> AppendRequest:
    index = proto.previous_index
    entries = []
    for entry in proto.entries:
        index += 1
        if entry.index != index:
            raise MalformedFrame(f"an append with entry {entry.index} where {index} belongs")
        entries.append(_decode_entry(entry))
    return AppendRequest(
        proto.term, proto.previous_index, proto.previous_term, tuple(entries), proto.commit
    )


def _decode_entry(proto: peer_pb2.Entry) -> Entry:
    try:
        kind = EntryKind(proto.kind)
    except ValueError:
        raise MalformedFrame(f"entry {proto.index} is of unknown kind {proto.kind}") from None
    if kind is EntryKind.CONFIGURATION:
        try:
            Configuration.decode(proto.payload)
        except DecodeError as error:
            raise MalformedFrame(f"entry {proto.index} is no configuration: {error}") from None
    return Entry(proto.index, proto.term, kind, proto.stamp, proto.level, proto.payload)


def _encode_heartbeat_request(message: HeartbeatRequest) -> peer_pb2.HeartbeatRequest:
    return peer_pb2.HeartbeatRequest(
        term=message.term,
        commit=message.commit,
        round_boot=message.round.boot,
        round_counter=message.round.counter,
        echo=message.echo,
        disk_full=message.disk_full,
    )


def _decode_heartbeat_request(proto: peer_pb2.HeartbeatRequest) -> HeartbeatRequest:
    read_round = ReadRound(proto.round_boot, proto.round_counter)
    return HeartbeatRequest(proto.term, proto.commit, read_round, proto.echo, proto.disk_full)


def _encode_heartbeat_response(message: HeartbeatResponse) -> peer_pb2.HeartbeatResponse:
    return peer_pb2.HeartbeatResponse(
        term=message.term,
        round_boot=message.round.boot,
        round_counter=message.round.counter,
        sent_at=message.sent_at,
        disk_full=message.disk_full,
    )


def _decode_heartbeat_response(proto: peer_pb2.HeartbeatResponse) -> HeartbeatResponse:
    read_round = ReadRound(proto.round_boot, proto.round_counter)
    return HeartbeatResponse(proto.term, read_round, proto.sent_at, proto.disk_full)


def _encode_snapshot_chunk(message: SnapshotChunk) -> peer_pb2.SnapshotChunk:
    meta = message.meta
    return peer_pb2.SnapshotChunk(
        term=message.term,
        transfer=message.transfer,
        number=message.number,
        meta=peer_pb2.SnapshotMeta(
            index=meta.index,
            term=meta.term,
            stamp=meta.stamp,
            configuration=meta.configuration.to_proto(),
            format=SNAPSHOT_FORMAT,
        ),
        rows=[peer_pb2.Row(key=key, value=value) for key, value in message.rows],
        checksum=message.checksum,
        last=message.last,
    )


def _decode_snapshot_chunk(proto: peer_pb2.SnapshotChunk) -> SnapshotChunk:
    if proto.meta.format != SNAPSHOT_FORMAT:
        raise MalformedFrame(
            f"a snapshot of format {proto.meta.format}; this version reads {SNAPSHOT_FORMAT}"
        )
    configuration = Configuration.from_proto(proto.meta.configuration)
    return SnapshotChunk(
        proto.term,
        proto.transfer,
        proto.number,
        SnapshotMeta(proto.meta.index, proto.meta.term, proto.meta.stamp, configuration),
        tuple((row.key, row.value) for row in proto.rows),
        proto.checksum,
        proto.last,
    )


def _plain(value_type: type[Any], proto_type: type[Any]) -> tuple[Any, Any]:
    """Encoder and decoder of a message whose fields have the same names and plain types on both
    sides.
    """
    names = tuple(value_type.__slots__)

    def encode(message: Any) -> Any:
        return proto_type(**{name: getattr(message, name) for name in names})

    def decode(proto: Any) -> Any:
        return value_type(*(getattr(proto, name) for name in names))

    return encode, decode


_CODECS: dict[type[Any], tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    PreVoteRequest: ("pre_vote_request", *_plain(PreVoteRequest, peer_pb2.PreVoteRequest)),
    PreVoteResponse: ("pre_vote_response", *_plain(PreVoteResponse, peer_pb2.PreVoteResponse)),
    VoteRequest: ("vote_request", *_plain(VoteRequest, peer_pb2.VoteRequest)),
    VoteResponse: ("vote_response", *_plain(VoteResponse, peer_pb2.VoteResponse)),
    AppendRequest: ("append_request", _encode_append_request, _decode_append_request),
    AppendResponse: ("append_response", *_plain(AppendResponse, peer_pb2.AppendResponse)),
    HeartbeatRequest: ("heartbeat_request", _encode_heartbeat_request, _decode_heartbeat_request),
    HeartbeatResponse: (
        "heartbeat_response",
        _encode_heartbeat_response,
        _decode_heartbeat_response,
    ),
    TimeoutNow: ("timeout_now", *_plain(TimeoutNow, peer_pb2.TimeoutNow)),
    Farewell: ("farewell", *_plain(Farewell, peer_pb2.Farewell)),
    SnapshotChunk: ("snapshot_chunk", _encode_snapshot_chunk, _decode_snapshot_chunk),
    SnapshotResponse: ("snapshot_response", *_plain(SnapshotResponse, peer_pb2.SnapshotResponse)),
    ReplicaRemoved: ("replica_removed", *_plain(ReplicaRemoved, peer_pb2.ReplicaRemoved)),
    GroupCall: ("group_call", *_plain(GroupCall, peer_pb2.GroupCall)),
    StateHash: ("state_hash", *_plain(StateHash, peer_pb2.StateHash)),
    StateDamage: ("state_damage", *_plain(StateDamage, peer_pb2.StateDamage)),
    SnapshotWanted: ("snapshot_wanted", *_plain(SnapshotWanted, peer_pb2.SnapshotWanted)),
}

_ENCODERS: dict[type[Any], tuple[str, Callable[[Any], Any]]] = {
    value_type: (arm, encode) for value_type, (arm, encode, _) in _CODECS.items()
}
_DECODERS: dict[str, Callable[[Any], Message]] = {
    arm: decode for arm, _, decode in _CODECS.values()
}
