"""A row changes by itself in one replica of a busy cluster: it is found, the replica rebuilt.

The network loses, doubles, delays and parts as the seed has it; machines pause. They do not crash:
that could lose the changed row again.
"""

from dataclasses import replace

import pytest

from kvorum_server.config import Config
from tests.simulator.options import Options, draw_options
from tests.simulator.scheduler import SECOND
from tests.simulator.simulation import Simulation

GROUP = 1
SEEDS = range(6)


def busy(seed: int) -> Options:
    """The options of a seed, with comparisons often and without faults that heal or spread rot."""
    options = draw_options(seed)
    config = replace(
        options.config,
        state_hash_interval_ms=300,
        # A snapshot of the changed state would bring the row to others.
        checkpoint_entries=1 << 30,
        checkpoint_bytes=1 << 30,
        checkpoint_age_ms=1 << 30,
        log_bytes_max=1 << 30,
        disk_reserve_bytes=0,
        pending_commands_max=Config().pending_commands_max,
    )
    return replace(
        options,
        config=config,
        nodes=3,
        crash_every=0,
        fill_every=0,
        error_every=0,
        flip_every=0,
        rot_every=0,
        lose_state_every=0,
        wipe_every=0,
        restore_every=0,
        core_first=False,
        ranges=False,
        stale=0.0,
        safety=3 * SECOND,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_changed_row_is_found_and_its_replica_rebuilt(seed: int) -> None:
    options = busy(seed)
    simulation = Simulation(seed, options)
    cluster = simulation.cluster

    def strike() -> None:
        follower = next(
            node
            for node in cluster.nodes
            if node.host is not None and not node.host.replicas[GROUP].is_leader
        )
        cluster.rot(follower, GROUP)

    simulation.scheduler.after(options.safety // 2, strike)
    simulation.run()
    deadline = simulation.scheduler.now + 30 * SECOND
    while cluster.rotten and simulation.scheduler.now < deadline:
        simulation.scheduler.run(until=simulation.scheduler.now + SECOND)
    assert cluster.harmed == {GROUP}
    assert not cluster.rotten, f"seed {seed}: the row was never found"
    while (missing := cluster.converged()) and simulation.scheduler.now < deadline:
        simulation.scheduler.run(until=simulation.scheduler.now + SECOND)
    assert not missing
    assert not any(
        node.host and node.host.replicas[GROUP].consensus.rebuilding for node in cluster.nodes
    )
    for node in cluster.nodes:
        cluster.compare_rows(node, GROUP)
