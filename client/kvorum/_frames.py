"""From the queues of a route to the bytes of a frame.

Everything that waits for one group goes out together: the cost of gRPC, of a wake-up and of an
fsync is paid per frame. A frame closes at 1 MiB or 1,024 requests (the most that one log entry
holds), a larger request travels alone. Commands are bytes already when they get here (``_call``),
so a batch is a join.
"""

from collections.abc import Callable

from kvorum._call import CommandCall, Request
from kvorum._link import Link
from kvorum._route import Route
from kvorum_proto.command_pb2 import Query
from kvorum_proto.kv_pb2 import ClientFrame, Inquiry, Proposal

FRAME_BYTES_MAX = 1 << 20
FRAME_REQUESTS_MAX = 1024


def next_frame(
    route: Route, link: Link, now: float, prepare: Callable[[CommandCall, float], bool]
) -> bytes | None:
    """One frame of what waits in a route, booked on the link; None when nothing of it may be sent.

    ``prepare`` makes a command's bytes; it may also settle the command, put another one in front
    of it (a SessionOpen), or answer False: then commands wait, and queries overtake them.
    """
    allowance = FRAME_REQUESTS_MAX
    if not route.trusted:
        allowance = 0 if route.probe_sent_at else 1
    command_ids, commands = _take_commands(route, link, now, allowance, prepare)
    allowance -= len(command_ids)
    size = sum(map(len, commands))
    query_ids, queries = _take_queries(route, link, now, allowance, FRAME_BYTES_MAX - size)
    if not command_ids and not query_ids:
        return None
    route.probe_sent_at = now
    frame = ClientFrame()
    if command_ids:
        frame.proposals.append(
            Proposal(group=route.group, ids=command_ids, commands=b"".join(commands))
        )
    if query_ids:
        frame.inquiries.append(Inquiry(group=route.group, ids=query_ids, queries=queries))
    return frame.SerializeToString()


def _take_commands(
    route: Route,
    link: Link,
    now: float,
    allowance: int,
    prepare: Callable[[CommandCall, float], bool],
) -> tuple[list[int], list[bytes]]:
    ids: list[int] = []
    commands: list[bytes] = []
    size = 0
    waiting = route.commands
    while waiting and len(ids) < allowance:
        call = waiting[0]
        if call.promise.done() or link in call.carriers:
            waiting.popleft().queued = False
            continue
        if not call.encoded:
            if not prepare(call, now) and waiting[0] is call:
                break
            continue
        size += len(call.encoded)
        if size > FRAME_BYTES_MAX and ids:
            break
        waiting.popleft().queued = False
        ids.append(_carry(call, link, now))
        commands.append(call.encoded)
    return ids, commands


def _take_queries(
    route: Route, link: Link, now: float, allowance: int, size_max: int
) -> tuple[list[int], list[Query]]:
    ids: list[int] = []
    queries: list[Query] = []
    waiting = route.queries
    while waiting and len(ids) < allowance and size_max > 0:
        call = waiting.popleft()
        call.queued = False
        if call.promise.done() or link in call.carriers:
            continue
        size_max -= call.query.ByteSize()
        ids.append(_carry(call, link, now))
        queries.append(call.query)
    return ids, queries


def _carry(call: Request, link: Link, now: float) -> int:
    """Books a call on a link; the id of the request on that link."""
    number = link.last_id = link.last_id + 1
    link.in_flight[number] = call
    call.carriers = (*call.carriers, link) if call.carriers else (link,)
    call.sent_at = now
    call.refusal = None
    return number
