from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PeerHello(_message.Message):
    __slots__ = ("wire_version_min", "wire_version_max", "cluster_id", "identity", "boot", "supported_level", "name", "initial_cluster_hash", "fresh", "process", "address", "joining", "log_end", "recovered_end")
    WIRE_VERSION_MIN_FIELD_NUMBER: _ClassVar[int]
    WIRE_VERSION_MAX_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_LEVEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    INITIAL_CLUSTER_HASH_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    JOINING_FIELD_NUMBER: _ClassVar[int]
    LOG_END_FIELD_NUMBER: _ClassVar[int]
    RECOVERED_END_FIELD_NUMBER: _ClassVar[int]
    wire_version_min: int
    wire_version_max: int
    cluster_id: bytes
    identity: int
    boot: int
    supported_level: int
    name: str
    initial_cluster_hash: bytes
    fresh: bool
    process: int
    address: str
    joining: bool
    log_end: LogPosition
    recovered_end: LogPosition
    def __init__(self, wire_version_min: _Optional[int] = ..., wire_version_max: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., identity: _Optional[int] = ..., boot: _Optional[int] = ..., supported_level: _Optional[int] = ..., name: _Optional[str] = ..., initial_cluster_hash: _Optional[bytes] = ..., fresh: bool = ..., process: _Optional[int] = ..., address: _Optional[str] = ..., joining: bool = ..., log_end: _Optional[_Union[LogPosition, _Mapping]] = ..., recovered_end: _Optional[_Union[LogPosition, _Mapping]] = ...) -> None: ...

class LogPosition(_message.Message):
    __slots__ = ("segment", "offset")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    segment: int
    offset: int
    def __init__(self, segment: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class Bootstrap(_message.Message):
    __slots__ = ("cluster_id", "members", "partitions", "replicas", "protocol", "initial_cluster_hash", "settings", "recovered_from")
    class SettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    INITIAL_CLUSTER_HASH_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    RECOVERED_FROM_FIELD_NUMBER: _ClassVar[int]
    cluster_id: bytes
    members: _containers.RepeatedCompositeFieldContainer[InitialMember]
    partitions: int
    replicas: int
    protocol: str
    initial_cluster_hash: bytes
    settings: _containers.ScalarMap[str, int]
    recovered_from: bytes
    def __init__(self, cluster_id: _Optional[bytes] = ..., members: _Optional[_Iterable[_Union[InitialMember, _Mapping]]] = ..., partitions: _Optional[int] = ..., replicas: _Optional[int] = ..., protocol: _Optional[str] = ..., initial_cluster_hash: _Optional[bytes] = ..., settings: _Optional[_Mapping[str, int]] = ..., recovered_from: _Optional[bytes] = ...) -> None: ...

class InitialMember(_message.Message):
    __slots__ = ("identity", "name", "address")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    identity: int
    name: str
    address: str
    def __init__(self, identity: _Optional[int] = ..., name: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class PeerFrame(_message.Message):
    __slots__ = ("hello", "bootstrap", "envelopes", "members", "log_end", "refusal")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BOOTSTRAP_FIELD_NUMBER: _ClassVar[int]
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    LOG_END_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    hello: PeerHello
    bootstrap: Bootstrap
    envelopes: _containers.RepeatedCompositeFieldContainer[Envelope]
    members: _containers.RepeatedCompositeFieldContainer[InitialMember]
    log_end: LogPosition
    refusal: str
    def __init__(self, hello: _Optional[_Union[PeerHello, _Mapping]] = ..., bootstrap: _Optional[_Union[Bootstrap, _Mapping]] = ..., envelopes: _Optional[_Iterable[_Union[Envelope, _Mapping]]] = ..., members: _Optional[_Iterable[_Union[InitialMember, _Mapping]]] = ..., log_end: _Optional[_Union[LogPosition, _Mapping]] = ..., refusal: _Optional[str] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("group", "source_replica", "target_replica", "pre_vote_request", "pre_vote_response", "vote_request", "vote_response", "append_request", "append_response", "heartbeat_request", "heartbeat_response", "timeout_now", "farewell", "snapshot_chunk", "snapshot_response", "replica_removed", "group_call", "state_hash", "state_damage", "snapshot_wanted")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SOURCE_REPLICA_FIELD_NUMBER: _ClassVar[int]
    TARGET_REPLICA_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    VOTE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    VOTE_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    APPEND_REQUEST_FIELD_NUMBER: _ClassVar[int]
    APPEND_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_REQUEST_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_NOW_FIELD_NUMBER: _ClassVar[int]
    FAREWELL_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    REPLICA_REMOVED_FIELD_NUMBER: _ClassVar[int]
    GROUP_CALL_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    STATE_DAMAGE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_WANTED_FIELD_NUMBER: _ClassVar[int]
    group: int
    source_replica: int
    target_replica: int
    pre_vote_request: PreVoteRequest
    pre_vote_response: PreVoteResponse
    vote_request: VoteRequest
    vote_response: VoteResponse
    append_request: AppendRequest
    append_response: AppendResponse
    heartbeat_request: HeartbeatRequest
    heartbeat_response: HeartbeatResponse
    timeout_now: TimeoutNow
    farewell: Farewell
    snapshot_chunk: SnapshotChunk
    snapshot_response: SnapshotResponse
    replica_removed: ReplicaRemoved
    group_call: GroupCall
    state_hash: StateHash
    state_damage: StateDamage
    snapshot_wanted: SnapshotWanted
    def __init__(self, group: _Optional[int] = ..., source_replica: _Optional[int] = ..., target_replica: _Optional[int] = ..., pre_vote_request: _Optional[_Union[PreVoteRequest, _Mapping]] = ..., pre_vote_response: _Optional[_Union[PreVoteResponse, _Mapping]] = ..., vote_request: _Optional[_Union[VoteRequest, _Mapping]] = ..., vote_response: _Optional[_Union[VoteResponse, _Mapping]] = ..., append_request: _Optional[_Union[AppendRequest, _Mapping]] = ..., append_response: _Optional[_Union[AppendResponse, _Mapping]] = ..., heartbeat_request: _Optional[_Union[HeartbeatRequest, _Mapping]] = ..., heartbeat_response: _Optional[_Union[HeartbeatResponse, _Mapping]] = ..., timeout_now: _Optional[_Union[TimeoutNow, _Mapping]] = ..., farewell: _Optional[_Union[Farewell, _Mapping]] = ..., snapshot_chunk: _Optional[_Union[SnapshotChunk, _Mapping]] = ..., snapshot_response: _Optional[_Union[SnapshotResponse, _Mapping]] = ..., replica_removed: _Optional[_Union[ReplicaRemoved, _Mapping]] = ..., group_call: _Optional[_Union[GroupCall, _Mapping]] = ..., state_hash: _Optional[_Union[StateHash, _Mapping]] = ..., state_damage: _Optional[_Union[StateDamage, _Mapping]] = ..., snapshot_wanted: _Optional[_Union[SnapshotWanted, _Mapping]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("index", "term", "kind", "stamp", "level", "payload")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STAMP_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    index: int
    term: int
    kind: int
    stamp: int
    level: int
    payload: bytes
    def __init__(self, index: _Optional[int] = ..., term: _Optional[int] = ..., kind: _Optional[int] = ..., stamp: _Optional[int] = ..., level: _Optional[int] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("replica", "identity")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    replica: int
    identity: int
    def __init__(self, replica: _Optional[int] = ..., identity: _Optional[int] = ...) -> None: ...

class Configuration(_message.Message):
    __slots__ = ("voters", "outgoing", "learners", "members", "next_replica", "version")
    VOTERS_FIELD_NUMBER: _ClassVar[int]
    OUTGOING_FIELD_NUMBER: _ClassVar[int]
    LEARNERS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_REPLICA_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    voters: _containers.RepeatedScalarFieldContainer[int]
    outgoing: _containers.RepeatedScalarFieldContainer[int]
    learners: _containers.RepeatedScalarFieldContainer[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    next_replica: int
    version: int
    def __init__(self, voters: _Optional[_Iterable[int]] = ..., outgoing: _Optional[_Iterable[int]] = ..., learners: _Optional[_Iterable[int]] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., next_replica: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class PreVoteRequest(_message.Message):
    __slots__ = ("term", "last_index", "last_term", "connection_lost")
    TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_TERM_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_LOST_FIELD_NUMBER: _ClassVar[int]
    term: int
    last_index: int
    last_term: int
    connection_lost: bool
    def __init__(self, term: _Optional[int] = ..., last_index: _Optional[int] = ..., last_term: _Optional[int] = ..., connection_lost: bool = ...) -> None: ...

class PreVoteResponse(_message.Message):
    __slots__ = ("term", "granted")
    TERM_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    term: int
    granted: bool
    def __init__(self, term: _Optional[int] = ..., granted: bool = ...) -> None: ...

class VoteRequest(_message.Message):
    __slots__ = ("term", "last_index", "last_term", "transfer", "connection_lost")
    TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_TERM_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_LOST_FIELD_NUMBER: _ClassVar[int]
    term: int
    last_index: int
    last_term: int
    transfer: bool
    connection_lost: bool
    def __init__(self, term: _Optional[int] = ..., last_index: _Optional[int] = ..., last_term: _Optional[int] = ..., transfer: bool = ..., connection_lost: bool = ...) -> None: ...

class VoteResponse(_message.Message):
    __slots__ = ("term", "granted")
    TERM_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    term: int
    granted: bool
    def __init__(self, term: _Optional[int] = ..., granted: bool = ...) -> None: ...

class AppendRequest(_message.Message):
    __slots__ = ("term", "previous_index", "previous_term", "entries", "commit")
    TERM_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_INDEX_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_TERM_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    term: int
    previous_index: int
    previous_term: int
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    commit: int
    def __init__(self, term: _Optional[int] = ..., previous_index: _Optional[int] = ..., previous_term: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., commit: _Optional[int] = ...) -> None: ...

class AppendResponse(_message.Message):
    __slots__ = ("term", "accepted", "matched_index", "refused_index", "hint_index", "hint_term")
    TERM_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    MATCHED_INDEX_FIELD_NUMBER: _ClassVar[int]
    REFUSED_INDEX_FIELD_NUMBER: _ClassVar[int]
    HINT_INDEX_FIELD_NUMBER: _ClassVar[int]
    HINT_TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    accepted: bool
    matched_index: int
    refused_index: int
    hint_index: int
    hint_term: int
    def __init__(self, term: _Optional[int] = ..., accepted: bool = ..., matched_index: _Optional[int] = ..., refused_index: _Optional[int] = ..., hint_index: _Optional[int] = ..., hint_term: _Optional[int] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("term", "commit", "round_boot", "round_counter", "echo", "disk_full")
    TERM_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    ROUND_BOOT_FIELD_NUMBER: _ClassVar[int]
    ROUND_COUNTER_FIELD_NUMBER: _ClassVar[int]
    ECHO_FIELD_NUMBER: _ClassVar[int]
    DISK_FULL_FIELD_NUMBER: _ClassVar[int]
    term: int
    commit: int
    round_boot: int
    round_counter: int
    echo: int
    disk_full: bool
    def __init__(self, term: _Optional[int] = ..., commit: _Optional[int] = ..., round_boot: _Optional[int] = ..., round_counter: _Optional[int] = ..., echo: _Optional[int] = ..., disk_full: bool = ...) -> None: ...

class HeartbeatResponse(_message.Message):
    __slots__ = ("term", "round_boot", "round_counter", "sent_at", "disk_full")
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_BOOT_FIELD_NUMBER: _ClassVar[int]
    ROUND_COUNTER_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    DISK_FULL_FIELD_NUMBER: _ClassVar[int]
    term: int
    round_boot: int
    round_counter: int
    sent_at: int
    disk_full: bool
    def __init__(self, term: _Optional[int] = ..., round_boot: _Optional[int] = ..., round_counter: _Optional[int] = ..., sent_at: _Optional[int] = ..., disk_full: bool = ...) -> None: ...

class TimeoutNow(_message.Message):
    __slots__ = ("term",)
    TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    def __init__(self, term: _Optional[int] = ...) -> None: ...

class Farewell(_message.Message):
    __slots__ = ("term",)
    TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    def __init__(self, term: _Optional[int] = ...) -> None: ...

class SnapshotMeta(_message.Message):
    __slots__ = ("index", "term", "configuration", "stamp", "format")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    STAMP_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    index: int
    term: int
    configuration: Configuration
    stamp: int
    format: int
    def __init__(self, index: _Optional[int] = ..., term: _Optional[int] = ..., configuration: _Optional[_Union[Configuration, _Mapping]] = ..., stamp: _Optional[int] = ..., format: _Optional[int] = ...) -> None: ...

class Row(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("term", "transfer", "number", "meta", "rows", "checksum", "last")
    TERM_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    term: int
    transfer: int
    number: int
    meta: SnapshotMeta
    rows: _containers.RepeatedCompositeFieldContainer[Row]
    checksum: int
    last: bool
    def __init__(self, term: _Optional[int] = ..., transfer: _Optional[int] = ..., number: _Optional[int] = ..., meta: _Optional[_Union[SnapshotMeta, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[Row, _Mapping]]] = ..., checksum: _Optional[int] = ..., last: bool = ...) -> None: ...

class SnapshotResponse(_message.Message):
    __slots__ = ("term", "transfer", "next_number", "refused")
    TERM_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    NEXT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    term: int
    transfer: int
    next_number: int
    refused: bool
    def __init__(self, term: _Optional[int] = ..., transfer: _Optional[int] = ..., next_number: _Optional[int] = ..., refused: bool = ...) -> None: ...

class GroupCall(_message.Message):
    __slots__ = ("submission",)
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    submission: bytes
    def __init__(self, submission: _Optional[bytes] = ...) -> None: ...

class ReplicaRemoved(_message.Message):
    __slots__ = ("replica",)
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    replica: int
    def __init__(self, replica: _Optional[int] = ...) -> None: ...

class StateHash(_message.Message):
    __slots__ = ("index", "hash")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    index: int
    hash: int
    def __init__(self, index: _Optional[int] = ..., hash: _Optional[int] = ...) -> None: ...

class StateDamage(_message.Message):
    __slots__ = ("term", "index", "hash")
    TERM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    term: int
    index: int
    hash: int
    def __init__(self, term: _Optional[int] = ..., index: _Optional[int] = ..., hash: _Optional[int] = ...) -> None: ...

class SnapshotWanted(_message.Message):
    __slots__ = ("term",)
    TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    def __init__(self, term: _Optional[int] = ...) -> None: ...
