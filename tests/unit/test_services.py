"""The client side of a node, fed with whatever a network may bring."""

import asyncio
from collections.abc import Callable
from typing import NoReturn

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum_proto import command_pb2 as wire
from kvorum_proto.cluster_pb2 import StatusResponse, TransferRequest, TransferResponse
from kvorum_proto.kv_pb2 import (
    ClientFrame,
    ClientHello,
    Inquiry,
    Partition,
    PartitionTable,
    Proposal,
    ServerFrame,
    ServerHello,
)
from kvorum_server.config import Config
from kvorum_server.events import (
    Asked,
    Congested,
    Disconnected,
    Event,
    Proposed,
    Relieved,
    Reply,
    TransferAsked,
)
from kvorum_server.rpc.context import ServicerContext
from kvorum_server.rpc.services import (
    CLIENT_MESSAGE_BYTES_MAX,
    FRAME_BYTES_MAX,
    WIRE_VERSION,
    Services,
)
from tests.unit.host_setup import encoded, get, put

CLUSTER = b"c" * 16
HELLO = ServerHello(
    wire_version=WIRE_VERSION,
    cluster_id=CLUSTER,
    member=11,
    table=PartitionTable(version=4, partitions=[Partition(group=1)]),
)
OK = wire.Result(put=wire.PutResult(revision=2)).SerializeToString()


class Aborted(Exception):
    """What gRPC raises in a handler that aborts."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code


class Context:
    """A stream whose client says ``frames`` and then stays, leaves, or falls silent for good."""

    def __init__(self, *frames: bytes, leaves: bool = True) -> None:
        self.written: list[bytes] = []
        self.takes_replies = asyncio.Event()
        self.takes_replies.set()
        self.fails_to_write = False
        self._frames = list(frames)
        self._leaves = leaves

    def say(self, frame: bytes) -> None:
        """The client sends another frame."""
        self._frames.append(frame)

    async def read(self) -> object:
        await asyncio.sleep(0)
        while not self._frames and not self._leaves:
            await asyncio.sleep(0)
        return self._frames.pop(0) if self._frames else None

    async def write(self, frame: bytes, /) -> None:
        if self.fails_to_write:
            raise asyncio.InvalidStateError("the call is over")
        await self.takes_replies.wait()
        self.written.append(frame)

    async def abort(self, code: grpc.StatusCode, details: str, /) -> NoReturn:
        raise Aborted(code, details)

    def frames(self) -> list[ServerFrame]:
        return list(map(ServerFrame.FromString, self.written))


class Node:
    """Services on a node that notes events and answers every request at once."""

    def __init__(self, config: Config | None = None) -> None:
        self.events: list[Event] = []
        self.failures: list[BaseException] = []
        self.is_overloaded = False
        self.engine_is_behind = False
        self.hello = HELLO
        self.answer: Callable[[Event], Reply | None] = answered
        self.services = Services(
            config=config or Config(),
            post=self.post,
            overloaded=lambda: self.is_overloaded,
            engine_is_behind=lambda: self.engine_is_behind,
            hello=lambda: self.hello,
            status=lambda: StatusResponse(name="n1"),
            resolve={"n2": 22}.get,
            leader_name=lambda group: f"leader of {group}",
            fail=self.failures.append,
        )

    def post(self, event: Event) -> None:
        self.events.append(event)
        reply = self.answer(event)
        if reply is not None:
            asyncio.get_running_loop().call_soon(self.services.deliver, reply)


def answered(event: Event) -> Reply | None:
    if isinstance(event, Proposed | Asked):
        results = [OK] * len(event.ids)
        return Reply(event.connection, event.group, list(event.ids), results, 3, 100, 2)
    return None


def frame(*submissions: wire.Submission, hello: bool = True, **greeting: object) -> bytes:
    """A frame with commands for group 1, ids from 1."""
    ids = range(1, len(submissions) + 1)
    proposals = [Proposal(group=1, ids=ids, commands=encoded(*submissions))] if submissions else []
    greetings = {"wire_version": WIRE_VERSION, **greeting}
    return ClientFrame(
        hello=ClientHello(**greetings) if hello else None,  # type: ignore[arg-type]
        proposals=proposals,
    ).SerializeToString()


def run_session(node: Node, context: Context) -> None:
    """A session from its first frame to its end."""

    async def session() -> None:
        task = asyncio.create_task(node.services.session(None, _checked(context)))
        for _ in range(50):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            await task

    asyncio.run(session())


def _checked(context: ServicerContext) -> ServicerContext:
    return context


def execute(node: Node, request: bytes) -> ServerFrame:
    return ServerFrame.FromString(asyncio.run(node.services.execute(request, _checked(Context()))))


# --- A session ---


def test_a_session_greets_and_answers() -> None:
    node, context = Node(), Context(frame(put(b"a"), put(b"b")), leaves=False)
    run_session(node, context)
    greeting, answers = context.frames()
    assert greeting.hello == HELLO
    assert (answers.table_version, answers.cluster_id, answers.member) == (4, CLUSTER, 11)
    (replies,) = answers.replies
    assert (list(replies.ids), replies.term, replies.log_time) == ([1, 2], 3, 100)
    assert [result.put.revision for result in replies.results] == [2, 2]
    assert isinstance(node.events[-1], Disconnected)


@pytest.mark.parametrize(
    ("request_frame", "reason"),
    [
        (b"\xff\xff", "not a client frame"),
        (frame(put(b"a"), hello=False), "must carry a hello"),
        (frame(wire_version=9), "client wire version 9; this node speaks 1"),
        (frame(cluster_id=b"x"), "wants cluster 78, this node belongs to 6363"),
        (frame(namespace="n"), "no namespaces"),
        (frame(credential=b"c"), "no credentials"),
        (frame() + ClientFrame(proposals=[Proposal(group=1)]).SerializeToString(), "without ids"),
        (
            frame()
            + ClientFrame(
                inquiries=[Inquiry(group=1, ids=[1, 2], queries=[get(b"k")])]
            ).SerializeToString(),
            "1 queries came with 2 ids",
        ),
        (b"\0" * (CLIENT_MESSAGE_BYTES_MAX + 1), "a frame of 8388609 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_frame_that_is_not_ours_ends_its_stream_with_the_reason(
    request_frame: bytes, reason: str
) -> None:
    node = Node()
    with pytest.raises(Aborted, match=reason) as aborted:
        run_session(node, Context(request_frame))
    assert aborted.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [type(event) for event in node.events] == [Disconnected]
    with pytest.raises(Aborted, match=reason) as aborted:
        execute(node, request_frame)
    assert aborted.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_bad_frame_in_the_middle_ends_one_stream_and_no_other() -> None:
    node = Node()
    run_session(node, healthy := Context(frame(put(b"a")), leaves=False))
    with pytest.raises(Aborted):
        run_session(node, Context(frame(put(b"b")), b"\xff"))
    run_session(node, Context(frame(put(b"c")), leaves=False))
    assert len(healthy.frames()) == 2
    assert sum(isinstance(event, Proposed) for event in node.events) == 3


@given(st.binary(max_size=80))
@settings(max_examples=60)
def test_arbitrary_bytes_end_their_stream_and_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(Aborted) as aborted:
        run_session(Node(), Context(frame(put(b"a")), data, b"\xff"))
    assert aborted.value.code is grpc.StatusCode.INVALID_ARGUMENT


@given(st.integers(0, 200), st.integers(0, 255), st.booleans())
@settings(max_examples=60)
def test_a_mutated_frame_is_served_or_ends_its_stream(place: int, byte: int, first: bool) -> None:
    mutated = bytearray(frame(put(b"a"), put(b"b"), cluster_id=CLUSTER))
    mutated[place % len(mutated)] = byte
    frames = [bytes(mutated)] if first else [frame(), bytes(mutated)]
    node = Node()
    codes: set[grpc.StatusCode] = set()
    try:
        run_session(node, Context(*frames))
    except Aborted as aborted:
        codes.add(aborted.code)
    assert codes <= {grpc.StatusCode.INVALID_ARGUMENT}
    assert isinstance(node.events[-1], Disconnected)


def test_an_overloaded_node_answers_busy_before_the_work_begins() -> None:
    node, context = Node(), Context(frame(put(b"a")), leaves=False)
    node.is_overloaded = True
    run_session(node, context)
    (replies,) = context.frames()[1].replies
    assert replies.results[0].error.code == wire.BUSY
    assert [type(event) for event in node.events] == [Disconnected]


def test_an_engine_that_is_behind_takes_no_writes_and_answers_reads() -> None:
    node = Node()
    node.engine_is_behind = True
    request = ClientFrame.FromString(frame(put(b"a")))
    request.inquiries.add(group=1, ids=[5], queries=[get(b"k")])
    context = Context(request.SerializeToString(), leaves=False)
    run_session(node, context)
    answers = {
        id_: result
        for one in context.frames()
        for replies in one.replies
        for id_, result in zip(replies.ids, replies.results, strict=True)
    }
    assert answers[1].error.code == wire.BUSY
    assert not answers[5].HasField("error")


def test_a_client_that_closes_its_side_gets_what_it_is_owed() -> None:
    node, context = Node(), Context(frame(put(b"a")), frame(put(b"b"), hello=False))
    late: list[Event] = []
    node.answer = lambda event: late.append(event)

    async def session() -> None:
        task = asyncio.create_task(node.services.session(None, _checked(context)))
        while len(late) < 2:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done(), "two answers are missing"
        for event in late:
            reply = answered(event)
            assert reply is not None
            node.services.deliver(reply)
        await task

    asyncio.run(session())
    assert sum(len(one.replies) for one in context.frames()) == 2
    assert isinstance(node.events[-1], Disconnected)


def test_a_connection_that_floods_the_node_is_busy_and_another_is_served() -> None:
    node = Node(Config(pending_commands_max=8))
    node.answer = lambda event: None
    flood, quiet = Context(*[frame(put(b"a"))] * 20, leaves=False), Context(frame(), leaves=False)

    async def story() -> None:
        sessions = [
            asyncio.create_task(node.services.session(None, _checked(context)))
            for context in (flood, quiet)
        ]
        for _ in range(100):
            await asyncio.sleep(0)
        quiet.say(frame(put(b"b"), hello=False))
        while sum(isinstance(event, Proposed) for event in node.events) < 5:
            await asyncio.sleep(0)
        for session in sessions:
            session.cancel()
        await asyncio.wait(sessions)

    asyncio.run(story())
    proposed = [event.connection for event in node.events if isinstance(event, Proposed)]
    assert proposed == [1] * 4 + [2]
    refusals = [
        result.error
        for one in flood.frames()
        for replies in one.replies
        for result in replies.results
    ]
    assert {refusal.code for refusal in refusals} == {wire.BUSY}
    pauses = [refusal.retry_after_ms for refusal in refusals]
    assert pauses == sorted(pauses)
    assert pauses[-1] > pauses[0], "the longer the queue outside, the later to come back"


def test_a_client_with_many_replies_is_congested_until_it_has_taken_them() -> None:
    node = Node(Config(client_outbox_bytes_max=200))
    context = Context(frame(), *[frame(put(b"a"), hello=False)] * 4, leaves=False)

    async def session() -> None:
        task = asyncio.create_task(node.services.session(None, _checked(context)))
        while len(context.written) < 1:
            await asyncio.sleep(0)
        context.takes_replies.clear()
        for _ in range(40):
            await asyncio.sleep(0)
        assert [type(event) for event in node.events].count(Congested) == 1
        assert Relieved(1) not in node.events
        context.takes_replies.set()
        for _ in range(40):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(session())
    assert [e for e in node.events if isinstance(e, Congested | Relieved)] == [
        Congested(1),
        Relieved(1),
    ]


def test_a_client_that_vanishes_makes_no_noise() -> None:
    node, context = Node(), Context(frame(), frame(put(b"a")))
    context.fails_to_write = True
    run_session(node, context)
    assert isinstance(node.events[-1], Disconnected)
    assert not node.failures


def test_a_bug_in_serving_a_client_is_not_swallowed_with_its_stream() -> None:
    node = Node()

    def trips(event: Event) -> Reply | None:
        if isinstance(event, Proposed):
            raise KeyError("a bug")
        return None

    node.answer = trips
    run_session(node, Context(frame(), frame(put(b"a"))))
    assert [type(failure) for failure in node.failures] == [KeyError]


def test_a_client_that_takes_no_replies_is_cut_off() -> None:
    node = Node(Config(client_outbox_bytes_max=100))
    context = Context(frame(), *[frame(put(b"a"), put(b"b"))] * 30, leaves=False)

    async def session() -> None:
        task = asyncio.create_task(node.services.session(None, _checked(context)))
        while len(context.written) < 1:
            await asyncio.sleep(0)
        context.takes_replies.clear()
        for _ in range(100):
            await asyncio.sleep(0)
        context.takes_replies.set()
        await task

    with pytest.raises(Aborted, match="does not take its replies") as aborted:
        asyncio.run(session())
    assert aborted.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_more_clients_than_the_limit_are_sent_away() -> None:
    node = Node(Config(client_connections_max=1))

    async def two() -> None:
        first = asyncio.create_task(
            node.services.session(None, _checked(Context(frame(), leaves=False)))
        )
        await asyncio.sleep(0)
        try:
            await node.services.session(None, _checked(Context(frame())))
        finally:
            first.cancel()
            await asyncio.wait([first])

    with pytest.raises(Aborted, match="its limit of 1 clients") as aborted:
        asyncio.run(two())
    assert aborted.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_large_answers_leave_in_frames_that_a_client_can_take() -> None:
    large = wire.Result(
        get=wire.GetResult(item=wire.Item(value=b"v" * (FRAME_BYTES_MAX - 100)))
    ).SerializeToString()
    node, context = Node(), Context(frame(*[put(b"a")] * 20), leaves=False)
    node.answer = lambda event: (
        Reply(event.connection, 1, list(event.ids), [large] * len(event.ids), 3, 100, 2)
        if isinstance(event, Proposed)
        else None
    )
    run_session(node, context)
    assert max(map(len, context.written)) < CLIENT_MESSAGE_BYTES_MAX
    ids = [id_ for one in context.frames() for replies in one.replies for id_ in replies.ids]
    assert ids == list(range(1, 21))


# --- The unary calls ---


def test_execute_answers_a_frame_with_one_frame() -> None:
    node = Node()
    request = ClientFrame.FromString(frame(put(b"a")))
    request.inquiries.add(group=2, ids=[5], queries=[get(b"k")])
    answer = execute(node, request.SerializeToString())
    assert {replies.group: list(replies.ids) for replies in answer.replies} == {1: [1], 2: [5]}
    assert isinstance(node.events[-1], Disconnected)


def test_an_answer_that_is_too_large_for_execute_ends_it() -> None:
    node = Node(Config(client_outbox_bytes_max=1))
    node.answer = lambda event: None

    async def call() -> None:
        task = asyncio.create_task(
            node.services.execute(frame(put(b"a"), put(b"b")), _checked(Context()))
        )
        await asyncio.sleep(0)
        node.services.deliver(Reply(1, 1, [1], [OK], 3, 100, 2))
        await task

    with pytest.raises(Aborted, match="too large") as aborted:
        asyncio.run(call())
    assert aborted.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_node_of_no_cluster_yet_lets_clients_in_and_refuses_their_requests_itself() -> None:
    node, context = Node(), Context(frame(put(b"a"), cluster_id=b"x"), leaves=False)
    node.hello = ServerHello()
    run_session(node, context)
    assert len(context.frames()) == 2


def test_status_and_transfer() -> None:
    node = Node()

    async def calls() -> tuple[bytes, bytes]:
        context = _checked(Context())
        status = await node.services.status(b"", context)
        request = TransferRequest(group=1, target="n2").SerializeToString()
        return status, await node.services.transfer(request, context)

    status, transfer = asyncio.run(calls())
    assert StatusResponse.FromString(status).name == "n1"
    assert TransferResponse.FromString(transfer).leader == "leader of 1"
    assert node.events == [TransferAsked(1, 22)]


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (b"\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (TransferRequest(target="n9").SerializeToString(), grpc.StatusCode.NOT_FOUND),
    ],
)
def test_a_transfer_that_makes_no_sense(request_bytes: bytes, code: grpc.StatusCode) -> None:
    node = Node()
    with pytest.raises(Aborted) as aborted:
        asyncio.run(node.services.transfer(request_bytes, _checked(Context())))
    assert aborted.value.code is code
    assert not node.events


def test_a_status_request_that_is_none() -> None:
    with pytest.raises(Aborted, match="not a StatusRequest"):
        asyncio.run(Node().services.status(b"\xff", _checked(Context())))
