"""Weather to order: what a run has to be like for a certain kind of mistake to show.

The options of a seed come from a swarm that gives every fault its chance. A *profile* takes what a
seed has drawn and turns some of it: which faults are there for certain, how often, and how tight
the limits are that make rare paths common. What it does not name stays as drawn, so that its
seeds differ from each other as all seeds do.

Profiles are functions and are put together by calling one after the other. None of them may make
a sound cluster fail: ``test_canaries.py`` runs each of them on the product as it is.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from kvorum_server.config import MIB
from tests.simulator.options import Options
from tests.simulator.scheduler import MILLISECOND, SECOND

Profile = Callable[[Options], Options]


def general_swarm(options: Options) -> Options:
    """What the seed has drawn, untouched."""
    return options


def calm(options: Options) -> Options:
    """Nothing strikes by itself; how bad the network is, and how crashes are, stays as drawn."""
    faults = {option.name: 0 for option in fields(options) if option.name.endswith("_every")}
    changes: dict[str, Any] = {**faults, "corruption": 0.0, "overthrow": 0.0, "clock_drift": 0.0}
    return replace(options, outbox_frames_max=1000, **changes)


def short_elections(options: Options) -> Options:
    """Three nodes that notice soon that their leader is gone."""
    config = replace(
        options.config,
        tick_ms=10,
        heartbeat_ticks=2,
        election_ticks_min=6,
        election_ticks_max=12,
        pending_commands_max=64,
    )
    return replace(calm(options), nodes=3, config=config, turn_mean=50)


def isolated_leaders(options: Options) -> Options:
    """A leader that nobody but readers can reach is replaced, again and again."""
    return replace(
        short_elections(options),
        isolate_every=200 * MILLISECOND,
        delay_mean=500,
        loss=0.0,
        sync_mean=500,
        silence=0.2,
        clients=6,
        keys=2,
        reads=0.3,
        stale=0.0,
        operations_max=900,
    )


def quick_successions(options: Options) -> Options:
    """Leaders die soon after they were elected; each has lost track of what the last one did."""
    return replace(
        isolated_leaders(options),
        crash_every=250 * MILLISECOND,
        crash_all=0.0,
        restart_mean=60 * MILLISECOND,
        transfer_every=200 * MILLISECOND,
    )


def half_replicated_entries(options: Options) -> Options:
    """Five nodes, one entry at a time over a slow network, and hardly a leader gets through with
    its first entry: figure 8 of the Raft paper as an everyday event.
    """
    brief = short_elections(options)
    config = replace(
        brief.config,
        entry_commands_max=1,
        append_bytes_max=1,
        append_inflight_max=1,
        log_inflight_bytes_max=MIB,
        checkpoint_entries=1000,
        checkpoint_bytes=MIB,
        checkpoint_age_ms=100_000,
        log_bytes_max=16 * MIB,
    )
    return replace(
        brief,
        nodes=5,
        config=config,
        overthrow=0.9,
        overthrow_mean=20 * MILLISECOND,
        loss=0.0,
        delay_mean=8 * MILLISECOND,
        sync_mean=MILLISECOND,
        silence=1.0,
        clients=3,
        in_flight=2,
        operations_max=200,
        reads=0.0,
        timeout=300 * MILLISECOND,
        safety=5 * SECOND,
    )


def power_losses(options: Options) -> Options:
    """Every crash loses what was not synced, and syncs take their time."""
    return replace(
        short_elections(options),
        crash_every=200 * MILLISECOND,
        crash_all=0.3,
        power_loss=1.0,
        restart_mean=40 * MILLISECOND,
        sync_mean=4 * MILLISECOND,
        delay_mean=500,
        without_session=0.0,
        operations_max=900,
    )


def quick_restarts(options: Options) -> Options:
    """Processes die and are back before anybody has noticed."""
    return replace(
        power_losses(options), power_loss=0.3, restart_mean=5 * MILLISECOND, sync_mean=500
    )


def frequent_checkpoints(options: Options) -> Options:
    """The state is flushed and the log is cut every few entries, and restarts find out."""
    restarts = quick_restarts(options)
    config = replace(restarts.config, checkpoint_entries=5, log_tail_entries=0, segment_bytes=4096)
    return replace(restarts, config=config, flush_mean=20 * MILLISECOND)


def frequent_snapshots(options: Options) -> Options:
    """A node that was away for a moment needs a snapshot, in many small chunks."""
    away = quick_successions(options)
    config = replace(
        away.config,
        checkpoint_entries=3,
        log_tail_entries=0,
        snapshot_chunk_bytes=200,
        snapshot_window=2,
    )
    return replace(away, config=config, flush_mean=5 * MILLISECOND, reads=0.1)


def slow_beginnings(options: Options) -> Options:
    """Leaders are replaced often, and an entry takes much longer than a heartbeat."""
    return replace(isolated_leaders(options), sync_mean=15 * MILLISECOND, timeout=200 * MILLISECOND)


def late_messages(options: Options) -> Options:
    """Messages come late, twice and in any order, while leaders change."""
    return replace(
        quick_successions(options),
        delay_mean=10 * MILLISECOND,
        duplication=0.3,
        reordering=0.4,
        timeout=200 * MILLISECOND,
    )


def late_votes(options: Options) -> Options:
    """Five nodes that campaign at nearly the same time, on a network as slow as their patience."""
    late = late_messages(options)
    config = replace(late.config, election_ticks_max=8)
    return replace(late, nodes=5, config=config, delay_mean=30 * MILLISECOND)


def repeated_requests(options: Options) -> Options:
    """Half of what clients say arrives twice, the second time long after the answer."""
    return replace(
        lost_answers(options),
        loss=0.0,
        duplication=0.5,
        reordering=1.0,
        delay_mean=10 * MILLISECOND,
        sync_mean=500,
        timeout=400 * MILLISECOND,
        without_session=0.0,
        clients=8,
        in_flight=1,
        reads=0.2,
    )


def changing_members(options: Options) -> Options:
    """Machines come and go all the time, and leaders with them."""
    return replace(
        quick_successions(options),
        change_every=150 * MILLISECOND,
        crash_every=600 * MILLISECOND,
        partition_every=300 * MILLISECOND,
        partition_mean=200 * MILLISECOND,
        one_way=0.0,
        reads=0.2,
        safety=5 * SECOND,
    )


def lost_answers(options: Options) -> Options:
    """Clients are often not told, ask again, and some of their requests arrive twice."""
    return replace(
        short_elections(options),
        loss=0.15,
        duplication=0.2,
        reordering=0.3,
        delay_mean=3 * MILLISECOND,
        timeout=50 * MILLISECOND,
        without_session=0.3,
        keys=2,
        reads=0.3,
        operations_max=900,
    )


PROFILES = (
    general_swarm,
    calm,
    short_elections,
    isolated_leaders,
    slow_beginnings,
    quick_successions,
    half_replicated_entries,
    power_losses,
    quick_restarts,
    frequent_checkpoints,
    frequent_snapshots,
    late_messages,
    late_votes,
    lost_answers,
    repeated_requests,
    changing_members,
)
"""All of them, for the command line and for the test that no sound cluster fails under any."""


def profile(name: str) -> Profile:
    """The profile of that name; raises KeyError."""
    return {each.__name__: each for each in PROFILES}[name]
