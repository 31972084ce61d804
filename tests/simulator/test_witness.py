"""The log as a witness, and the replay that it rests on: both must be able to say no.

Each story builds a log from real commands, as a leader would, and a history of what clients were
told; then one thing in it is made wrong.
"""

import random
from dataclasses import replace

import pytest

from kvorum_proto import command_pb2
from kvorum_server.config import Config
from kvorum_server.kv.machine import KvMachine
from kvorum_server.state_machine import MachineStatus
from kvorum_server.types import Entry, EntryKind
from tests.simulator.checkers import Violation
from tests.simulator.linearizability import NEVER, Call, check_history
from tests.simulator.model import (
    Compact,
    Decided,
    Delete,
    Deleted,
    DeleteRange,
    Forgotten,
    Found,
    Get,
    Increment,
    Incremented,
    Item,
    Model,
    Operation,
    Outcome,
    Put,
    Refused,
    Scan,
    Transaction,
    Written,
)
from tests.simulator.replay import replay
from tests.simulator.translation import submission_of
from tests.simulator.witness import judge

A, B = b"a", b"b"
GROUP = 1
SESSION = 1 << 10
"""The session that the first entry of a story opens."""


class Story:
    """A log that grows, and the calls of clients, one after the other in time unless said."""

    def __init__(self) -> None:
        self.log: list[Entry] = []
        self.history: list[Call] = []
        self.config = Config()
        self.seen: dict[int, tuple[MachineStatus, object]] = {}
        self.append(command_pb2.Submission(session_open=command_pb2.SessionOpen()))

    def append(self, *submissions: command_pb2.Submission) -> None:
        """One more committed entry."""
        payload = command_pb2.CommandBatch(submissions=submissions).SerializeToString()
        index = len(self.log) + 1
        self.log.append(Entry(index, 1, EntryKind.COMMANDS, index, 1, payload))

    def commit(self, operation: Operation, sequence: int, session: int = SESSION) -> None:
        """A client's command is committed."""
        submission = submission_of(operation)
        submission.session, submission.sequence = session, sequence
        self.append(submission)

    def tell(
        self, begin: int, end: int, operation: Operation, outcome: Outcome, sequence: int = 0
    ) -> None:
        """A client is answered."""
        session = SESSION if sequence else 0
        self.history.append(Call(7, begin, end, operation, outcome, session, sequence))

    def lose(self, begin: int, operation: Operation, sequence: int = 0) -> None:
        """A client never hears of its command."""
        session = SESSION if sequence else 0
        self.history.append(Call(7, begin, NEVER, operation, None, session, sequence))

    def check(self) -> None:
        """Raises Violation unless all fits."""
        judge(self.history, replay(GROUP, self.config, self.log, self.seen))


def found(revision: int, *items: Item) -> Found:
    return Found(revision, items)


def item(key: bytes, value: bytes, revision: int) -> Item:
    return Item(key, value, revision, revision, 1)


def two_writes() -> Story:
    """a is written and then b."""
    story = Story()
    story.commit(Put(A, b"1"), 1)
    story.commit(Put(B, b"2"), 2)
    story.tell(0, 10, Put(A, b"1"), Written(2), 1)
    story.tell(20, 30, Put(B, b"2"), Written(3), 2)
    return story


def test_an_honest_history_passes() -> None:
    story = two_writes()
    story.tell(40, 50, Get(A), found(3, item(A, b"1", 2)))
    story.tell(40, 50, Scan(A, b"z"), found(3, item(A, b"1", 2), item(B, b"2", 3)))
    story.check()


def test_a_read_during_a_write_may_see_either_state() -> None:
    for answer in (found(2), found(3, item(B, b"2", 3))):
        story = two_writes()
        story.tell(15, 25, Get(B), answer)
        story.check()


def test_a_stale_read_is_convicted_and_the_proof_is_named() -> None:
    story = two_writes()
    story.tell(40, 50, Get(B), found(2))
    with pytest.raises(Violation, match=r"(?s)not linearizable: read.*saw Found.*write.*key=b'b'"):
        story.check()


def test_a_stale_read_that_asked_for_it_is_acquitted() -> None:
    story = two_writes()
    story.history.append(Call(7, 40, 50, Get(B), found(2), staleness=0))
    story.check()


def test_a_read_of_the_future_is_convicted() -> None:
    story = two_writes()
    story.tell(0, 5, Get(B), found(3, item(B, b"2", 3)))
    with pytest.raises(Violation, match="not linearizable"):
        story.check()


def test_not_even_a_stale_read_sees_what_never_was() -> None:
    story = two_writes()
    story.history.append(Call(7, 40, 50, Get(B), found(3, item(B, b"9", 3)), staleness=0))
    with pytest.raises(Violation, match="no state that ever was"):
        story.check()


def test_two_reads_may_not_see_a_write_come_and_go() -> None:
    story = Story()
    story.commit(Put(A, b"1"), 1)
    story.tell(0, 100, Put(A, b"1"), Written(2), 1)
    story.tell(10, 20, Get(A), found(2, item(A, b"1", 2)))
    story.tell(30, 40, Get(A), found(1))
    with pytest.raises(Violation, match="not linearizable"):
        story.check()


def test_an_acknowledged_write_that_the_log_lacks_is_lost() -> None:
    story = two_writes()
    del story.log[-1]
    with pytest.raises(Violation, match="acknowledged, and not in the log"):
        story.check()


def test_an_acknowledged_write_without_a_session_is_missed_as_well() -> None:
    story = two_writes()
    story.tell(40, 50, Put(A, b"3"), Written(4))
    with pytest.raises(Violation, match="acknowledged, and not in the log"):
        story.check()


def test_an_answer_that_differs_from_the_log_is_found() -> None:
    story = Story()
    story.commit(Increment(A, 5), 1)
    story.tell(0, 10, Increment(A, 5), Incremented(2, 6), 1)
    with pytest.raises(Violation, match="answered otherwise than entry 2"):
        story.check()


def test_a_lost_write_is_found_in_the_log_once_or_never() -> None:
    for committed in (True, False):
        story = Story()
        if committed:
            story.commit(Increment(A, 5), 1)
        story.lose(0, Increment(A, 5), 1)
        story.check()


def test_a_copy_of_a_command_in_the_log_is_harmless_while_sessions_work() -> None:
    story = two_writes()
    story.commit(Put(A, b"1"), 1)
    story.check()


def test_a_copy_that_is_executed_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session table that forgets everything, on all replicas alike."""
    story = two_writes()
    story.commit(Put(A, b"1"), 1)
    monkeypatch.setattr("kvorum_server.kv.session.SessionTable.judge", lambda *_: None)
    monkeypatch.setattr("kvorum_server.kv.session.Session.keep", lambda *_: None)
    with pytest.raises(Violation, match="executed again or answered otherwise"):
        story.check()


def test_a_command_without_session_that_was_sent_once_and_logged_twice_is_found() -> None:
    story = Story()
    for _ in range(2):
        story.commit(Increment(A, 1), 0, session=0)
    story.tell(0, 10, Increment(A, 1), Incremented(2, 1))
    with pytest.raises(Violation, match="sent once and applied again"):
        story.check()


def test_two_equal_lost_commands_may_have_had_two_effects() -> None:
    story = Story()
    for _ in range(2):
        story.commit(Increment(A, 1), 0, session=0)
    story.lose(0, Increment(A, 1))
    story.lose(5, Increment(A, 1))
    story.tell(10, 20, Get(A), found(3, Item(A, b"2", 2, 3, 2)))
    story.check()


def test_a_lost_command_has_no_effect_before_it_was_sent() -> None:
    story = Story()
    story.commit(Increment(A, 1), 0, session=0)
    story.tell(0, 10, Get(A), found(2, Item(A, b"1", 2, 2, 1)))
    story.lose(20, Increment(A, 1))
    with pytest.raises(Violation, match="not linearizable"):
        story.check()


def test_an_effect_whose_client_was_told_that_nothing_was_done_belongs_to_nobody() -> None:
    story = two_writes()
    del story.history[-1]
    with pytest.raises(Violation, match="its client was told that nothing was done"):
        story.check()


def test_the_past_is_read_as_it_was() -> None:
    story = two_writes()
    story.tell(40, 50, Get(A, 1), found(3))
    story.tell(40, 50, Scan(A, b"z", 2), found(3, item(A, b"1", 2)))
    story.tell(40, 50, Get(A, 4), Refused(command_pb2.FUTURE_REVISION))
    story.check()
    story.tell(40, 50, Get(A, 1), found(3, item(A, b"1", 2)))
    with pytest.raises(Violation, match="no state that ever was"):
        story.check()


def test_what_was_compacted_is_refused_from_then_on_and_not_before() -> None:
    story = two_writes()
    story.commit(Compact(3), 3)
    story.tell(40, 50, Compact(3), Forgotten(3), 3)
    story.tell(15, 60, Get(A, 2), found(3, item(A, b"1", 2)))
    story.tell(35, 60, Get(A, 2), Refused(command_pb2.COMPACTED))
    story.check()
    story.tell(55, 60, Get(A, 2), found(3, item(A, b"1", 2)))
    with pytest.raises(Violation, match="not linearizable"):
        story.check()


def test_a_refusal_for_compaction_before_any_is_found() -> None:
    story = two_writes()
    story.tell(40, 50, Get(A, 2), Refused(command_pb2.COMPACTED))
    with pytest.raises(Violation, match="no state that ever was"):
        story.check()


def test_compaction_by_the_leader_itself_needs_no_client() -> None:
    story = two_writes()
    story.commit(Compact(2), 0, session=0)
    story.check()


def test_a_lost_compaction_is_not_mistaken_for_the_leaders_own() -> None:
    story = two_writes()
    story.commit(Compact(2), 0, session=0)
    story.tell(40, 50, Get(A, 1), Refused(command_pb2.COMPACTED))
    story.lose(60, Compact(2))
    story.check()


def test_a_transaction_inside_a_transaction_is_judged_as_one_step() -> None:
    inner = Transaction(((B, None),), (Increment(B, 2), Scan(A, b"z")), ())
    whole = Transaction(((A, b"1"),), (Put(A, b"9"), inner), (DeleteRange(A, B, 1000),))
    story = Story()
    story.commit(Put(A, b"1"), 1)
    story.commit(whole, 2)
    story.tell(0, 10, Put(A, b"1"), Written(2), 1)
    seen = found(0, Item(A, b"9", 2, 3, 2), item(B, b"2", 3))
    nested = Decided(0, True, (Incremented(0, 2), seen))
    story.tell(20, 30, whole, Decided(3, True, (Written(0), nested)), 2)
    story.check()
    story.history[-1] = replace(story.history[-1], outcome=Decided(3, True, (Written(0), seen)))
    with pytest.raises(Violation, match="answered otherwise"):
        story.check()


def test_a_refusal_inside_a_transaction_undoes_all_of_it() -> None:
    whole = Transaction((), (Put(A, b"9"), Increment(B, 1)), ())
    story = Story()
    story.commit(Put(B, b"text"), 1)
    story.commit(whole, 2)
    story.tell(0, 10, Put(B, b"text"), Written(2), 1)
    story.tell(20, 30, whole, Refused(command_pb2.NOT_AN_INTEGER), 2)
    story.tell(40, 50, Get(A), found(2))
    story.check()


def test_a_deletion_that_a_limit_cut_is_the_shorter_one() -> None:
    story = Story()
    story.config = Config(range_keys_max=1)
    story.commit(Put(A, b"1"), 1)
    story.commit(Put(B, b"2"), 2)
    story.commit(DeleteRange(A, b"z", 1), 3)
    story.tell(0, 10, Put(A, b"1"), Written(2), 1)
    story.tell(20, 30, Put(B, b"2"), Written(3), 2)
    story.tell(40, 50, DeleteRange(A, B, 1), Deleted(4, 1), 3)
    story.tell(60, 70, Get(B), found(4, item(B, b"2", 3)))
    story.check()


def test_a_replica_that_differs_from_the_log_is_found() -> None:
    story = two_writes()
    honest = MachineStatus(3, 1, 3, 3, 0, 1)
    story.seen = {3: (honest, "n1")}
    story.check()
    story.seen = {3: (replace(honest, revision=4), "n2")}
    with pytest.raises(Violation, match="node n2 has"):
        story.check()


def test_a_state_machine_that_computes_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """All replicas agree, and all are wrong: only the model can tell."""
    original = KvMachine._increment

    def increment(self: KvMachine, command: command_pb2.Increment) -> bytes:
        return original(self, command_pb2.Increment(key=command.key, by=command.by + 1))

    monkeypatch.setattr(KvMachine, "_increment", increment)
    story = Story()
    story.commit(Increment(A, 5), 1)
    with pytest.raises(Violation, match="expected Incremented"):
        story.check()


def random_story(generator: random.Random) -> Story:
    """What a correct server executed, in calls that overlap; some answers were lost."""
    story = Story()
    model = Model.numbered()
    for number in range(60):
        key = generator.choice((A, B))
        operation: Operation = generator.choice(
            (Put(key, b"%d" % number), Increment(key, 1), Delete(key), Get(key), Scan(A, b"z"))
        )
        is_write = isinstance(operation, Put | Increment | Delete)
        if is_write:
            story.commit(operation, number + 1)
        model, outcome = model.apply(operation)
        begin = 10 * number - generator.randrange(40)
        if is_write and generator.random() < 0.05:
            story.lose(begin, operation, number + 1)
        else:
            end = 10 * number + generator.randrange(40)
            story.tell(begin, end, operation, outcome, number + 1 if is_write else 0)
    return story


@pytest.mark.parametrize("seed", range(20))
def test_the_witness_and_the_search_agree(seed: int) -> None:
    """On what was executed, and on what a read was shifted to; neither knows of the other."""
    generator = random.Random(seed)
    story = random_story(generator)
    story.check()
    assert check_history(story.history).linearizable, f"seed {seed}"
    number, moved = generator.choice(
        [pair for pair in enumerate(story.history) if isinstance(pair[1].outcome, Found)]
    )
    shift = generator.choice((-1, 1)) * generator.randrange(1, 300)
    story.history[number] = replace(moved, begin=moved.begin + shift, end=moved.end + shift)
    by_search = check_history(story.history).linearizable
    assert by_search is not None, f"seed {seed}: undecided"
    if by_search:
        story.check()
    else:
        with pytest.raises(Violation, match="not linearizable"):
            story.check()
