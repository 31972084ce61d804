"""The product's own library at work in the simulator: it takes part, and its words are weighed."""

import random
from collections import Counter

from kvorum._errors import DeadlineExceeded, UnknownOutcome
from tests.simulator.cluster import Cluster
from tests.simulator.model import DeleteRange, Get, Put, Scan
from tests.simulator.options import draw_options
from tests.simulator.scheduler import MILLISECOND, SECOND, Scheduler
from tests.simulator.sdk_client import SdkClient
from tests.simulator.trace import Trace


def calm_cluster(seed: int = 3) -> Cluster:
    """A cluster that nobody troubles, some seconds after its birth; its clients have not begun."""
    scheduler = Scheduler()
    cluster = Cluster(seed, draw_options(seed), scheduler, Trace(scheduler))
    cluster.network.calm()
    for node in cluster.nodes:
        node.start()
    cluster.links_changed()
    scheduler.run(until=5 * SECOND)
    return cluster


def sdk_client(cluster: Cluster) -> SdkClient:
    """One that waits as long as it takes."""
    client = next(client for client in cluster.clients if isinstance(client, SdkClient))
    client.patient = True
    return client


def run(cluster: Cluster, seconds: int = 2) -> None:
    cluster.scheduler.run(until=cluster.scheduler.now + seconds * SECOND)


def test_at_least_half_of_the_clients_are_the_library() -> None:
    for seed in range(20):
        scheduler = Scheduler()
        cluster = Cluster(seed, draw_options(seed), scheduler, Trace(scheduler))
        kinds = Counter(type(client) for client in cluster.clients)
        assert 2 * kinds[SdkClient] >= len(cluster.clients)


def test_a_scan_and_a_long_deletion_are_several_calls() -> None:
    cluster = calm_cluster()
    client = sdk_client(cluster)
    for number in range(6):
        client._call(Put(b"key%d" % number, b"1"), None)
    run(cluster)
    client.generator = random.Random(1)
    client._call(Scan(b"key", b"kez"), None)
    client._call(DeleteRange(b"key", b"kez", cluster.options.config.range_keys_max), None)
    run(cluster)
    assert not client._callers
    assert not client._errands
    operations = Counter(type(call.operation).__name__ for call in cluster.history)
    assert operations["Put"] == 6
    assert operations["Scan"] >= 1
    assert operations["DeleteRange"] >= 1
    assert all(call.outcome is not None for call in cluster.history)
    assert all(call.session for call in cluster.history if isinstance(call.operation, Put))


def test_a_write_that_was_sent_and_cancelled_is_unknown_and_a_queued_one_never_was() -> None:
    cluster = calm_cluster()
    client = sdk_client(cluster)
    client._call(Put(b"key0", b"queued"), None)
    client._cancel(client._last_caller)
    run(cluster)
    assert cluster.history == []
    client._call(Put(b"key0", b"first"), None)
    while not cluster.history:
        cluster.scheduler.run(until=cluster.scheduler.now + MILLISECOND)
    client._call(Put(b"key0", b"sent"), None)
    client._pump()
    client._cancel(client._last_caller)
    run(cluster)
    first, sent = cluster.history
    assert first.outcome is not None
    assert (sent.operation, sent.outcome) == (Put(b"key0", b"sent"), None)
    assert not client._callers
    assert not client._errands


def test_errors_are_taken_at_their_word() -> None:
    cluster = calm_cluster()
    client = sdk_client(cluster)
    for error in (DeadlineExceeded("late"), UnknownOutcome("lost")):
        client._call(Put(b"key0", b"1"), None)
        (answer,) = client._errands
        client._dispatcher.give_up(client._errands[answer].call)
        answer.set_exception(error)
        run(cluster)
    assert client.denied == 1
    assert [call.outcome for call in cluster.history] == [None]


def test_a_client_that_closes_goes_on_as_a_new_one() -> None:
    cluster = calm_cluster()
    client = sdk_client(cluster)
    client._call(Put(b"key0", b"1"), None)
    run(cluster)
    before = client._dispatcher
    client._close()
    client._call(Get(b"key0"), None)
    run(cluster)
    assert client._dispatcher is not before
    client._call(Put(b"key0", b"2"), None)
    run(cluster)
    first, *_, last = cluster.history
    assert first.session != last.session


def test_a_node_that_is_down_refuses_and_another_is_found() -> None:
    cluster = calm_cluster()
    client = sdk_client(cluster)
    client._call(Put(b"key0", b"1"), None)
    run(cluster)
    leader = next(node for node in cluster.nodes if node.host is not None and node.host.leads)
    leader.crash(power_loss=False)
    cluster.links_changed()
    client._call(Put(b"key0", b"2"), None)
    if len(cluster.nodes) == 1:
        leader.start()
    run(cluster, 20)
    assert [call.outcome is not None for call in cluster.history] == [True, True]
