"""The bookkeeping of a session against the plainest possible model of it."""

from hypothesis import given
from hypothesis import strategies as st

from kvorum._session import Session


def session(window: int = 4) -> Session:
    """A session of ten seconds, opened at 100."""
    return Session(77, idle_ms=10_000, window=window, now=100.0)


@given(st.lists(st.one_of(st.just("take"), st.integers(0, 30)), max_size=200))
def test_acknowledged_below_is_the_lowest_sequence_that_waits(steps: list[str | int]) -> None:
    ours, taken = session(), 0
    waiting: list[int] = []
    for step in steps:
        if step == "take":
            low = min(waiting, default=taken + 1)
            assert ours.has_room() == (taken + 1 - low < 4)
            if ours.has_room():
                taken += 1
                assert ours.take() == taken
                waiting.append(taken)
        elif isinstance(step, int) and waiting:
            ours.finish(waiting.pop(step % len(waiting)))
        assert ours.acknowledged_below == min(waiting, default=taken + 1)


def test_a_full_window_opens_with_the_oldest_answer_only() -> None:
    ours = session(window=2)
    first, second = ours.take(), ours.take()
    assert not ours.has_room()
    ours.finish(second)
    assert not ours.has_room()
    ours.finish(first)
    assert ours.has_room()


def test_a_session_is_used_until_half_its_idle_time_after_the_last_answered_sending() -> None:
    ours = session()
    assert ours.usable(104.9)
    assert not ours.usable(105.0)
    ours.answered(ours.take(), 103.0)
    ours.answered(ours.take(), 101.0)
    assert ours.usable(107.9)
    assert not ours.usable(108.0)


def test_an_expired_session_is_not_used() -> None:
    ours = session()
    ours.expired = True
    assert not ours.usable(100.0)
