"""How much goes into one frame, and what is left for the next."""

import pytest

from kvorum._call import CommandCall, Outcome, QueryCall
from kvorum._frames import FRAME_BYTES_MAX, FRAME_REQUESTS_MAX, next_frame
from kvorum._link import Link
from kvorum._results import GET, PUT
from kvorum._route import Route
from kvorum_proto import command_pb2 as wire
from kvorum_proto.kv_pb2 import ClientFrame


def trusted_route(link: Link) -> Route:
    """A route that sends everything to a link."""
    route = Route(1, any_replica=False)
    route.aim(link, 1.0, trusted=True)
    return route


def add_put(route: Route, size: int) -> CommandCall:
    """Queues a put with a value of this size."""
    batch = wire.CommandBatch()
    batch.submissions.add().put.value = b"v" * size
    call = CommandCall(route, batch, PUT, Outcome(), 9.0, 5.0)
    call.queued = True
    route.commands.append(call)
    return call


def add_get(route: Route) -> QueryCall:
    """Queues a get."""
    query = wire.Query()
    query.get.key = b"k"
    call = QueryCall(route, query, GET, Outcome(), 9.0, 5.0)
    call.queued = True
    route.queries.append(call)
    return call


def prepare(call: CommandCall, now: float) -> bool:
    """Every command may leave, without a session."""
    call.encode_alone(repeatable=False)
    return True


def all_frames(route: Route, link: Link) -> list[ClientFrame]:
    """Everything that leaves, frame by frame."""
    frames = []
    while (data := next_frame(route, link, 1.0, prepare)) is not None:
        frames.append(ClientFrame.FromString(data))
    return frames


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([10] * 3, [3]),
        ([FRAME_BYTES_MAX // 2] * 3, [1, 1, 1]),
        ([FRAME_BYTES_MAX // 3] * 4, [2, 2]),
        ([10, 2 * FRAME_BYTES_MAX, 10], [1, 1, 1]),
        ([1] * (FRAME_REQUESTS_MAX + 5), [FRAME_REQUESTS_MAX, 5]),
    ],
    ids=["small", "halves", "thirds", "one too large", "many"],
)
def test_a_frame_closes_at_its_limits(sizes: list[int], expected: list[int]) -> None:
    link = Link("n1:1")
    route = trusted_route(link)
    for size in sizes:
        add_put(route, size)
    frames = all_frames(route, link)
    assert [len(frame.proposals[0].ids) for frame in frames] == expected
    assert len(link.in_flight) == len(sizes)


def test_commands_and_queries_share_a_frame_and_its_limit() -> None:
    link = Link("n1:1")
    route = trusted_route(link)
    for _ in range(FRAME_REQUESTS_MAX - 1):
        add_put(route, 1)
    for _ in range(3):
        add_get(route)
    first, second = all_frames(route, link)
    assert len(first.proposals[0].ids) == FRAME_REQUESTS_MAX - 1
    assert len(first.inquiries[0].ids) == 1
    assert len(second.inquiries[0].ids) == 2


def test_an_untrusted_link_gets_one_call() -> None:
    link = Link("n1:1")
    route = trusted_route(link)
    route.trusted = False
    for _ in range(3):
        add_get(route)
    (frame,) = all_frames(route, link)
    assert len(frame.inquiries[0].ids) == 1
    assert len(route.queries) == 2


def test_what_nobody_waits_for_is_not_sent() -> None:
    link = Link("n1:1")
    route = trusted_route(link)
    put, get = add_put(route, 1), add_get(route)
    put.promise.set_result(None)
    get.promise.set_result(None)
    assert all_frames(route, link) == []
    assert not route.has_work()


def test_a_call_is_not_sent_twice_on_one_link() -> None:
    link = Link("n1:1")
    route = trusted_route(link)
    put = add_put(route, 1)
    assert len(all_frames(route, link)) == 1
    route.requeue([put])
    assert all_frames(route, link) == []
