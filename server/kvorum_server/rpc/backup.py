"""Cluster.Backup: the items of a group, as one moment has them, streamed to the writer of a file.

A view of the engine between two turns *is* a consistent state: a turn writes all its rows, and the
applied index with them, at once. So a backup needs nothing of the Host but the view, and the group
goes on as if nobody looked; old rows that the view needs cannot be freed meanwhile, and that is all
it costs besides the reading.

The reading shares the event loop with the turns. It is done in slices, each small enough that
nobody notices it, and between two slices everything that waits gets its turn, because a slice waits
for gRPC to take the one before it: a slow client slows down its own backup and nothing else. One
that takes nothing for the time after which a snapshot transfer fails, too, is given up, since it
would keep the old rows for ever. At most ``backup_streams_max`` are served at once.

How fresh the view is, is the client's to say: it names a revision that a linearizable read gave it,
and the node waits until it has applied that. So a follower can serve a backup that is not stale.
Refusals are errors like those of any request, in the first chunk.
"""

import asyncio
import contextlib
from collections.abc import Callable

import grpc
from google.protobuf.message import DecodeError

from kvorum_proto.backup_file import checksum_of
from kvorum_proto.backup_pb2 import BackupHeader
from kvorum_proto.cluster_pb2 import BackupChunk, BackupRequest, BackupStart
from kvorum_proto.command_pb2 import BUSY, UNAVAILABLE, WRONG_GROUP, Error
from kvorum_server.config import Config
from kvorum_server.kv.backup import GroupView, slices
from kvorum_server.rpc.context import STREAM_ERRORS, ServicerContext

BUSY_RETRY_MS = 10_000


class Backups:
    """The handler of ``Cluster.Backup``. Runs on the node's event loop.

    ``header`` describes the cluster, as long as the node belongs to one; ``view`` is asked between
    two turns and answers None for a group whose state is not here.
    """

    def __init__(
        self,
        *,
        config: Config,
        header: Callable[[], BackupHeader | None],
        view: Callable[[int], GroupView | None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._config = config
        self._header = header
        self._view = view
        self._fail = fail
        self._streams = 0

    async def serve(self, request: bytes, context: ServicerContext) -> None:
        """Streams one group."""
        try:
            asked = BackupRequest.FromString(request)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a BackupRequest: {error}")
        self._streams += 1
        try:
            await self._stream(asked, context)
        except STREAM_ERRORS:
            return
        except TimeoutError:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the client has taken nothing for {self._patience_seconds:g} seconds",
            )
        except Exception as error:  # noqa: BLE001 - a bug or a broken machine: stops the node
            self._fail(error)
        finally:
            self._streams -= 1

    async def _stream(self, asked: BackupRequest, context: ServicerContext) -> None:
        opened = await self._open(asked)
        if isinstance(opened, Error):
            await self._write(context, BackupChunk(error=opened))
            return
        header, view = opened
        with contextlib.closing(view):
            start = BackupStart(header=header, group=view.saved)
            await self._write(context, BackupChunk(start=start))
            config = self._config
            for part in slices(
                view.rows(),
                rows_max=config.backup_slice_rows,
                bytes_max=config.snapshot_chunk_bytes,
            ):
                chunk = BackupChunk(
                    items=part.payload, count=part.count, checksum=checksum_of(part.payload)
                )
                await self._write(context, chunk)
        await self._write(context, BackupChunk(last=True))

    async def _open(self, asked: BackupRequest) -> tuple[BackupHeader, GroupView] | Error:
        """A view that is fresh enough, as soon as there is one, or why there will not be."""
        if self._streams > self._config.backup_streams_max:
            return Error(
                code=BUSY,
                message=f"this node serves its limit of {self._config.backup_streams_max} backups; "
                "wait for one to end or ask another node",
                retry_after_ms=BUSY_RETRY_MS,
            )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_seconds
        while True:
            header, view = self._header(), self._view(asked.group)
            if header is None:
                return Error(code=UNAVAILABLE, message="the cluster is not complete yet")
            if view is None:
                return Error(
                    code=WRONG_GROUP,
                    message=f"this node holds no items of group {asked.group}; ask another node",
                )
            if view.saved.revision >= asked.revision_min:
                return header, view
            view.close()
            if loop.time() >= deadline:
                return Error(
                    code=UNAVAILABLE,
                    message=f"this node is at revision {view.saved.revision} and does not get to "
                    f"{asked.revision_min}; ask another node",
                )
            await asyncio.sleep(self._config.tick_ms / 1000)

    async def _write(self, context: ServicerContext, chunk: BackupChunk) -> None:
        """Hands a chunk to gRPC; raises TimeoutError when the client takes nothing any more."""
        async with asyncio.timeout(self._patience_seconds):
            await context.write(chunk.SerializeToString())

    @property
    def _patience_seconds(self) -> float:
        return self._config.snapshot_timeout_ticks * self._config.tick_ms / 1000
