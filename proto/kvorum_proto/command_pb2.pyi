from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNSPECIFIED: _ClassVar[ErrorCode]
    MALFORMED: _ClassVar[ErrorCode]
    LIMIT_EXCEEDED: _ClassVar[ErrorCode]
    INVALID_REQUEST: _ClassVar[ErrorCode]
    NOT_AN_INTEGER: _ClassVar[ErrorCode]
    OUT_OF_BOUNDS: _ClassVar[ErrorCode]
    RANGE_TOO_LARGE: _ClassVar[ErrorCode]
    COMPACTED: _ClassVar[ErrorCode]
    FUTURE_REVISION: _ClassVar[ErrorCode]
    KEY_NOT_FOUND: _ClassVar[ErrorCode]
    LEASE_NOT_FOUND: _ClassVar[ErrorCode]
    SESSION_EXPIRED: _ClassVar[ErrorCode]
    STALE_SEQUENCE: _ClassVar[ErrorCode]
    WINDOW_EXCEEDED: _ClassVar[ErrorCode]
    WRONG_GROUP: _ClassVar[ErrorCode]
    NOT_LEADER: _ClassVar[ErrorCode]
    BUSY: _ClassVar[ErrorCode]
    UNAVAILABLE: _ClassVar[ErrorCode]
    DISK_FULL: _ClassVar[ErrorCode]
    TOO_STALE: _ClassVar[ErrorCode]
    UNCERTAIN: _ClassVar[ErrorCode]
UNSPECIFIED: ErrorCode
MALFORMED: ErrorCode
LIMIT_EXCEEDED: ErrorCode
INVALID_REQUEST: ErrorCode
NOT_AN_INTEGER: ErrorCode
OUT_OF_BOUNDS: ErrorCode
RANGE_TOO_LARGE: ErrorCode
COMPACTED: ErrorCode
FUTURE_REVISION: ErrorCode
KEY_NOT_FOUND: ErrorCode
LEASE_NOT_FOUND: ErrorCode
SESSION_EXPIRED: ErrorCode
STALE_SEQUENCE: ErrorCode
WINDOW_EXCEEDED: ErrorCode
WRONG_GROUP: ErrorCode
NOT_LEADER: ErrorCode
BUSY: ErrorCode
UNAVAILABLE: ErrorCode
DISK_FULL: ErrorCode
TOO_STALE: ErrorCode
UNCERTAIN: ErrorCode

class Submission(_message.Message):
    __slots__ = ("session", "sequence", "acknowledged_below", "principal", "auth_revision", "put", "delete", "delete_range", "txn", "increment", "compact", "session_open", "session_close", "hash_state", "set_member", "raise_level", "add_member", "replace_member", "join_member", "promote_member", "remove_member", "report_group", "recover_cluster")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_BELOW_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    AUTH_REVISION_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    TXN_FIELD_NUMBER: _ClassVar[int]
    INCREMENT_FIELD_NUMBER: _ClassVar[int]
    COMPACT_FIELD_NUMBER: _ClassVar[int]
    SESSION_OPEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_CLOSE_FIELD_NUMBER: _ClassVar[int]
    HASH_STATE_FIELD_NUMBER: _ClassVar[int]
    SET_MEMBER_FIELD_NUMBER: _ClassVar[int]
    RAISE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    ADD_MEMBER_FIELD_NUMBER: _ClassVar[int]
    REPLACE_MEMBER_FIELD_NUMBER: _ClassVar[int]
    JOIN_MEMBER_FIELD_NUMBER: _ClassVar[int]
    PROMOTE_MEMBER_FIELD_NUMBER: _ClassVar[int]
    REMOVE_MEMBER_FIELD_NUMBER: _ClassVar[int]
    REPORT_GROUP_FIELD_NUMBER: _ClassVar[int]
    RECOVER_CLUSTER_FIELD_NUMBER: _ClassVar[int]
    session: int
    sequence: int
    acknowledged_below: int
    principal: int
    auth_revision: int
    put: Put
    delete: Delete
    delete_range: DeleteRange
    txn: Txn
    increment: Increment
    compact: Compact
    session_open: SessionOpen
    session_close: SessionClose
    hash_state: HashState
    set_member: SetMember
    raise_level: RaiseLevel
    add_member: AddMember
    replace_member: ReplaceMember
    join_member: JoinMember
    promote_member: PromoteMember
    remove_member: RemoveMember
    report_group: ReportGroup
    recover_cluster: RecoverCluster
    def __init__(self, session: _Optional[int] = ..., sequence: _Optional[int] = ..., acknowledged_below: _Optional[int] = ..., principal: _Optional[int] = ..., auth_revision: _Optional[int] = ..., put: _Optional[_Union[Put, _Mapping]] = ..., delete: _Optional[_Union[Delete, _Mapping]] = ..., delete_range: _Optional[_Union[DeleteRange, _Mapping]] = ..., txn: _Optional[_Union[Txn, _Mapping]] = ..., increment: _Optional[_Union[Increment, _Mapping]] = ..., compact: _Optional[_Union[Compact, _Mapping]] = ..., session_open: _Optional[_Union[SessionOpen, _Mapping]] = ..., session_close: _Optional[_Union[SessionClose, _Mapping]] = ..., hash_state: _Optional[_Union[HashState, _Mapping]] = ..., set_member: _Optional[_Union[SetMember, _Mapping]] = ..., raise_level: _Optional[_Union[RaiseLevel, _Mapping]] = ..., add_member: _Optional[_Union[AddMember, _Mapping]] = ..., replace_member: _Optional[_Union[ReplaceMember, _Mapping]] = ..., join_member: _Optional[_Union[JoinMember, _Mapping]] = ..., promote_member: _Optional[_Union[PromoteMember, _Mapping]] = ..., remove_member: _Optional[_Union[RemoveMember, _Mapping]] = ..., report_group: _Optional[_Union[ReportGroup, _Mapping]] = ..., recover_cluster: _Optional[_Union[RecoverCluster, _Mapping]] = ...) -> None: ...

class CommandBatch(_message.Message):
    __slots__ = ("submissions",)
    SUBMISSIONS_FIELD_NUMBER: _ClassVar[int]
    submissions: _containers.RepeatedCompositeFieldContainer[Submission]
    def __init__(self, submissions: _Optional[_Iterable[_Union[Submission, _Mapping]]] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("key", "value", "create_revision", "mod_revision", "version", "lease")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CREATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    MOD_REVISION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., create_revision: _Optional[int] = ..., mod_revision: _Optional[int] = ..., version: _Optional[int] = ..., lease: _Optional[int] = ...) -> None: ...

class Put(_message.Message):
    __slots__ = ("key", "value", "lease", "previous", "ignore_value", "ignore_lease")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_VALUE_FIELD_NUMBER: _ClassVar[int]
    IGNORE_LEASE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    lease: int
    previous: bool
    ignore_value: bool
    ignore_lease: bool
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., lease: _Optional[int] = ..., previous: bool = ..., ignore_value: bool = ..., ignore_lease: bool = ...) -> None: ...

class Delete(_message.Message):
    __slots__ = ("key", "previous")
    KEY_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    previous: bool
    def __init__(self, key: _Optional[bytes] = ..., previous: bool = ...) -> None: ...

class DeleteRange(_message.Message):
    __slots__ = ("key", "range_end", "previous", "atomic")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RANGE_END_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    ATOMIC_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    range_end: bytes
    previous: bool
    atomic: bool
    def __init__(self, key: _Optional[bytes] = ..., range_end: _Optional[bytes] = ..., previous: bool = ..., atomic: bool = ...) -> None: ...

class Increment(_message.Message):
    __slots__ = ("key", "by", "minimum", "maximum")
    KEY_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    by: int
    minimum: int
    maximum: int
    def __init__(self, key: _Optional[bytes] = ..., by: _Optional[int] = ..., minimum: _Optional[int] = ..., maximum: _Optional[int] = ...) -> None: ...

class Txn(_message.Message):
    __slots__ = ("compares", "success", "failure")
    COMPARES_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    compares: _containers.RepeatedCompositeFieldContainer[Compare]
    success: _containers.RepeatedCompositeFieldContainer[Operation]
    failure: _containers.RepeatedCompositeFieldContainer[Operation]
    def __init__(self, compares: _Optional[_Iterable[_Union[Compare, _Mapping]]] = ..., success: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ..., failure: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ...) -> None: ...

class Compare(_message.Message):
    __slots__ = ("relation", "key", "range_end", "value", "version", "create_revision", "mod_revision", "lease")
    class Relation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EQUAL: _ClassVar[Compare.Relation]
        NOT_EQUAL: _ClassVar[Compare.Relation]
        LESS: _ClassVar[Compare.Relation]
        GREATER: _ClassVar[Compare.Relation]
    EQUAL: Compare.Relation
    NOT_EQUAL: Compare.Relation
    LESS: Compare.Relation
    GREATER: Compare.Relation
    RELATION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RANGE_END_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATE_REVISION_FIELD_NUMBER: _ClassVar[int]
    MOD_REVISION_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    relation: Compare.Relation
    key: bytes
    range_end: bytes
    value: bytes
    version: int
    create_revision: int
    mod_revision: int
    lease: int
    def __init__(self, relation: _Optional[_Union[Compare.Relation, str]] = ..., key: _Optional[bytes] = ..., range_end: _Optional[bytes] = ..., value: _Optional[bytes] = ..., version: _Optional[int] = ..., create_revision: _Optional[int] = ..., mod_revision: _Optional[int] = ..., lease: _Optional[int] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("put", "delete", "delete_range", "increment", "range", "txn")
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    INCREMENT_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    TXN_FIELD_NUMBER: _ClassVar[int]
    put: Put
    delete: Delete
    delete_range: DeleteRange
    increment: Increment
    range: Range
    txn: Txn
    def __init__(self, put: _Optional[_Union[Put, _Mapping]] = ..., delete: _Optional[_Union[Delete, _Mapping]] = ..., delete_range: _Optional[_Union[DeleteRange, _Mapping]] = ..., increment: _Optional[_Union[Increment, _Mapping]] = ..., range: _Optional[_Union[Range, _Mapping]] = ..., txn: _Optional[_Union[Txn, _Mapping]] = ...) -> None: ...

class Compact(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class SessionOpen(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SessionClose(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: int
    def __init__(self, session: _Optional[int] = ...) -> None: ...

class HashState(_message.Message):
    __slots__ = ("format",)
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    format: int
    def __init__(self, format: _Optional[int] = ...) -> None: ...

class SetMember(_message.Message):
    __slots__ = ("identity", "name", "address", "supported_level")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_LEVEL_FIELD_NUMBER: _ClassVar[int]
    identity: int
    name: str
    address: str
    supported_level: int
    def __init__(self, identity: _Optional[int] = ..., name: _Optional[str] = ..., address: _Optional[str] = ..., supported_level: _Optional[int] = ...) -> None: ...

class RaiseLevel(_message.Message):
    __slots__ = ("level",)
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: int
    def __init__(self, level: _Optional[int] = ...) -> None: ...

class AddMember(_message.Message):
    __slots__ = ("name", "address", "learner")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    name: str
    address: str
    learner: bool
    def __init__(self, name: _Optional[str] = ..., address: _Optional[str] = ..., learner: bool = ...) -> None: ...

class ReplaceMember(_message.Message):
    __slots__ = ("name", "new_name", "address")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NEW_NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    name: str
    new_name: str
    address: str
    def __init__(self, name: _Optional[str] = ..., new_name: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class JoinMember(_message.Message):
    __slots__ = ("identity", "name", "address", "supported_level")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_LEVEL_FIELD_NUMBER: _ClassVar[int]
    identity: int
    name: str
    address: str
    supported_level: int
    def __init__(self, identity: _Optional[int] = ..., name: _Optional[str] = ..., address: _Optional[str] = ..., supported_level: _Optional[int] = ...) -> None: ...

class PromoteMember(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RemoveMember(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ReportGroup(_message.Message):
    __slots__ = ("report",)
    REPORT_FIELD_NUMBER: _ClassVar[int]
    report: GroupReport
    def __init__(self, report: _Optional[_Union[GroupReport, _Mapping]] = ...) -> None: ...

class RecoverCluster(_message.Message):
    __slots__ = ("survivor", "groups")
    SURVIVOR_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    survivor: MemberInfo
    groups: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, survivor: _Optional[_Union[MemberInfo, _Mapping]] = ..., groups: _Optional[_Iterable[int]] = ...) -> None: ...

class MemberInfo(_message.Message):
    __slots__ = ("identity", "name", "address", "supported_level", "learner", "leaving_since")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_LEVEL_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    LEAVING_SINCE_FIELD_NUMBER: _ClassVar[int]
    identity: int
    name: str
    address: str
    supported_level: int
    learner: bool
    leaving_since: int
    def __init__(self, identity: _Optional[int] = ..., name: _Optional[str] = ..., address: _Optional[str] = ..., supported_level: _Optional[int] = ..., learner: bool = ..., leaving_since: _Optional[int] = ...) -> None: ...

class ExpectedMember(_message.Message):
    __slots__ = ("name", "address", "learner", "replaces")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    name: str
    address: str
    learner: bool
    replaces: int
    def __init__(self, name: _Optional[str] = ..., address: _Optional[str] = ..., learner: bool = ..., replaces: _Optional[int] = ...) -> None: ...

class Seat(_message.Message):
    __slots__ = ("identity", "voter", "replaces")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    identity: int
    voter: bool
    replaces: int
    def __init__(self, identity: _Optional[int] = ..., voter: bool = ..., replaces: _Optional[int] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("group", "version", "seats")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SEATS_FIELD_NUMBER: _ClassVar[int]
    group: int
    version: int
    seats: _containers.RepeatedCompositeFieldContainer[Seat]
    def __init__(self, group: _Optional[int] = ..., version: _Optional[int] = ..., seats: _Optional[_Iterable[_Union[Seat, _Mapping]]] = ...) -> None: ...

class GroupReport(_message.Message):
    __slots__ = ("group", "index", "version", "voters", "learners", "next_replica")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VOTERS_FIELD_NUMBER: _ClassVar[int]
    LEARNERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_REPLICA_FIELD_NUMBER: _ClassVar[int]
    group: int
    index: int
    version: int
    voters: _containers.RepeatedScalarFieldContainer[int]
    learners: _containers.RepeatedScalarFieldContainer[int]
    next_replica: int
    def __init__(self, group: _Optional[int] = ..., index: _Optional[int] = ..., version: _Optional[int] = ..., voters: _Optional[_Iterable[int]] = ..., learners: _Optional[_Iterable[int]] = ..., next_replica: _Optional[int] = ...) -> None: ...

class Query(_message.Message):
    __slots__ = ("get", "range", "members", "consistency", "staleness_ms_max")
    class Consistency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LINEARIZABLE: _ClassVar[Query.Consistency]
        STALE: _ClassVar[Query.Consistency]
    LINEARIZABLE: Query.Consistency
    STALE: Query.Consistency
    GET_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    STALENESS_MS_MAX_FIELD_NUMBER: _ClassVar[int]
    get: Get
    range: Range
    members: MembersQuery
    consistency: Query.Consistency
    staleness_ms_max: int
    def __init__(self, get: _Optional[_Union[Get, _Mapping]] = ..., range: _Optional[_Union[Range, _Mapping]] = ..., members: _Optional[_Union[MembersQuery, _Mapping]] = ..., consistency: _Optional[_Union[Query.Consistency, str]] = ..., staleness_ms_max: _Optional[int] = ...) -> None: ...

class Get(_message.Message):
    __slots__ = ("key", "revision")
    KEY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    revision: int
    def __init__(self, key: _Optional[bytes] = ..., revision: _Optional[int] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("key", "range_end", "limit", "revision", "reverse", "keys_only", "count_only")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RANGE_END_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    REVERSE_FIELD_NUMBER: _ClassVar[int]
    KEYS_ONLY_FIELD_NUMBER: _ClassVar[int]
    COUNT_ONLY_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    range_end: bytes
    limit: int
    revision: int
    reverse: bool
    keys_only: bool
    count_only: bool
    def __init__(self, key: _Optional[bytes] = ..., range_end: _Optional[bytes] = ..., limit: _Optional[int] = ..., revision: _Optional[int] = ..., reverse: bool = ..., keys_only: bool = ..., count_only: bool = ...) -> None: ...

class MembersQuery(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Result(_message.Message):
    __slots__ = ("error", "put", "delete", "delete_range", "txn", "increment", "compact", "session_open", "session_close", "get", "range", "members", "done")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    TXN_FIELD_NUMBER: _ClassVar[int]
    INCREMENT_FIELD_NUMBER: _ClassVar[int]
    COMPACT_FIELD_NUMBER: _ClassVar[int]
    SESSION_OPEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_CLOSE_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    error: Error
    put: PutResult
    delete: DeleteResult
    delete_range: DeleteRangeResult
    txn: TxnResult
    increment: IncrementResult
    compact: CompactResult
    session_open: SessionOpenResult
    session_close: SessionCloseResult
    get: GetResult
    range: RangeResult
    members: MembersResult
    done: DoneResult
    def __init__(self, error: _Optional[_Union[Error, _Mapping]] = ..., put: _Optional[_Union[PutResult, _Mapping]] = ..., delete: _Optional[_Union[DeleteResult, _Mapping]] = ..., delete_range: _Optional[_Union[DeleteRangeResult, _Mapping]] = ..., txn: _Optional[_Union[TxnResult, _Mapping]] = ..., increment: _Optional[_Union[IncrementResult, _Mapping]] = ..., compact: _Optional[_Union[CompactResult, _Mapping]] = ..., session_open: _Optional[_Union[SessionOpenResult, _Mapping]] = ..., session_close: _Optional[_Union[SessionCloseResult, _Mapping]] = ..., get: _Optional[_Union[GetResult, _Mapping]] = ..., range: _Optional[_Union[RangeResult, _Mapping]] = ..., members: _Optional[_Union[MembersResult, _Mapping]] = ..., done: _Optional[_Union[DoneResult, _Mapping]] = ...) -> None: ...

class PutResult(_message.Message):
    __slots__ = ("revision", "previous")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    previous: Item
    def __init__(self, revision: _Optional[int] = ..., previous: _Optional[_Union[Item, _Mapping]] = ...) -> None: ...

class DeleteResult(_message.Message):
    __slots__ = ("revision", "deleted", "previous")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    deleted: bool
    previous: Item
    def __init__(self, revision: _Optional[int] = ..., deleted: bool = ..., previous: _Optional[_Union[Item, _Mapping]] = ...) -> None: ...

class DeleteRangeResult(_message.Message):
    __slots__ = ("revision", "deleted", "previous", "next_key")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    NEXT_KEY_FIELD_NUMBER: _ClassVar[int]
    revision: int
    deleted: int
    previous: _containers.RepeatedCompositeFieldContainer[Item]
    next_key: bytes
    def __init__(self, revision: _Optional[int] = ..., deleted: _Optional[int] = ..., previous: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., next_key: _Optional[bytes] = ...) -> None: ...

class IncrementResult(_message.Message):
    __slots__ = ("revision", "value")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    revision: int
    value: int
    def __init__(self, revision: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...

class TxnResult(_message.Message):
    __slots__ = ("revision", "succeeded", "results")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    succeeded: bool
    results: _containers.RepeatedCompositeFieldContainer[Result]
    def __init__(self, revision: _Optional[int] = ..., succeeded: bool = ..., results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ...) -> None: ...

class CompactResult(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class SessionOpenResult(_message.Message):
    __slots__ = ("session", "idle_ms", "window")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    IDLE_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    session: int
    idle_ms: int
    window: int
    def __init__(self, session: _Optional[int] = ..., idle_ms: _Optional[int] = ..., window: _Optional[int] = ...) -> None: ...

class SessionCloseResult(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DoneResult(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetResult(_message.Message):
    __slots__ = ("revision", "item")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    revision: int
    item: Item
    def __init__(self, revision: _Optional[int] = ..., item: _Optional[_Union[Item, _Mapping]] = ...) -> None: ...

class RangeResult(_message.Message):
    __slots__ = ("revision", "items", "count", "next_key")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    NEXT_KEY_FIELD_NUMBER: _ClassVar[int]
    revision: int
    items: _containers.RepeatedCompositeFieldContainer[Item]
    count: int
    next_key: bytes
    def __init__(self, revision: _Optional[int] = ..., items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., count: _Optional[int] = ..., next_key: _Optional[bytes] = ...) -> None: ...

class MembersResult(_message.Message):
    __slots__ = ("members", "level", "expected", "placements", "reports")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[MemberInfo]
    level: int
    expected: _containers.RepeatedCompositeFieldContainer[ExpectedMember]
    placements: _containers.RepeatedCompositeFieldContainer[Placement]
    reports: _containers.RepeatedCompositeFieldContainer[GroupReport]
    def __init__(self, members: _Optional[_Iterable[_Union[MemberInfo, _Mapping]]] = ..., level: _Optional[int] = ..., expected: _Optional[_Iterable[_Union[ExpectedMember, _Mapping]]] = ..., placements: _Optional[_Iterable[_Union[Placement, _Mapping]]] = ..., reports: _Optional[_Iterable[_Union[GroupReport, _Mapping]]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "leader", "oldest_revision", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    OLDEST_REVISION_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    message: str
    leader: str
    oldest_revision: int
    retry_after_ms: int
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., message: _Optional[str] = ..., leader: _Optional[str] = ..., oldest_revision: _Optional[int] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...
