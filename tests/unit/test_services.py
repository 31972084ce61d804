"""The client side of a node, fed with whatever a network may bring."""

import asyncio

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvorum_proto import command_pb2 as wire
from kvorum_proto.cluster_pb2 import StatusResponse, TransferRequest, TransferResponse
from kvorum_proto.kv_pb2 import (
    ClientFrame,
    Inquiry,
    Proposal,
    ServerHello,
)
from kvorum_server.config import Config
from kvorum_server.events import (
    Disconnected,
    Event,
    Proposed,
    Reply,
    TransferAsked,
)
from kvorum_server.rpc.services import (
    CLIENT_MESSAGE_BYTES_MAX,
    FRAME_BYTES_MAX,
)
from tests.unit.host_setup import get, put
from tests.unit.services_setup import (
    CLUSTER,
    HELLO,
    OK,
    Aborted,
    Context,
    Node,
    checked,
    execute,
    frame,
    run_session,
)

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


def test_a_client_learns_with_its_answers_what_has_changed_in_the_cluster() -> None:
    node, context = Node(), Context(frame(put(b"a")), leaves=False)

    async def session() -> None:
        task = asyncio.create_task(node.services.session(None, checked(context)))
        while len(context.written) < 2:
            await asyncio.sleep(0)
        node.hello = ServerHello()
        node.hello.CopyFrom(HELLO)
        node.hello.table.version += 1
        node.hello.addresses.append("n4:7400")
        for number in (4, 5):
            context.say(frame(put(b"b"), hello=False))
            while len(context.written) < number:
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(session())
    told = [list(one.hello.addresses) for one in context.frames() if one.HasField("hello")]
    assert told == [[], ["n4:7400"]], "news are told once"


def test_a_client_that_asks_nothing_is_told_as_well_before_all_whom_it_knows_are_gone() -> None:
    node = Node()
    idle, silent = Context(frame(), leaves=False), Context(leaves=False)

    async def sessions() -> None:
        tasks = [
            asyncio.create_task(node.services.session(None, checked(context)))
            for context in (idle, silent)
        ]
        while not idle.written:
            await asyncio.sleep(0)
        node.services.announce()
        node.hello = ServerHello()
        node.hello.CopyFrom(HELLO)
        node.hello.table.version += 1
        node.hello.addresses.append("n4:7400")
        for _ in range(3):
            node.services.announce()
            for _ in range(10):
                await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    asyncio.run(sessions())
    told = [list(one.hello.addresses) for one in idle.frames()]
    assert told == [[], ["n4:7400"]], "news are told once"
    assert silent.written == [], "who has not said hello is told nothing"


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
            node.services.execute(frame(put(b"a"), put(b"b")), checked(Context()))
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
        context = checked(Context())
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
        asyncio.run(node.services.transfer(request_bytes, checked(Context())))
    assert aborted.value.code is code
    assert not node.events


def test_a_status_request_that_is_none() -> None:
    with pytest.raises(Aborted, match="not a StatusRequest"):
        asyncio.run(Node().services.status(b"\xff", checked(Context())))
