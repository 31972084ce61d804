"""The clients of a replica, and the commands that a node has itself."""

from kvorum_proto import command_pb2 as wire
from kvorum_server.events import Ticked
from kvorum_server.requests import NOBODY, Requests
from tests.unit.host_setup import GROUP, Machine, alone, get, put, trio


def requests(machine: Machine) -> Requests:
    return machine.replica.requests


def compact() -> wire.Submission:
    return wire.Submission(compact=wire.Compact(revision=1))


def test_commands_of_the_node_itself_are_limited_and_nobody_is_answered() -> None:
    machine = alone()
    before = machine.replica.applied[0]
    for _ in range(5):
        requests(machine).submit_own(compact(), 2)
    effects = machine.turn(Ticked(machine.free_bytes))
    machine.settle()
    assert machine.replica.applied[0] == before + 1
    assert all(reply.connection != NOBODY for reply in effects.replies)
    requests(machine).submit_own(compact())
    machine.settle()
    machine.turn(Ticked(machine.free_bytes))
    machine.settle()
    assert machine.replica.applied[0] == before + 2, "what is over makes room for the next"


def test_own_commands_go_on_while_clients_keep_the_log_busy() -> None:
    machine = alone()
    machine.propose(put(b"a"))
    requests(machine).submit_own(compact())
    machine.turn(Ticked(machine.free_bytes))
    assert machine.replica.consensus.last[0] == machine.replica.applied[0] + 2


def test_a_leader_that_is_deposed_tells_whom_it_appended_for() -> None:
    cluster = trio()
    first, second, _ = cluster.machines
    cluster.cut_off = {11}
    (command,) = first.propose(put(b"a"))
    (query,) = first.ask(get(b"a"))
    first.settle()
    cluster.elect(second)
    cluster.cut_off = set()
    cluster.tick(4)
    assert first.error(command).code == wire.UNCERTAIN
    assert first.error(query).code == wire.NOT_LEADER
    assert first.error(query).leader == "n2:7400"
    requests(first).check_invariants(is_leader=first.is_leader(GROUP))
