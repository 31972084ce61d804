"""One simulated machine: the shell of ``node.py`` with virtual time instead of asyncio.

It obeys the rules of the production shell. Events that arrive while a turn is being taken wait
for the next one. After a turn, in this order: messages leave, the write is queued, replies leave,
a flush is started. At most one sync is in flight and writes that come meanwhile wait for the
next, which covers them all. Each of these steps happens at an instant of its own, so that a crash
may fall between any two.

A crash loses the process; a power loss also loses what the disk and the engine had not been made
to keep. A paused machine does nothing and forgets nothing: what would have happened happens when
it goes on, all at once.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kvorum_proto import peer_pb2
from kvorum_server.config import Config
from kvorum_server.events import (
    Appended,
    Bootstrapped,
    Effects,
    Event,
    Flushed,
    Received,
    Reply,
    Stopping,
    Ticked,
    Write,
)
from kvorum_server.greeting import Greeting
from kvorum_server.host import Host
from kvorum_server.lost_state import irreplaceable, without_states
from kvorum_server.rpc.codec import decode_frame, encode_frame
from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.errors import StateDamaged
from kvorum_server.storage.recovery import Recovered
from kvorum_server.storage.wal import WriteAheadLog
from tests.simulator.client import Frame
from tests.simulator.disk import SimulatedDisk
from tests.simulator.engine import SimulatedEngine
from tests.simulator.network import Network
from tests.simulator.options import Options
from tests.simulator.scheduler import MILLISECOND, Action, Scheduler
from tests.simulator.serving import ClientBytes, Serving, refuse
from tests.simulator.streams import StreamFrame
from tests.simulator.trace import Trace

TURN_DELAY = 5

PLENTY_BYTES = 1 << 40
"""Disk space of a machine that nobody troubles."""


class Observer(Protocol):
    """Who watches a node: the checkers, by way of the cluster."""

    def started(self, node: "Node") -> None:
        """The node has recovered its log and made its Host."""
        ...

    def turned(self, node: "Node", effects: Effects) -> None:
        """The node has taken a turn; nothing of its effects has left yet."""
        ...

    def synced(self, node: "Node", writes: int) -> None:
        """The oldest so many writes of the node have become durable."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """What all machines of a cluster share."""

    options: Options
    scheduler: Scheduler
    network: Network[Frame]
    trace: Trace
    observer: Observer
    bootstrap: peer_pb2.Bootstrap
    numbers: dict[int, int]
    """Number of the node with an identity."""


class Node:
    """A machine with its disk, which outlives its processes; ``host`` is None while none runs."""

    def __init__(self, number: int, identity: int, seed: int, world: World) -> None:
        self.number = number
        self.identity = identity
        self.name = f"n{number}"
        self.world = world
        self.config: Config = world.options.config
        self.host: Host | None = None
        self.recovered: Recovered | None = None
        self.life = 0
        self.paused = False
        self.stopping = False
        self._seed = seed
        self._generator = random.Random(f"{seed} machine {number}")
        self.disk = SimulatedDisk(random.Random(f"{seed} disk {number}"), PLENTY_BYTES)
        self.engine = SimulatedEngine(random.Random(f"{seed} engine {number}"))
        self._wal: WriteAheadLog | None = None
        self._clock_base = 0
        self._clock_rate = 1.0
        self._deferred: deque[Action] = deque()
        self._inbox: list[Event] = []
        self._turn_planned = False
        self._busy_until = 0
        self._busy_at = 0
        self._writes: list[Write] = []
        self._syncing = False
        self._serving: Serving | None = None

    # --- Life and death ---

    @property
    def alive(self) -> bool:
        """Whether a process runs, be it paused."""
        return self.host is not None

    def start(self) -> None:
        """A process starts on what the disk holds."""
        assert self.host is None
        self.life += 1
        drift = self.world.options.clock_drift
        self._clock_base = self._generator.randrange(10**9)
        self._clock_rate = 1.0 + self._generator.uniform(-drift, drift)
        self._wal, recovered = WriteAheadLog.open(
            self.disk, segment_bytes=self.config.segment_bytes, new_identity=lambda: self.identity
        )
        try:
            self.host = self._open(recovered)
        except StateDamaged:
            # As ``opening.py`` does: the damaged state is set aside, an empty one takes its place.
            assert irreplaceable(recovered.replicas) is None, "nobody else has the state"
            self.world.trace.note(self.name, "state damaged")
            self.lose_state()
            self.host = self._open(without_states(recovered))
        self._serving = Serving(
            scheduler=self.world.scheduler,
            greeting=Greeting(self.host, self.name),
            put=self.put,
            send=lambda client, frame: self.world.network.send(self.number, client, frame),
            is_full=lambda: len(self._inbox) >= self.config.inbox_events_max,
        )
        self.world.trace.note(self.name, f"start, boot {recovered.boot}")
        self.recovered = recovered
        self.world.observer.started(self)
        self._later(self._generator.randrange(self.config.tick_ms * MILLISECOND), self._tick)
        if recovered.bootstrap is None:
            self._later(self._delay(20 * MILLISECOND), self._be_born)

    def _open(self, recovered: Recovered) -> Host:
        return Host(
            config=self.config,
            engine=self.engine,
            recovered=recovered,
            randomness=random.Random(f"{self._seed} host {self.number} life {self.life}"),
        )

    def lose_state(self) -> None:
        """All rows are gone, the log is not. Only while no process runs."""
        assert self.host is None
        self.engine = SimulatedEngine(random.Random(f"{self._seed} engine {self.life}"))

    def crash(self, *, power_loss: bool) -> None:
        """The process dies, or the whole machine."""
        assert self.host is not None
        how = "power loss" if power_loss else "crash"
        self.world.trace.note(self.name, how)
        self.host = None
        self._wal = None
        self.life += 1
        self.paused = self.stopping = False
        self._deferred.clear()
        self._inbox.clear()
        self._turn_planned = self._syncing = False
        self._busy_until = 0
        self._writes.clear()
        if self._serving is not None:
            self._serving.stop()
        self._serving = None
        self._crash_storage(power_loss)

    def _crash_storage(self, power_loss: bool) -> None:
        if power_loss:
            self.disk.crash()
        self.engine.crash()

    def pause(self) -> None:
        """SIGSTOP."""
        assert self.alive
        self.world.trace.note(self.name, "pause")
        self.paused = True

    def resume(self) -> None:
        """SIGCONT: what was to happen meanwhile happens now."""
        self.world.trace.note(self.name, "resume")
        self.paused = False
        while self._deferred:
            self._deferred.popleft()()

    def stop(self) -> None:
        """SIGTERM: the process hands over; it exits when the nemesis says so."""
        self.world.trace.note(self.name, "stopping")
        self.stopping = True
        self.put(Stopping())

    def _later(self, delay: int, action: Action) -> None:
        """Runs ``action`` in this life of the process, not while it is paused."""
        life = self.life

        def run() -> None:
            if life != self.life:
                return
            if self.paused:
                self._deferred.append(action)
            else:
                action()

        self.world.scheduler.after(delay, run)

    def _delay(self, mean: int) -> int:
        return 1 + int(self._generator.expovariate(1 / mean))

    def _now_ms(self) -> int:
        return self._clock_base + int(self.world.scheduler.now * self._clock_rate) // MILLISECOND

    def _tick(self) -> None:
        assert self._wal is not None
        self._look_after_log()
        self.put(Ticked(self.disk.free_bytes() if self._wal.reserve_ok else 0))
        self._later(int(self.config.tick_ms * MILLISECOND / self._clock_rate), self._tick)

    def _be_born(self) -> None:
        self.put(Bootstrapped(self.world.bootstrap))

    # --- Turns ---

    def put(self, event: Event) -> None:
        """Something happened: it is part of the next turn."""
        self._inbox.append(event)
        self._plan_turn()

    def _plan_turn(self) -> None:
        if not self._turn_planned:
            self._turn_planned = True
            idle_in = max(0, self._busy_until - self.world.scheduler.now)
            self._later(idle_in + self._generator.randrange(1, TURN_DELAY), self._turn)

    def _turn(self) -> None:
        assert self.host is not None
        self._turn_planned = False
        events, self._inbox = self._inbox, []
        effects = self.host.turn(self._now_ms(), events)
        for transition in effects.transitions:
            details = " ".join(f"{name}={value}" for name, value in transition.details.items())
            what = f"g{transition.group}/{transition.replica} {transition.name} {details}"
            self.world.trace.note(self.name, what)
        self.world.observer.turned(self, effects)
        duration = self._delay(self.world.options.turn_mean)
        self._busy_until = self.world.scheduler.now + duration + 4
        self._later(duration, lambda: self._send(effects))
        if effects.append is not None:
            write = effects.append
            self._later(duration + 1, lambda: self._append(write))
        if effects.replies:
            self._later(duration + 2, lambda: self._reply(effects.replies))
        if effects.flush is not None:
            flush = effects.flush
            self._later(duration + 3, lambda: self._flush(flush))
        if effects.again:
            self._plan_turn()

    def _send(self, effects: Effects) -> None:
        for identity, envelopes in effects.messages.items():
            target = self.world.numbers[identity]
            frame: Frame = tuple(envelopes)
            if self._generator.random() < self.world.options.encode_frames:
                frame = encode_frame(envelopes)
            self.world.network.send(self.number, target, frame)

    # --- Disk ---

    def fill_disk(self, room: int) -> None:
        """Somebody else's files take all space but ``room`` bytes."""
        self.world.trace.note(self.name, f"disk full but for {room} bytes")
        used = self.disk.capacity_bytes - self.disk.free_bytes()
        self.disk.capacity_bytes = used + room

    def free_disk(self) -> None:
        """There is room again."""
        self.disk.capacity_bytes = PLENTY_BYTES

    def _append(self, write: Write) -> None:
        self._writes.append(write)
        if not self._syncing:
            self._write()

    def _write(self) -> None:
        """All waiting writes become one; on a full disk the oldest goes alone, if it can."""
        assert self._wal is not None
        for count in (len(self._writes), 1):
            writes = self._writes[:count]
            try:
                self._wal.append([record for write in writes for record in write.records])
            except DiskFull:
                continue
            del self._writes[:count]
            self._sync(writes)
            return

    def _sync(self, writes: Sequence[Write]) -> None:
        assert self._wal is not None
        wal = self._wal
        self._syncing = True

        def done() -> None:
            wal.sync()
            self._syncing = False
            self._busy_at = self.world.scheduler.now
            self.world.observer.synced(self, len(writes))
            if writes:
                self.put(Appended(writes[-1].number))
            if self._writes:
                self._write()

        self._later(self._delay(self.world.options.sync_mean), done)

    def _look_after_log(self) -> None:
        """Tries again what found the disk full; after a silence claims what is durable."""
        assert self._wal is not None
        if self._syncing:
            return
        silence = self.world.scheduler.now - self._busy_at
        if self._writes:
            self._write()
        elif not self._wal.reserve_ok:
            self._sync(())
        elif silence >= self.config.claim_idle_ms * MILLISECOND:
            self._wal.claim()
            if self._wal.has_unsynced:
                self._sync(())

    def _flush(self, number: int) -> None:
        reach = self.engine.start_flush()

        def done() -> None:
            self.engine.finish_flush(reach)
            self.put(Flushed(number))

        self._later(self._delay(self.world.options.flush_mean), done)

    # --- Peers and clients ---

    def receive(self, source_identity: int, frame: Frame) -> None:
        """A frame of another node has arrived."""
        if self.host is None:
            return
        assert not isinstance(frame, StreamFrame), "streams are for clients"
        envelopes = decode_frame(frame) if isinstance(frame, bytes) else frame
        self.put(Received(source_identity, envelopes))

    def receive_from_client(self, client: int, frame: ClientBytes) -> None:
        """Something of a client has arrived; a machine without a process refuses streams."""
        if self._serving is None:
            refuse(frame, lambda answer: self.world.network.send(self.number, client, answer))
        else:
            self._serving.receive(client, frame)

    def disconnect_client(self, client: int) -> None:
        """What carried a client's bare frames broke: answers have no taker."""
        if self._serving is not None:
            self._serving.disconnect(client)

    def _reply(self, replies: list[Reply]) -> None:
        assert self._serving is not None
        self._serving.reply(replies)
