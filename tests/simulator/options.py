"""What one seed decides before its run begins: how large, how unlucky, how tight.

Swarm testing (Groce et al., 2012): runs that switch some faults off and others far up find more
than runs that do a little of everything. So each seed first draws which faults it has at all,
then how often; and it draws small limits through ``Config``, so that batches of one command,
checkpoints every few entries and snapshots of several chunks are ordinary events (FoundationDB's
knobs).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from kvorum_server.config import KIB, Config
from tests.simulator.scheduler import MILLISECOND, SECOND

Choice = TypeVar("Choice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Times are microseconds of virtual time, rates are probabilities; 0 switches a fault off."""

    nodes: int
    config: Config

    # Network
    delay_min: int
    delay_mean: int
    loss: float
    duplication: float
    reordering: float
    corruption: float
    """How many frames arrive with damaged bytes."""
    outbox_frames_max: int
    """Frames on the way to one peer; what a machine sends beyond is dropped."""
    encode_frames: float
    """How many frames go through the real codec; the others travel as values, which is quicker."""

    # Mean time between two faults of a kind; 0 = never
    crash_every: int
    ambush: float
    """How many crashes of one machine fall in the middle of a step."""
    crash_all: float
    """How many crashes take all nodes at once."""
    power_loss: float
    """How many crashes lose what was not synced; the others are kill -9."""
    restart_mean: int
    partition_every: int
    partition_mean: int
    one_way: float
    isolate_every: int
    """Isolates a leader, with some of its clients, for about as long as an election takes."""
    overthrow: float
    """How many leaders are cut off soon after their election."""
    overthrow_mean: int
    clog_every: int
    clog_mean: int
    swizzle: float
    """How many clogs go over the links of several machines, one after the other."""
    pause_every: int
    pause_mean: int
    slow_every: int
    slow_mean: int
    slowness_max: float
    clock_step_every: int
    clock_step_ms_max: int
    fill_every: int
    fill_mean: int
    error_every: int
    full_errors: float
    """How many errors of a disk say that it is full; the others are EIO."""
    stick_every: int
    stick_mean: int
    flip_every: int
    rot_every: int
    lose_state_every: int
    wipe_every: int
    restore_every: int
    change_every: int
    """How often an operator begins to change the members; 0: there is none."""
    transfer_every: int
    silence: float
    """How many broken connections are noticed late."""

    # Machines
    sync_mean: int
    flush_mean: int
    turn_mean: int
    clock_drift: float

    # Clients
    clients: int
    in_flight: int
    keys: int
    operations_max: int
    """In the safety phase, by all clients together, spread over its whole length."""
    reads: float
    """How many operations of a client are reads; every third client only reads."""
    stale: float
    """How many reads may be stale."""
    timeout: int
    give_up: float
    without_session: float
    ranges: bool

    # Phases
    safety: int
    liveness: int
    core_first: bool
    """Whether a quorum has to make progress on its own before everything is repaired."""

    @property
    def think_mean(self) -> int:
        """Time between two bursts of a client, so that its operations last for the safety phase."""
        burst = (1 + self.in_flight) / 2
        return int(self.safety * burst * self.clients / self.operations_max)

    def describe(self) -> str:
        """All that was drawn, one line each; limits only where they differ from the default."""
        lines = []
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(value, Config):
                lines.extend(_differences(value))
            else:
                lines.append(f"{option.name} = {value}")
        return "\n".join(lines)


def _differences(config: Config) -> list[str]:
    usual = Config()
    return [
        f"config.{option.name} = {getattr(config, option.name)}"
        for option in fields(config)
        if getattr(config, option.name) != getattr(usual, option.name)
    ]


@dataclass(frozen=True, slots=True)
class Draw:
    """Draws for one part of the options; a part of its own leaves those of the others alone."""

    generator: random.Random

    def sometimes(self, probability: float, present: Choice, absent: Choice) -> Choice:
        """``present`` with this probability."""
        return present if self.generator.random() < probability else absent

    def between(self, low: float, high: float) -> float:
        """A number of the range."""
        return round(self.generator.uniform(low, high), 4)

    def span(self, low: int, high: int) -> int:
        """An integer of the range."""
        return self.generator.randrange(low, high)

    def rare(self, probability: float, mean_low: int, mean_high: int) -> int:
        """How often a fault strikes: never in most runs, and far more often in one out of ten."""
        mean = self.span(mean_low, mean_high) * MILLISECOND
        if self.generator.random() < 0.1:
            mean = mean // 10 + 1
        return self.sometimes(probability, mean, 0)


def without_faults(options: Options) -> Options:
    """A quiet world of the same size: nothing goes wrong that nobody asks for."""
    rhythms = {one.name: 0 for one in fields(options) if one.name.endswith("_every")}
    rates = dict.fromkeys(("loss", "duplication", "reordering", "corruption", "overthrow"), 0.0)
    calm = {"silence": 0.0, "clock_drift": 0.0, "core_first": False, "outbox_frames_max": 1000}
    changes: dict[str, Any] = {**rhythms, **rates, **calm}
    return replace(options, **changes)


def draw_options(seed: int) -> Options:
    """The options of a seed."""
    generator = random.Random(f"options {seed}")
    draw = Draw(generator)
    sometimes, between, span = draw.sometimes, draw.between, draw.span
    return Options(
        nodes=generator.choice((1, 3, 3, 3, 3, 3, 5)),
        config=_draw_config(generator),
        delay_min=span(20, 200),
        delay_mean=sometimes(0.2, span(5, 40) * MILLISECOND, span(50, 2000)),
        loss=sometimes(0.5, between(0.0, 0.15), 0.0),
        duplication=sometimes(0.5, between(0.0, 0.2), 0.0),
        reordering=sometimes(0.5, between(0.0, 0.3), 0.0),
        encode_frames=generator.choice((0.0, 0.2, 1.0)),
        crash_every=sometimes(0.7, span(300, 2500) * MILLISECOND, 0),
        crash_all=sometimes(0.3, between(0.0, 0.4), 0.0),
        power_loss=generator.choice((0.0, 0.5, 1.0)),
        restart_mean=span(20, 700) * MILLISECOND,
        partition_every=sometimes(0.6, span(200, 1500) * MILLISECOND, 0),
        partition_mean=span(50, 1200) * MILLISECOND,
        one_way=generator.choice((0.0, 0.0, 0.3, 1.0)),
        isolate_every=sometimes(0.5, span(200, 1500) * MILLISECOND, 0),
        pause_every=sometimes(0.4, span(200, 2000) * MILLISECOND, 0),
        pause_mean=span(20, 1000) * MILLISECOND,
        fill_every=sometimes(0.2, span(300, 2000) * MILLISECOND, 0),
        fill_mean=span(50, 1500) * MILLISECOND,
        transfer_every=sometimes(0.3, span(300, 2000) * MILLISECOND, 0),
        silence=generator.choice((0.0, 0.2, 1.0)),
        sync_mean=sometimes(0.2, span(5, 50) * MILLISECOND, span(100, 2000)),
        flush_mean=span(1, 100) * MILLISECOND,
        turn_mean=span(20, 500),
        clock_drift=sometimes(0.4, between(0.0, 0.3), 0.0),
        clients=span(2, 9),
        in_flight=span(1, 7),
        keys=span(1, 7),
        operations_max=span(100, 1000),
        reads=between(0.0, 0.7),
        stale=sometimes(0.5, between(0.0, 0.5), 0.0),
        timeout=span(50, 400) * MILLISECOND,
        give_up=sometimes(0.3, between(0.0, 0.1), 0.0),
        without_session=sometimes(0.3, between(0.0, 0.2), 0.0),
        ranges=generator.random() < 0.6,
        safety=span(2000, 5000) * MILLISECOND,
        liveness=60 * SECOND,
        overthrow=sometimes(0.15, between(0.3, 1.0), 0.0),
        overthrow_mean=span(1, 40) * MILLISECOND,
        **_draw_faults(Draw(random.Random(f"faults {seed}"))),
    )


def _draw_faults(faults: Draw) -> dict[str, Any]:
    """The part that draws from a source of its own: machines, disks, members, damage."""
    return {
        "corruption": faults.sometimes(0.3, faults.between(0.0, 0.05), 0.0),
        "outbox_frames_max": faults.sometimes(0.2, faults.span(1, 4), 1000),
        "clog_every": faults.rare(0.4, 200, 2000),
        "clog_mean": faults.span(50, 1500) * MILLISECOND,
        "swizzle": faults.sometimes(0.5, faults.between(0.0, 1.0), 0.0),
        "ambush": faults.generator.choice((0.0, 0.3, 0.8)),
        "slow_every": faults.rare(0.3, 300, 2000),
        "slow_mean": faults.span(100, 1500) * MILLISECOND,
        "slowness_max": faults.between(5, 300),
        "clock_step_every": faults.rare(0.2, 300, 2000),
        "clock_step_ms_max": faults.generator.choice((10, 300, 5000)),
        "error_every": faults.rare(0.3, 300, 3000),
        "full_errors": faults.sometimes(0.5, faults.between(0.0, 1.0), 0.0),
        "stick_every": faults.rare(0.3, 300, 3000),
        "stick_mean": faults.span(100, 3000) * MILLISECOND,
        "flip_every": faults.rare(0.2, 500, 4000),
        "rot_every": faults.rare(0.15, 500, 4000),
        "lose_state_every": faults.rare(0.15, 500, 4000),
        "wipe_every": faults.rare(0.15, 500, 4000),
        "restore_every": faults.rare(0.2, 500, 4000),
        "change_every": faults.rare(0.4, 300, 2500),
        "core_first": faults.generator.random() < 0.5,
    }


def _draw_config(generator: random.Random) -> Config:
    """Each limit is usual in half of the runs and tight in the others."""

    def tight(usual: int, choices: Sequence[int]) -> int:
        return generator.choice(choices) if generator.random() < 0.5 else usual

    usual = Config()
    heartbeat_ticks = generator.choice((1, 2, 2, 3))
    election_ticks_min = generator.randrange(2 * heartbeat_ticks + 2, 15)
    return Config(
        tick_ms=generator.choice((10, 15, 15, 25)),
        heartbeat_ticks=heartbeat_ticks,
        election_ticks_min=election_ticks_min,
        election_ticks_max=election_ticks_min + generator.randrange(3, 25),
        entry_commands_max=tight(usual.entry_commands_max, (1, 2, 5)),
        entry_bytes_max=tight(usual.entry_bytes_max, (1, 100, 1000)),
        apply_commands_max=tight(usual.apply_commands_max, (1, 3, 20)),
        inbox_events_max=tight(usual.inbox_events_max, (2, 64)),
        pending_commands_max=tight(usual.pending_commands_max, (2, 10)),
        range_keys_max=tight(usual.range_keys_max, (1, 2, 50)),
        scan_page_keys_max=tight(usual.scan_page_keys_max, (1, 3)),
        scan_page_bytes_max=tight(usual.scan_page_bytes_max, (1, 100)),
        scan_slice_rows=tight(usual.scan_slice_rows, (1, 2)),
        session_idle_ms=tight(usual.session_idle_ms, (2000, 10_000)),
        session_window=tight(usual.session_window, (8, 64)),
        session_bytes_max=tight(usual.session_bytes_max, (2000, 20_000)),
        sessions_max=tight(usual.sessions_max, (100, 1000)),
        log_bytes_max=tight(usual.log_bytes_max, (2 * KIB, 20 * KIB)),
        log_inflight_bytes_max=tight(usual.log_inflight_bytes_max, (1, 2 * KIB)),
        log_tail_entries=tight(usual.log_tail_entries, (0, 1, 10)),
        segment_bytes=tight(64 * KIB, (4 * KIB, 8 * KIB)),
        checkpoint_bytes=tight(usual.checkpoint_bytes, (1, 2 * KIB, 10 * KIB)),
        checkpoint_entries=tight(usual.checkpoint_entries, (1, 5, 30)),
        checkpoint_age_ms=tight(usual.checkpoint_age_ms, (100, 1000)),
        snapshot_chunk_bytes=tight(usual.snapshot_chunk_bytes, (1, 100, 1000)),
        snapshot_window=tight(usual.snapshot_window, (1, 2)),
        snapshot_timeout_ticks=tight(usual.snapshot_timeout_ticks, (10, 40)),
        append_bytes_max=tight(usual.append_bytes_max, (1, 100, 1000)),
        append_inflight_max=tight(usual.append_inflight_max, (1, 2)),
        disk_reserve_bytes=tight(usual.disk_reserve_bytes, (0, 8 * KIB, 100 * KIB)),
        history_revisions_max=tight(usual.history_revisions_max, (5, 50)),
        history_age_ms=tight(usual.history_age_ms, (100, 1000)),
        compaction_slice_rows=tight(usual.compaction_slice_rows, (1, 3)),
        state_hash_interval_ms=tight(usual.state_hash_interval_ms, (50, 500, 2000)),
        state_hash_slice_rows=tight(usual.state_hash_slice_rows, (1, 10)),
    )
