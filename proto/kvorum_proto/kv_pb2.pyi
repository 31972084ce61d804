from kvorum_proto import command_pb2 as _command_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClientHello(_message.Message):
    __slots__ = ("wire_version", "cluster_id", "namespace", "credential")
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    wire_version: int
    cluster_id: bytes
    namespace: str
    credential: bytes
    def __init__(self, wire_version: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., namespace: _Optional[str] = ..., credential: _Optional[bytes] = ...) -> None: ...

class Proposal(_message.Message):
    __slots__ = ("group", "ids", "commands")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    group: int
    ids: _containers.RepeatedScalarFieldContainer[int]
    commands: bytes
    def __init__(self, group: _Optional[int] = ..., ids: _Optional[_Iterable[int]] = ..., commands: _Optional[bytes] = ...) -> None: ...

class Inquiry(_message.Message):
    __slots__ = ("group", "ids", "queries")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    group: int
    ids: _containers.RepeatedScalarFieldContainer[int]
    queries: _containers.RepeatedCompositeFieldContainer[_command_pb2.Query]
    def __init__(self, group: _Optional[int] = ..., ids: _Optional[_Iterable[int]] = ..., queries: _Optional[_Iterable[_Union[_command_pb2.Query, _Mapping]]] = ...) -> None: ...

class ClientFrame(_message.Message):
    __slots__ = ("hello", "proposals", "inquiries")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PROPOSALS_FIELD_NUMBER: _ClassVar[int]
    INQUIRIES_FIELD_NUMBER: _ClassVar[int]
    hello: ClientHello
    proposals: _containers.RepeatedCompositeFieldContainer[Proposal]
    inquiries: _containers.RepeatedCompositeFieldContainer[Inquiry]
    def __init__(self, hello: _Optional[_Union[ClientHello, _Mapping]] = ..., proposals: _Optional[_Iterable[_Union[Proposal, _Mapping]]] = ..., inquiries: _Optional[_Iterable[_Union[Inquiry, _Mapping]]] = ...) -> None: ...

class ServerHello(_message.Message):
    __slots__ = ("wire_version", "cluster_id", "member", "name", "table", "addresses")
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    wire_version: int
    cluster_id: bytes
    member: int
    name: str
    table: PartitionTable
    addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, wire_version: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., member: _Optional[int] = ..., name: _Optional[str] = ..., table: _Optional[_Union[PartitionTable, _Mapping]] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class Replies(_message.Message):
    __slots__ = ("group", "ids", "results", "term", "log_time", "revision")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LOG_TIME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    group: int
    ids: _containers.RepeatedScalarFieldContainer[int]
    results: _containers.RepeatedCompositeFieldContainer[_command_pb2.Result]
    term: int
    log_time: int
    revision: int
    def __init__(self, group: _Optional[int] = ..., ids: _Optional[_Iterable[int]] = ..., results: _Optional[_Iterable[_Union[_command_pb2.Result, _Mapping]]] = ..., term: _Optional[int] = ..., log_time: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class ServerFrame(_message.Message):
    __slots__ = ("hello", "replies", "table_version", "cluster_id", "member")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    TABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    hello: ServerHello
    replies: _containers.RepeatedCompositeFieldContainer[Replies]
    table_version: int
    cluster_id: bytes
    member: int
    def __init__(self, hello: _Optional[_Union[ServerHello, _Mapping]] = ..., replies: _Optional[_Iterable[_Union[Replies, _Mapping]]] = ..., table_version: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., member: _Optional[int] = ...) -> None: ...

class EncodedReplies(_message.Message):
    __slots__ = ("group", "ids", "results", "term", "log_time", "revision")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LOG_TIME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    group: int
    ids: _containers.RepeatedScalarFieldContainer[int]
    results: _containers.RepeatedScalarFieldContainer[bytes]
    term: int
    log_time: int
    revision: int
    def __init__(self, group: _Optional[int] = ..., ids: _Optional[_Iterable[int]] = ..., results: _Optional[_Iterable[bytes]] = ..., term: _Optional[int] = ..., log_time: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class EncodedServerFrame(_message.Message):
    __slots__ = ("hello", "replies", "table_version", "cluster_id", "member")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    TABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    hello: ServerHello
    replies: _containers.RepeatedCompositeFieldContainer[EncodedReplies]
    table_version: int
    cluster_id: bytes
    member: int
    def __init__(self, hello: _Optional[_Union[ServerHello, _Mapping]] = ..., replies: _Optional[_Iterable[_Union[EncodedReplies, _Mapping]]] = ..., table_version: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., member: _Optional[int] = ...) -> None: ...

class Partition(_message.Message):
    __slots__ = ("group", "token_first", "token_last", "leader")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIRST_FIELD_NUMBER: _ClassVar[int]
    TOKEN_LAST_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    group: int
    token_first: int
    token_last: int
    leader: str
    def __init__(self, group: _Optional[int] = ..., token_first: _Optional[int] = ..., token_last: _Optional[int] = ..., leader: _Optional[str] = ...) -> None: ...

class PartitionTable(_message.Message):
    __slots__ = ("version", "partitions")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    version: int
    partitions: _containers.RepeatedCompositeFieldContainer[Partition]
    def __init__(self, version: _Optional[int] = ..., partitions: _Optional[_Iterable[_Union[Partition, _Mapping]]] = ...) -> None: ...
