from kvorum_proto import backup_pb2 as _backup_pb2
from kvorum_proto import command_pb2 as _command_pb2
from kvorum_proto import kv_pb2 as _kv_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GroupStatus(_message.Message):
    __slots__ = ("group", "replica", "role", "term", "leader", "commit", "applied", "log_first", "log_last", "checkpoint", "revision", "compacted_revision", "log_time", "sessions", "lag", "rebuilding", "compared_index", "compared_log_time", "comparison", "differs", "replicas", "waiting")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    LOG_FIRST_FIELD_NUMBER: _ClassVar[int]
    LOG_LAST_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    COMPACTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    LOG_TIME_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    REBUILDING_FIELD_NUMBER: _ClassVar[int]
    COMPARED_INDEX_FIELD_NUMBER: _ClassVar[int]
    COMPARED_LOG_TIME_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    DIFFERS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    group: int
    replica: int
    role: str
    term: int
    leader: str
    commit: int
    applied: int
    log_first: int
    log_last: int
    checkpoint: int
    revision: int
    compacted_revision: int
    log_time: int
    sessions: int
    lag: int
    rebuilding: bool
    compared_index: int
    compared_log_time: int
    comparison: str
    differs: bool
    replicas: _containers.RepeatedCompositeFieldContainer[ReplicaStatus]
    waiting: str
    def __init__(self, group: _Optional[int] = ..., replica: _Optional[int] = ..., role: _Optional[str] = ..., term: _Optional[int] = ..., leader: _Optional[str] = ..., commit: _Optional[int] = ..., applied: _Optional[int] = ..., log_first: _Optional[int] = ..., log_last: _Optional[int] = ..., checkpoint: _Optional[int] = ..., revision: _Optional[int] = ..., compacted_revision: _Optional[int] = ..., log_time: _Optional[int] = ..., sessions: _Optional[int] = ..., lag: _Optional[int] = ..., rebuilding: bool = ..., compared_index: _Optional[int] = ..., compared_log_time: _Optional[int] = ..., comparison: _Optional[str] = ..., differs: bool = ..., replicas: _Optional[_Iterable[_Union[ReplicaStatus, _Mapping]]] = ..., waiting: _Optional[str] = ...) -> None: ...

class ReplicaStatus(_message.Message):
    __slots__ = ("replica", "identity", "role", "matched")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    replica: int
    identity: int
    role: str
    matched: int
    def __init__(self, replica: _Optional[int] = ..., identity: _Optional[int] = ..., role: _Optional[str] = ..., matched: _Optional[int] = ...) -> None: ...

class MemberStatus(_message.Message):
    __slots__ = ("identity", "name", "address", "connected", "learner", "leaving", "expected", "replaces")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    identity: int
    name: str
    address: str
    connected: bool
    learner: bool
    leaving: bool
    expected: bool
    replaces: str
    def __init__(self, identity: _Optional[int] = ..., name: _Optional[str] = ..., address: _Optional[str] = ..., connected: bool = ..., learner: bool = ..., leaving: bool = ..., expected: bool = ..., replaces: _Optional[str] = ...) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("cluster_id", "identity", "name", "version", "protocol", "level", "groups", "members", "disk_bytes", "disk_free_bytes", "resident_bytes", "uptime_seconds", "loop_lag_ms", "alarms", "table")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LOOP_LAG_MS_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    cluster_id: bytes
    identity: int
    name: str
    version: str
    protocol: str
    level: int
    groups: _containers.RepeatedCompositeFieldContainer[GroupStatus]
    members: _containers.RepeatedCompositeFieldContainer[MemberStatus]
    disk_bytes: int
    disk_free_bytes: int
    resident_bytes: int
    uptime_seconds: float
    loop_lag_ms: float
    alarms: _containers.RepeatedScalarFieldContainer[str]
    table: _kv_pb2.PartitionTable
    def __init__(self, cluster_id: _Optional[bytes] = ..., identity: _Optional[int] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., protocol: _Optional[str] = ..., level: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[GroupStatus, _Mapping]]] = ..., members: _Optional[_Iterable[_Union[MemberStatus, _Mapping]]] = ..., disk_bytes: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ..., resident_bytes: _Optional[int] = ..., uptime_seconds: _Optional[float] = ..., loop_lag_ms: _Optional[float] = ..., alarms: _Optional[_Iterable[str]] = ..., table: _Optional[_Union[_kv_pb2.PartitionTable, _Mapping]] = ...) -> None: ...

class TransferRequest(_message.Message):
    __slots__ = ("group", "target")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    group: int
    target: str
    def __init__(self, group: _Optional[int] = ..., target: _Optional[str] = ...) -> None: ...

class TransferResponse(_message.Message):
    __slots__ = ("leader",)
    LEADER_FIELD_NUMBER: _ClassVar[int]
    leader: str
    def __init__(self, leader: _Optional[str] = ...) -> None: ...

class CompareRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CompareResponse(_message.Message):
    __slots__ = ("groups",)
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, groups: _Optional[_Iterable[int]] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ("group", "revision_min")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    REVISION_MIN_FIELD_NUMBER: _ClassVar[int]
    group: int
    revision_min: int
    def __init__(self, group: _Optional[int] = ..., revision_min: _Optional[int] = ...) -> None: ...

class BackupChunk(_message.Message):
    __slots__ = ("error", "start", "items", "count", "checksum", "last")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    error: _command_pb2.Error
    start: BackupStart
    items: bytes
    count: int
    checksum: bytes
    last: bool
    def __init__(self, error: _Optional[_Union[_command_pb2.Error, _Mapping]] = ..., start: _Optional[_Union[BackupStart, _Mapping]] = ..., items: _Optional[bytes] = ..., count: _Optional[int] = ..., checksum: _Optional[bytes] = ..., last: bool = ...) -> None: ...

class BackupStart(_message.Message):
    __slots__ = ("header", "group")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    header: _backup_pb2.BackupHeader
    group: _backup_pb2.BackupGroup
    def __init__(self, header: _Optional[_Union[_backup_pb2.BackupHeader, _Mapping]] = ..., group: _Optional[_Union[_backup_pb2.BackupGroup, _Mapping]] = ...) -> None: ...
