"""Exactly once, told as what a client may send again and what becomes of it."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvorum_proto.command_pb2 import (
    ErrorCode,
    Increment,
    Put,
    Result,
    SessionClose,
    SessionOpen,
    Submission,
)
from kvorum_server.config import Config
from kvorum_server.kv.session import EXPIRY_ROWS, POSITION_BITS
from kvorum_server.storage.rows import Table
from tests.unit.kv_harness import Harness


def increment(session: int, sequence: int, acknowledged_below: int = 0) -> Submission:
    return Submission(
        session=session,
        sequence=sequence,
        acknowledged_below=acknowledged_below,
        increment=Increment(key=b"n", by=1),
    )


def session_rows(harness: Harness) -> int:
    return sum(key[4] == Table.SESSION for key, _ in harness.rows())


def test_a_command_sent_twice_runs_once_and_is_answered_alike() -> None:
    harness = Harness()
    session = harness.open_session()
    first = harness.do(increment(session, 1))
    again = harness.do(increment(session, 1))
    assert (first.increment.value, again) == (1, first)
    assert harness.get(b"n") == b"1"


def test_twice_in_one_entry_is_also_once() -> None:
    harness = Harness()
    session = harness.open_session()
    results = harness.apply(increment(session, 1), increment(session, 1), increment(session, 2))
    assert [result.increment.value for result in results] == [1, 1, 2]


def test_the_answer_survives_a_restart() -> None:
    harness = Harness()
    session = harness.open_session()
    first = harness.do(increment(session, 1))
    harness.restart()
    assert harness.do(increment(session, 1)) == first


def test_a_refusal_is_an_outcome_and_is_repeated_even_if_it_would_succeed_now() -> None:
    harness = Harness()
    session = harness.open_session()
    harness.put(b"n", b"no number")
    refused = harness.do(increment(session, 1))
    assert refused.error.code == ErrorCode.NOT_AN_INTEGER
    harness.put(b"n", b"5")
    assert harness.do(increment(session, 1)) == refused


def test_sequences_may_arrive_in_any_order() -> None:
    harness = Harness()
    session = harness.open_session()
    for sequence in (3, 1, 2, 3, 1, 2):
        harness.do(increment(session, sequence))
    assert harness.get(b"n") == b"3"


def test_what_is_acknowledged_is_stale_even_if_it_never_came() -> None:
    harness = Harness()
    session = harness.open_session()
    harness.do(increment(session, 5, acknowledged_below=4))
    for sequence in (1, 3):
        assert harness.do(increment(session, sequence)).error.code == ErrorCode.STALE_SEQUENCE
    assert harness.do(increment(session, 4)).increment.value == 2
    assert harness.do(increment(session, 0)).error.code == ErrorCode.STALE_SEQUENCE


def test_an_unknown_session_applies_nothing() -> None:
    harness = Harness()
    result = harness.do(increment(12345, 1))
    assert result.error.code == ErrorCode.SESSION_EXPIRED
    assert harness.get(b"n") is None


def test_beyond_the_window_nothing_is_applied_or_stored() -> None:
    harness = Harness(Config(session_window=2))
    session = harness.open_session()
    early = harness.do(increment(session, 3))
    assert early.error.code == ErrorCode.WINDOW_EXCEEDED
    assert harness.do(increment(session, 3, acknowledged_below=2)).increment.value == 1


def test_stored_bytes_are_bounded_until_the_client_acknowledges() -> None:
    harness = Harness(Config(session_bytes_max=12))
    session = harness.open_session()
    sequence = 0
    results: list[Result] = []
    while not results or not results[-1].HasField("error"):
        sequence += 1
        results.append(harness.do(increment(session, sequence)))
    assert results[-1].error.code == ErrorCode.LIMIT_EXCEEDED
    assert len(results) > 1, "the first results found room"
    done = harness.do(increment(session, sequence, acknowledged_below=sequence))
    assert done.increment.value == sequence, "the refusal was not stored"


def test_the_byte_limit_never_locks_a_session_up() -> None:
    harness = Harness(Config(session_bytes_max=12))
    session = harness.open_session()
    sequence = 1
    while not harness.do(increment(session, sequence + 1, acknowledged_below=1)).HasField("error"):
        sequence += 1
    assert sequence > 1, "later sequences have filled the room"
    lowest = harness.do(increment(session, 1, acknowledged_below=1))
    assert lowest.increment.value == sequence, "the one that the client waits for is applied"
    freed = increment(session, sequence + 1, acknowledged_below=sequence + 1)
    assert harness.do(freed).increment.value == sequence + 1


def test_two_sessions_of_one_entry_have_their_own_ids() -> None:
    harness = Harness()
    opened = harness.apply(
        Submission(put=Put(key=b"a")),
        Submission(session_open=SessionOpen()),
        Submission(session_open=SessionOpen()),
    )
    ids = [result.session_open.session for result in opened[1:]]
    assert ids == [1 << POSITION_BITS | 1, 1 << POSITION_BITS | 2]
    assert opened[1].session_open.window == harness.config.session_window
    assert opened[1].session_open.idle_ms == harness.config.session_idle_ms


def test_a_session_opened_where_an_id_has_no_room_is_refused() -> None:
    harness = Harness()
    openings = [Submission(session_open=SessionOpen())] * ((1 << POSITION_BITS) + 1)
    *opened, refused = harness.apply(*openings)
    assert all(result.HasField("session_open") for result in opened)
    assert refused.error.code == ErrorCode.LIMIT_EXCEEDED


def test_a_session_lives_as_long_as_it_is_used_and_then_its_idle_time() -> None:
    harness = Harness(Config(session_idle_ms=1000))
    session = harness.open_session()
    used = harness.stamp + 1000
    assert harness.do(increment(session, 1), stamp=used).increment.value == 1
    assert harness.do(increment(session, 2), stamp=used + 1000).increment.value == 2
    late = harness.do(increment(session, 2), stamp=used + 2001)
    assert late.error.code == ErrorCode.SESSION_EXPIRED
    assert session_rows(harness) == 0, "nothing is left of it"


def test_a_repeated_command_counts_as_use_after_a_restart_too() -> None:
    harness = Harness(Config(session_idle_ms=1000))
    session = harness.open_session()
    harness.do(increment(session, 1))
    harness.do(increment(session, 1), stamp=harness.stamp + 900)
    harness.restart()
    assert harness.do(increment(session, 1), stamp=harness.stamp + 900).increment.value == 1


def test_dead_sessions_are_removed_a_few_an_entry_and_refused_at_once() -> None:
    harness = Harness(Config(session_idle_ms=1000))
    sessions = [
        result.session_open.session
        for _ in range(2)
        for result in harness.apply(*[Submission(session_open=SessionOpen())] * EXPIRY_ROWS)
    ]
    late = harness.stamp + 5000
    result = harness.do(increment(sessions[-1], 1), stamp=late)
    assert result.error.code == ErrorCode.SESSION_EXPIRED
    assert harness.machine.status().sessions == EXPIRY_ROWS
    harness.apply(stamp=late)
    assert harness.machine.status().sessions == 0


def test_a_closed_session_is_gone_and_closing_it_again_is_no_error() -> None:
    harness = Harness()
    session = harness.open_session()
    closing = Submission(session_close=SessionClose(session=session))
    results = harness.apply(increment(session, 1), closing, increment(session, 2), closing)
    assert [result.WhichOneof("result") for result in results] == [
        "increment",
        "session_close",
        "error",
        "session_close",
    ]
    assert session_rows(harness) == 0


def test_there_are_no_more_sessions_than_the_limit() -> None:
    harness = Harness(Config(sessions_max=2))
    opening = Submission(session_open=SessionOpen())
    *_, refused = harness.apply(opening, opening, opening)
    assert refused.error.code == ErrorCode.LIMIT_EXCEEDED
    assert harness.machine.status().sessions == 2


def test_rows_go_when_their_sequences_are_acknowledged_and_the_newest_stays() -> None:
    harness = Harness()
    session = harness.open_session()
    for sequence in range(1, 6):
        harness.do(increment(session, sequence))
    assert session_rows(harness) == 5, "the opening's own row held no result and went"
    harness.do(increment(session, 6, acknowledged_below=5))
    assert session_rows(harness) == 2
    harness.do(increment(session, 6, acknowledged_below=7))
    assert session_rows(harness) == 1


def test_rows_do_not_grow_without_bound_behind_one_that_is_not_acknowledged() -> None:
    harness = Harness(Config(session_window=8))
    session = harness.open_session()
    first: list[Result] = [harness.do(increment(session, 1))]
    for sequence in range(2, 9):
        harness.do(increment(session, sequence))
    for _ in range(20):
        assert harness.do(increment(session, 1)) == first[0]
    assert session_rows(harness) <= 2 * 8 + 1


def test_a_far_jump_of_the_acknowledgement_costs_no_walk() -> None:
    harness = Harness()
    session = harness.open_session()
    harness.apply(*(increment(session, sequence) for sequence in range(1, 4)))
    far = 2**60
    assert harness.do(increment(session, far, acknowledged_below=far)).increment.value == 4
    assert harness.do(increment(session, 3)).error.code == ErrorCode.STALE_SEQUENCE


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    story=st.lists(
        st.one_of(
            st.lists(
                st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 6)), max_size=4
            ),
            st.sampled_from(["open", "close", "wait", "restart"]),
        ),
        max_size=30,
    )
)
def test_nothing_runs_twice_and_memory_is_always_what_the_rows_say(
    story: list[list[tuple[int, int, int]] | str],
) -> None:
    """Any order of copies, acknowledgements, pauses and restarts, over up to four sessions."""
    config = Config(session_window=4, session_idle_ms=100, session_bytes_max=20, sessions_max=4)
    crashing, steady = Harness(config), Harness(config)
    sessions: list[int] = []
    answers: dict[tuple[int, int], int] = {}
    for step in story:
        if step == "restart":
            crashing.restart()
            continue
        submissions = []
        if step == "open":
            submissions = [Submission(session_open=SessionOpen())]
        elif step == "close" and sessions:
            submissions = [Submission(session_close=SessionClose(session=sessions[0]))]
        elif isinstance(step, list):
            submissions = [increment(sessions[n], s, a) for n, s, a in step if n < len(sessions)]
        stamp = steady.stamp + (80 if step == "wait" else 10)
        results = steady.apply(*submissions, stamp=stamp)
        assert crashing.apply(*submissions, stamp=stamp) == results
        assert crashing.rows() == steady.rows()
        for submission, result in zip(submissions, results, strict=True):
            if result.HasField("session_open"):
                sessions.append(result.session_open.session)
            if result.HasField("increment"):
                command = (submission.session, submission.sequence)
                told = answers.setdefault(command, result.increment.value)
                assert told == result.increment.value, "one command, one answer"
    assert sorted(answers.values()) == list(range(1, len(answers) + 1)), "each ran once"
