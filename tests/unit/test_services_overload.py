"""More than a node can serve, or a client can take: who is sent away, who waits, who is not."""

import asyncio

import grpc
import pytest

from kvorum_proto import command_pb2 as wire
from kvorum_proto.kv_pb2 import (
    ClientFrame,
)
from kvorum_server.config import Config
from kvorum_server.events import (
    Congested,
    Disconnected,
    Event,
    Proposed,
    Relieved,
)
from tests.unit.host_setup import get, put
from tests.unit.services_setup import (
    Aborted,
    Context,
    Node,
    answered,
    checked,
    frame,
    run_session,
)


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
        task = asyncio.create_task(node.services.session(None, checked(context)))
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
            asyncio.create_task(node.services.session(None, checked(context)))
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
        task = asyncio.create_task(node.services.session(None, checked(context)))
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


def test_a_client_that_takes_no_replies_is_cut_off() -> None:
    node = Node(Config(client_outbox_bytes_max=100))
    context = Context(frame(), *[frame(put(b"a"), put(b"b"))] * 30, leaves=False)

    async def session() -> None:
        task = asyncio.create_task(node.services.session(None, checked(context)))
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
            node.services.session(None, checked(Context(frame(), leaves=False)))
        )
        await asyncio.sleep(0)
        try:
            await node.services.session(None, checked(Context(frame())))
        finally:
            first.cancel()
            await asyncio.wait([first])

    with pytest.raises(Aborted, match="its limit of 1 clients") as aborted:
        asyncio.run(two())
    assert aborted.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
