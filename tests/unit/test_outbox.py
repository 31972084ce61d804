"""What a turn produces is gathered by where it goes."""

from kvorum_server.events import Effects
from kvorum_server.outbox import Outbox
from kvorum_server.state_machine import MachineStatus
from kvorum_server.types import Envelope, HeartbeatRequest, TimeoutNow, VoteRequest

STATUS = MachineStatus(5, 2, 100, 9, 1, 0)


def test_answers_for_one_client_and_group_become_one_reply() -> None:
    outbox = Outbox()
    outbox.reply(7, 1, [1], [b"a"], 2, STATUS)
    outbox.reply(7, 1, [2, 3], [b"b", b"c"], 2, STATUS)
    outbox.reply(7, 2, [4], [b"d"], 2, STATUS)
    outbox.reply(8, 1, [1], [b"e"], 2, STATUS)
    effects = Effects()
    outbox.into(effects)
    gathered = [(r.connection, r.group, r.ids, r.results) for r in effects.replies]
    assert gathered == [
        (7, 1, [1, 2, 3], [b"a", b"b", b"c"]),
        (7, 2, [4], [b"d"]),
        (8, 1, [1], [b"e"]),
    ]
    assert {(r.term, r.log_time, r.revision) for r in effects.replies} == {(2, 100, 9)}


def test_votes_and_heartbeats_come_first() -> None:
    outbox = Outbox()
    late, vote, beat = TimeoutNow(1), VoteRequest(1, 0, 0), HeartbeatRequest(1, 0)
    for message in (late, vote, beat):
        outbox.send_message(22, 1, 1, 2, message)
    outbox.send_message(33, 1, 1, 3, late)
    effects = Effects()
    outbox.into(effects)
    assert effects.messages == {
        22: [Envelope(1, 1, 2, message) for message in (vote, beat, late)],
        33: [Envelope(1, 1, 3, late)],
    }
