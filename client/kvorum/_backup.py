"""Saving a cluster: the method ``backup`` of AsyncClient, which stands here for its length.

A backup must not miss a write that was acknowledged before it began, whoever serves it. So each
group is first read linearizably, for its revision; then a node is asked for its items as of that
revision or later, and takes its time to get there if it is behind. What it sends goes into the file
as it comes: the node has encoded the items as the file wants them, and here they only get frames
and checksums.

Groups are saved one after the other, each as one moment of its own has it. Within a group a backup
is exactly the state at its revision; between groups there is no order, and with one partition there
is nothing between. Whoever spreads what belongs together over several partitions gets no common
moment for it; a transaction across groups could make one.

Left out: going on with another node when one is lost. It would have another moment; begin again.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Protocol

from google.protobuf.message import DecodeError

from kvorum._channel import StreamBroken, responses
from kvorum._cluster import cluster_status
from kvorum._errors import InvalidRequest, Unavailable, from_wire
from kvorum._results import RANGE
from kvorum._types import BackupSummary
from kvorum_proto.backup_file import BackupWriter, checksum_of
from kvorum_proto.backup_pb2 import BackupHeader
from kvorum_proto.cluster_pb2 import BackupChunk, BackupRequest, BackupStart
from kvorum_proto.command_pb2 import Query

if TYPE_CHECKING:
    from kvorum._caller import Caller
    from kvorum._client import AsyncClient

PATIENCE_SECONDS_MIN = 15.0
"""A node may wait for 10 seconds until its state is fresh enough."""


class BackupFile(Protocol):
    """What a backup is written to: anything that takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Takes all of it."""
        ...


async def backup(
    self: "AsyncClient",
    file: BackupFile,
    *,
    source: str = "",
    progress: Callable[[int, int], None] | None = None,
    timeout: float | None = None,
) -> BackupSummary:
    """Writes the whole state of the cluster into a file, opened for writing bytes.

    Each partition is saved exactly as it was at one revision, every write that was acknowledged
    before the call included, while the cluster goes on. ``source`` names the node to read from, a
    follower perhaps; by default the leaders. ``progress`` is called with items and bytes so far.
    ``timeout`` is for each step, not for the whole; a node may be silent for 15 seconds in any
    case.

    After an error the file is of no use, and reading it says so. Raises Busy when the node serves
    its limit of backups, InvalidRequest for a source that is no node.
    """
    saving = _Saving(self._caller, file, source, progress, timeout)
    return await saving.run()


class _Saving:
    """One backup on its way."""

    def __init__(
        self,
        caller: "Caller",
        file: BackupFile,
        source: str,
        progress: Callable[[int, int], None] | None,
        timeout: float | None,
    ) -> None:
        self._caller = caller
        self._writer = BackupWriter(file.write)
        self._source = source
        self._progress = progress
        self._timeout = timeout if timeout is not None else caller.timeout
        self._patience_seconds = max(self._timeout, PATIENCE_SECONDS_MIN)
        self._cluster_id = b""
        self._revisions: list[tuple[int, int]] = []
        self._items = 0

    async def run(self) -> BackupSummary:
        """All groups, then the end of the file."""
        table = await self._caller.table("backup", self._timeout)
        for group in table.groups:
            revision = await self._present_revision(group)
            await self._save(group, revision, await self._endpoint(group))
        checksum = self._writer.finish()
        return BackupSummary(
            self._cluster_id,
            self._items,
            self._writer.size_bytes,
            tuple(self._revisions),
            checksum,
        )

    async def _present_revision(self, group: int) -> int:
        """A revision of the group that no write acknowledged so far is beyond."""
        query = Query()
        query.range.key = query.range.range_end = b"\x00"
        query.range.limit, query.range.keys_only = 1, True
        route = self._caller.dispatcher.route(group)
        return (await self._caller.query(route, query, RANGE, self._timeout)).revision

    async def _endpoint(self, group: int) -> str:
        """Where to read a group from. Raises Unavailable, or InvalidRequest for an unknown name."""
        addresses = self._caller.dispatcher.addresses()
        status = await cluster_status(addresses, self._timeout)
        if self._source:
            for node in status.nodes:
                if node.name == self._source:
                    return node.endpoint
            known = {member.name for node in status.nodes for member in node.members}
            if self._source in known:
                raise Unavailable(f"{self._source} does not answer; back up from another node")
            raise InvalidRequest(f"no node of the cluster is named {self._source!r}")
        leaders = [
            (replica.term, node.endpoint)
            for node in status.nodes
            for replica in node.groups
            if replica.group == group and replica.role == "leader"
        ]
        if not leaders:
            raise Unavailable(f"no reachable node leads group {group}; try again")
        return max(leaders)[1]

    async def _save(self, group: int, revision: int, endpoint: str) -> None:
        """Copies the stream of one group. Raises what the node refused, or Unavailable."""
        message = BackupRequest(group=group, revision_min=revision).SerializeToString()
        stream = responses(endpoint, "Cluster/Backup", message)
        async with contextlib.aclosing(stream):
            try:
                chunk = await self._next(stream)
                if chunk.HasField("error"):
                    raise from_wire(chunk.error)
                self._begin_group(chunk.start)
                while not (chunk := await self._next(stream)).last:
                    self._take(chunk, endpoint)
            except StreamBroken as broken:
                raise Unavailable(
                    f"{endpoint} broke off the backup: {broken}; begin again"
                ) from None
            except StopAsyncIteration:
                raise Unavailable(f"{endpoint} ended the backup too early; begin again") from None
            except TimeoutError:
                raise Unavailable(
                    f"{endpoint} was silent for {self._patience_seconds:g} seconds; begin again"
                ) from None

    async def _next(self, stream: AsyncIterator[bytes]) -> BackupChunk:
        async with asyncio.timeout(self._patience_seconds):
            data = await anext(stream)
        try:
            return BackupChunk.FromString(data)
        except DecodeError:
            raise StreamBroken("what it sent is no part of a backup") from None

    def _begin_group(self, start: BackupStart) -> None:
        if not self._revisions:
            header = BackupHeader()
            header.CopyFrom(start.header)
            header.created_ms = time.time_ns() // 1_000_000
            self._cluster_id = header.cluster_id
            self._writer.begin(header)
        self._revisions.append((start.group.group, start.group.revision))
        self._writer.group(start.group)

    def _take(self, chunk: BackupChunk, endpoint: str) -> None:
        if checksum_of(chunk.items) != chunk.checksum:
            raise Unavailable(f"what {endpoint} sent was changed on its way; begin again")
        self._writer.items(chunk.count, chunk.items)
        self._items += chunk.count
        if self._progress is not None:
            self._progress(self._items, self._writer.size_bytes)
