from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BackupHeader(_message.Message):
    __slots__ = ("cluster_id", "created_ms", "partitions", "level", "protocol", "settings", "version")
    class SettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    cluster_id: bytes
    created_ms: int
    partitions: int
    level: int
    protocol: str
    settings: _containers.ScalarMap[str, int]
    version: str
    def __init__(self, cluster_id: _Optional[bytes] = ..., created_ms: _Optional[int] = ..., partitions: _Optional[int] = ..., level: _Optional[int] = ..., protocol: _Optional[str] = ..., settings: _Optional[_Mapping[str, int]] = ..., version: _Optional[str] = ...) -> None: ...

class BackupGroup(_message.Message):
    __slots__ = ("group", "revision", "compacted_revision", "index", "term", "log_time")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    COMPACTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LOG_TIME_FIELD_NUMBER: _ClassVar[int]
    group: int
    revision: int
    compacted_revision: int
    index: int
    term: int
    log_time: int
    def __init__(self, group: _Optional[int] = ..., revision: _Optional[int] = ..., compacted_revision: _Optional[int] = ..., index: _Optional[int] = ..., term: _Optional[int] = ..., log_time: _Optional[int] = ...) -> None: ...

class BackupCount(_message.Message):
    __slots__ = ("group", "items", "item_bytes")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    ITEM_BYTES_FIELD_NUMBER: _ClassVar[int]
    group: int
    items: int
    item_bytes: int
    def __init__(self, group: _Optional[int] = ..., items: _Optional[int] = ..., item_bytes: _Optional[int] = ...) -> None: ...

class BackupTrailer(_message.Message):
    __slots__ = ("counts",)
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedCompositeFieldContainer[BackupCount]
    def __init__(self, counts: _Optional[_Iterable[_Union[BackupCount, _Mapping]]] = ...) -> None: ...
