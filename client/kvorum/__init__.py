"""kvorum: the client library of the kvorum key-value store.

    async with kvorum.AsyncClient("127.0.0.1:7400") as kv:
        await kv.put("greeting", "hello")

This module is the public interface, and all of it: whatever begins with an underscore may change.
"""

from kvorum._client import AsyncClient
from kvorum._endpoints import DEFAULT_ENDPOINTS
from kvorum._errors import (
    Busy,
    ClientClosed,
    Compacted,
    Conflict,
    DeadlineExceeded,
    DiskFull,
    FutureRevision,
    InvalidRequest,
    KeyNotFound,
    KvorumError,
    LeaseNotFound,
    LimitExceeded,
    Malformed,
    NotAnInteger,
    OutOfBounds,
    RangeTooLarge,
    TooStale,
    Unavailable,
    UnknownOutcome,
    WrongCluster,
    WrongGroup,
)
from kvorum._operations import (
    Compare,
    Delete,
    DeleteRange,
    Field,
    Get,
    Increment,
    Operation,
    Put,
    Scan,
    Txn,
)
from kvorum._sync import Client
from kvorum._types import (
    BackupSummary,
    ClusterStatus,
    DeleteRangeResult,
    DeleteResult,
    ExpectedMember,
    GroupMembers,
    GroupStatus,
    Item,
    Member,
    Membership,
    NodeStatus,
    OperationResult,
    PeerStatus,
    PutResult,
    ScanResult,
    StateComparison,
    TxnResult,
)
from kvorum._version import __version__

__all__ = [
    "DEFAULT_ENDPOINTS",
    "AsyncClient",
    "BackupSummary",
    "Busy",
    "Client",
    "ClientClosed",
    "ClusterStatus",
    "Compacted",
    "Compare",
    "Conflict",
    "DeadlineExceeded",
    "Delete",
    "DeleteRange",
    "DeleteRangeResult",
    "DeleteResult",
    "DiskFull",
    "ExpectedMember",
    "Field",
    "FutureRevision",
    "Get",
    "GroupMembers",
    "GroupStatus",
    "Increment",
    "InvalidRequest",
    "Item",
    "KeyNotFound",
    "KvorumError",
    "LeaseNotFound",
    "LimitExceeded",
    "Malformed",
    "Member",
    "Membership",
    "NodeStatus",
    "NotAnInteger",
    "Operation",
    "OperationResult",
    "OutOfBounds",
    "PeerStatus",
    "Put",
    "PutResult",
    "RangeTooLarge",
    "Scan",
    "ScanResult",
    "StateComparison",
    "TooStale",
    "Txn",
    "TxnResult",
    "Unavailable",
    "UnknownOutcome",
    "WrongCluster",
    "WrongGroup",
    "__version__",
]

for _name in __all__:
    if _name not in ("__version__", "DEFAULT_ENDPOINTS", "Operation", "OperationResult"):
        globals()[_name].__module__ = "kvorum"
del _name
