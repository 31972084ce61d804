"""What a leader knows of a follower: the three states, and answers that come late or twice."""

from kvorum_server.consensus.progress import Progress, ProgressState


def replicating(matched: int = 5) -> Progress:
    progress = Progress(next_index=matched + 1, heard_at=0)
    progress.sent(matched)
    progress.accepted(matched, 0)
    assert progress.state is ProgressState.REPLICATE
    return progress


def test_one_probe_at_a_time() -> None:
    progress = Progress(next_index=6, heard_at=0)
    assert progress.may_send(8)
    progress.sent(9)
    assert not progress.may_send(8)
    assert progress.next_index == 6, "a probe is a guess: nothing is taken for granted"


def test_an_accepted_probe_opens_the_pipeline() -> None:
    progress = Progress(next_index=6, heard_at=0)
    progress.sent(9)
    assert progress.accepted(9, 0)
    assert (progress.state, progress.matched, progress.next_index) == (
        ProgressState.REPLICATE,
        9,
        10,
    )


def test_an_accepted_probe_without_news_opens_the_pipeline_too() -> None:
    progress = replicating(5)
    progress.become_probe(6)
    progress.sent(5)
    assert not progress.accepted(5, 0)
    assert progress.state is ProgressState.REPLICATE


def test_the_window_limits_what_is_on_the_way() -> None:
    progress = replicating(5)
    progress.sent(6)
    progress.sent(7)
    assert not progress.may_send(2)
    progress.accepted(6, 0)
    assert progress.may_send(2)
    assert list(progress.inflight) == [7]


def test_matched_never_falls() -> None:
    progress = replicating(5)
    progress.sent(8)
    progress.accepted(8, 0)
    assert not progress.accepted(6, 0), "an old answer is no news"
    assert progress.matched == 8
    assert progress.next_index == 9


def test_a_refusal_goes_back_to_where_the_logs_may_agree() -> None:
    progress = Progress(next_index=11, heard_at=0)
    progress.sent(11)
    progress.refused(10, agreement=4)
    assert (progress.state, progress.next_index) == (ProgressState.PROBE, 5)
    assert progress.may_send(8)


def test_every_refusal_goes_back_by_one_at_least() -> None:
    progress = Progress(next_index=11, heard_at=0)
    progress.sent(11)
    progress.refused(10, agreement=10)
    assert progress.next_index == 10


def test_a_refusal_never_goes_behind_what_is_matched() -> None:
    progress = replicating(5)
    progress.sent(9)
    progress.refused(9, agreement=2)
    assert (progress.state, progress.next_index) == (ProgressState.PROBE, 6)


def test_old_refusals_change_nothing() -> None:
    progress = replicating(5)
    progress.refused(5, agreement=1)
    assert progress.state is ProgressState.REPLICATE
    progress.become_probe(9)
    progress.refused(20, agreement=1)
    assert progress.next_index == 9, "the probe was sent after entry 8"


def test_nothing_is_sent_during_a_snapshot() -> None:
    progress = replicating(5)
    progress.become_snapshot()
    assert not progress.may_send(8)
    progress.refused(7, agreement=3)
    assert progress.state is ProgressState.SNAPSHOT


def test_an_acknowledged_snapshot_leads_back_to_the_log() -> None:
    progress = replicating(5)
    progress.become_snapshot()
    assert progress.accepted(30, log_start=20)
    assert (progress.state, progress.next_index) == (ProgressState.REPLICATE, 31)


def test_a_snapshot_that_is_too_old_by_now_does_not() -> None:
    progress = replicating(5)
    progress.become_snapshot()
    assert progress.accepted(15, log_start=20)
    assert progress.state is ProgressState.SNAPSHOT
    assert progress.matched == 15
