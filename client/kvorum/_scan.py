"""Reading a range page by page, over one group or many.

A group answers a page of items and the key at which it stopped. The first page fixes the
revision; the following ones are read at that revision, so that writes in between neither appear
nor tear the scan. A scan that allows staleness asks the following pages of any replica too: one
that has not reached the revision yet is passed over by the dispatcher until one has.

Keys are spread over groups by hash, so a range lies in all of them: their items are merged by key.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from kvorum._types import Item, ScanResult
from kvorum_proto.command_pb2 import Query

ReadPage = Callable[[int, Query], Awaitable[ScanResult]]


async def items(
    read_page: ReadPage, groups: Sequence[int], query: Query, limit: int
) -> AsyncIterator[Item]:
    """At most ``limit`` items (0 = all) of a range query, in its order."""
    streams = [_items_of_group(read_page, group, query) for group in groups]
    merged = streams[0] if len(streams) == 1 else _merge(streams, reverse=query.range.reverse)
    left = limit or -1
    async for item in merged:
        yield item
        left -= 1
        if left == 0:
            return


async def _items_of_group(read_page: ReadPage, group: int, query: Query) -> AsyncIterator[Item]:
    page_query = Query()
    page_query.CopyFrom(query)
    while True:
        page = await read_page(group, page_query)
        for item in page.items:
            yield item
        if not page.more:
            return
        page_query = Query.FromString(page_query.SerializeToString())
        if not page_query.range.revision:
            page_query.range.revision = page.revision
        if query.range.reverse:
            page_query.range.range_end = page.next_key + b"\x00"
        else:
            page_query.range.key = page.next_key


async def _merge(streams: Sequence[AsyncIterator[Item]], *, reverse: bool) -> AsyncIterator[Item]:
    """Merges ordered streams; a handful of them, so the smallest head is found by looking."""
    heads: dict[AsyncIterator[Item], Item] = {}
    for stream in streams:
        async for item in stream:
            heads[stream] = item
            break
    choose = max if reverse else min
    while heads:
        stream = choose(heads, key=lambda candidate: heads[candidate].key)
        yield heads.pop(stream)
        async for item in stream:
            heads[stream] = item
            break
