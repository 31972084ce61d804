"""The sessions of writes, told one situation at a time: what the dispatcher must send and tell so
that a write which is repeated is applied once.

A write has a place in a session, its sequence. The session is bounded by a window above what has
been answered, lives as long as it is used, and may be refused, full or gone. Whatever happens to
it, the outcome of a write is called unknown only when some copy of it may have been applied.
``test_dispatch.py`` tells how calls find the node that serves them.
"""

from kvorum._dispatch import SILENCE_SECONDS
from kvorum._errors import LimitExceeded, UnknownOutcome
from kvorum_proto import command_pb2 as wire
from tests.unit.dispatcher_setup import SESSION, Setup, done, error_of, refusal, submission_of


def test_acknowledged_below_follows_the_oldest_unanswered_call() -> None:
    setup = Setup()
    setup.put("a")
    setup.put("b")
    first, second = setup.start()
    setup.answer(second, done())
    setup.put("c")
    (third,) = setup.flush()
    assert submission_of(third).acknowledged_below == 1, "the first is still wanted"
    setup.answer(first, done())
    setup.put("d")
    (fourth,) = setup.flush()
    assert submission_of(fourth).acknowledged_below == 3


def test_the_window_holds_calls_back() -> None:
    setup = Setup()
    for number in range(5000):
        setup.put(str(number))
    requests = setup.start()
    assert len(requests) == 4096
    setup.answer(requests[1], done())
    assert setup.flush() == [], "the oldest is still wanted"
    setup.answer(requests[0], done())
    assert len(setup.flush()) == 2


def test_giving_up_the_oldest_call_opens_the_window() -> None:
    setup = Setup()
    setup.put("a")
    setup.start()
    (call,) = list(setup.dispatcher._live)
    setup.dispatcher.give_up(call)
    setup.put("b")
    (request,) = setup.flush()
    assert submission_of(request).acknowledged_below == 2, "a late copy can no longer be applied"


def test_a_session_is_retired_at_half_its_idle_time() -> None:
    setup = Setup()
    setup.put()
    (request,) = setup.start()
    setup.answer(request, done())
    setup.now += 299
    setup.put()
    (request,) = setup.flush()
    assert request.command == "put"
    setup.answer(request, done())
    setup.now += 301
    setup.put()
    (request,) = setup.flush()
    assert request.command == "session_open"


def test_reading_does_not_keep_a_session_alive() -> None:
    setup = Setup()
    setup.put()
    (request,) = setup.start()
    setup.answer(request, done())
    for _ in range(4):
        setup.now += 100
        setup.get()
        (request,) = setup.flush()
        setup.answer(request, wire.Result(get=wire.GetResult()))
    setup.put()
    (request,) = setup.flush()
    assert request.command == "session_open"


def test_an_expired_session_leaves_sent_writes_unknown_and_unsent_ones_alone() -> None:
    setup = Setup()
    sent = [setup.put("a"), setup.put("b")]
    first, second = setup.start()
    setup.answer(second, refusal(wire.BUSY))
    unsent = setup.put("c")
    setup.answer(first, refusal(wire.SESSION_EXPIRED))
    assert isinstance(error_of(sent[0]), UnknownOutcome)
    assert not sent[1].done(), "it was refused, so it was never in the log"
    assert not unsent.done()
    requests = setup.pass_time(0.05)
    assert [request.command for request in requests] == ["session_open"]
    setup.answer(requests[0], SESSION)
    again = setup.flush()
    assert [submission_of(request).put.key for request in again] == [b"b", b"c"]
    assert [submission_of(request).sequence for request in again] == [1, 2]


def test_a_full_session_does_not_make_certain_what_another_copy_left_open() -> None:
    """Its refusal is not stored: when older answers are acknowledged, the other copy is applied."""
    setup = Setup()
    outcome, alone = setup.put("a"), setup.put("b")
    _, second = setup.start()
    setup.answer(second, refusal(wire.LIMIT_EXCEEDED))
    assert isinstance(error_of(alone), LimitExceeded), "there is no other copy of this one"
    setup.pass_time(SILENCE_SECONDS + 0.1)
    setup.open(setup.dialled.pop())
    (copy,) = setup.flush()
    setup.answer(copy, refusal(wire.LIMIT_EXCEEDED))
    assert isinstance(error_of(outcome), UnknownOutcome)


def test_when_no_session_can_be_had_the_waiting_writes_are_told() -> None:
    setup = Setup()
    outcome = setup.put()
    (opening,) = setup.connect()
    setup.answer(opening, refusal(wire.LIMIT_EXCEEDED))
    assert isinstance(error_of(outcome), LimitExceeded)


def test_without_sessions_a_lost_write_is_unknown_and_a_refused_one_is_repeated() -> None:
    setup = Setup(sessions=False)
    outcome = setup.put()
    (request,) = setup.connect()
    assert submission_of(request).session == 0
    setup.answer(request, refusal(wire.NOT_LEADER))
    (again,) = setup.pass_time(0.1) or setup.connect()
    setup.break_link(again.address)
    assert isinstance(error_of(outcome), UnknownOutcome)
