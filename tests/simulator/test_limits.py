"""A queue that is too long is named: honest replicas are measured with limits not their own."""

from dataclasses import replace

import pytest

from kvorum_server.config import Config
from tests.simulator.checkers import Violation
from tests.simulator.limits import check_limits, queues
from tests.unit.host_setup import CONFIG, GROUP, Machine, alone, get, put, trio


def check(machine: Machine, config: Config) -> None:
    check_limits("n1", machine.host.replicas[GROUP], config)


def busy() -> Machine:
    """A leader with commands that wait for its disk, and reads that wait for a quorum."""
    leader = trio().machines[0]
    for number in range(100):
        leader.propose(put(b"%d" % number))
        leader.ask(get(b"k"))
    check(leader, CONFIG)
    return leader


def test_commands_that_wait() -> None:
    with pytest.raises(Violation, match="n1, group 1: 100 pending commands, at most"):
        check(busy(), replace(CONFIG, pending_commands_max=50))


def test_queries_that_wait() -> None:
    with pytest.raises(Violation, match="100 waiting queries, at most 95"):
        check(busy(), replace(CONFIG, pending_commands_max=95))


def test_a_log_that_is_not_cut() -> None:
    machine = alone()
    for number in range(200):
        machine.propose(put(b"%d" % number))
        machine.settle()
    check(machine, CONFIG)
    with pytest.raises(Violation, match="bytes of uncut log"):
        check(machine, replace(CONFIG, log_bytes_max=1, append_bytes_max=1))


def test_every_queue_has_a_name_and_a_limit() -> None:
    found = {name: limit for name, _, limit in queues(alone().host.replicas[GROUP], CONFIG)}
    assert set(found) == {
        "pending commands",
        "waiting queries",
        "sessions",
        "chunks under way",
        "bytes of uncut log",
    }
    assert all(limit > 0 for limit in found.values())
