"""One simulated machine: the shell of ``node.py`` with virtual time instead of asyncio.

It obeys the rules of the production shell. Events that arrive while a turn is being taken wait
for the next one. After a turn, in this order: messages leave, the write is queued, replies leave,
a flush is started. At most one sync is in flight and writes that come meanwhile wait for the
next, which covers them all. Each of these steps happens at an instant of its own, so that a crash
may fall between any two.

A crash loses the process; a power loss also loses what the disk and the engine had not been made
to keep. A paused machine does nothing and forgets nothing: what would have happened happens when
it goes on, all at once.

An *ambush* makes what goes wrong go wrong in the middle of something: a few steps from now the
process ends, or the disk reports an error. Steps are the operations of the disk, of which an append
or a sync has several, and everything else that leaves a turn: each frame, the replies, a flush. The
log's answer to an error of the disk is a StorageError, and the machine's is that of the production
shell: the process ends.

*Damage* is met as in production. A state that is damaged is set aside, and the node, which keeps
its identity, log and vote, gets another one from its log and its peers. A damaged log ends the node
for good. A node that will never run again says why in ``lost``. A machine that comes back with an
empty disk, or with an old one, is another node with a number of its own: numbers stand for what was
promised, and it has promised nothing.
"""

import random
from collections import deque

from kvorum_proto.peer_pb2 import PeerHello
from kvorum_server.config import Config
from kvorum_server.events import (
    Bootstrapped,
    Effects,
    Event,
    Flushed,
    Received,
    Reply,
    Stopping,
    Ticked,
)
from kvorum_server.greeting import Greeting
from kvorum_server.host import Host
from kvorum_server.lost_state import without_states
from kvorum_server.opening import is_state_damage
from kvorum_server.rpc.codec import decode_frame, encode_frame
from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.errors import NoRoom, StorageError
from kvorum_server.storage.recovery import Recovered
from kvorum_server.storage.wal import Position, WriteAheadLog
from kvorum_server.types import GroupId
from tests.simulator.checkers import require
from tests.simulator.client import Frame
from tests.simulator.disk import Killed, SimulatedDisk
from tests.simulator.engine import SimulatedEngine
from tests.simulator.log_shell import LogShell
from tests.simulator.scheduler import MILLISECOND, Action
from tests.simulator.serving import ClientBytes, Serving, refuse
from tests.simulator.streams import StreamFrame
from tests.simulator.world import Ambush, World

TURN_DELAY = 5

TELL_TICKS = 40
"""Peers are told so often how far the log is durable."""

KNOCK_AGAIN = 200 * MILLISECOND

STUCK_POLL = 50 * MILLISECOND
"""How soon what waits for a stuck disk notices that it is free."""

PLENTY_BYTES = 1 << 40
"""Disk space of a machine that nobody troubles."""


class Node:
    """A machine with its disk, which outlives its processes; ``host`` is None while none runs."""

    def __init__(self, number: int, name: str, identity: int, world: World) -> None:
        seed = world.seed
        self.number = number
        self.identity = identity
        self.name = name
        self.world = world
        self.lost = ""
        """Why no process will ever run here again; empty while one may."""
        self.is_copy = False
        """Whether this is an old copy of another node's disk."""
        self.is_joining = False
        """Whether it is told to join a running cluster, not to found one."""
        self.has_joined = False
        """Whether it has ever held the certificate of the cluster durably."""
        self.was_removed = False
        """Whether it has learned that it is a member no more."""
        self.state_is_lost = False
        """Whether files of the engine were lost and the log does not say so yet."""
        self._rebuilds = False
        """Whether the last process began with a state that was lost."""
        self._condemned = False
        """Whether a process has found the state damaged: the next one sets it aside."""
        self.ambush: Ambush | None = None
        self.slowness = 1.0
        """How many times longer than usual a turn takes."""
        self.config: Config = world.options.config
        self.host: Host | None = None
        self.recovered: Recovered | None = None
        self.life = 0
        self.paused = False
        self.stopping = False
        self.hellos: dict[int, PeerHello] = {}
        """The last hello of each identity that this process has met."""
        self.reached: dict[int, Position] = {}
        """How far the log of each identity had come, as this process has been told."""
        self.refused_by: set[str] = set()
        self._ticks = 0
        self.process = 0
        """Drawn anew for every process."""
        self._stuck_until = 0
        self._generator = random.Random(f"{seed} machine {number}")
        self.disk = SimulatedDisk(random.Random(f"{seed} disk {number}"), PLENTY_BYTES)
        self.engine = SimulatedEngine(random.Random(f"{seed} engine {number}"))
        self._log: LogShell | None = None
        self._outbox_frames_max = world.options.outbox_frames_max
        self._clock_base = 0
        self._clock_rate = 1.0
        self._deferred: deque[Action] = deque()
        self._inbox: list[Event] = []
        self._turn_planned = False
        self._busy_until = 0
        self.serving: Serving | None = None

    # --- Life and death ---

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self.name}:7400"

    @property
    def log_end(self) -> Position:
        """How far the log of the running process is durable."""
        assert self._log is not None
        return self._log.wal.durable_end

    @property
    def alive(self) -> bool:
        """Whether a process runs, be it paused."""
        return self.host is not None

    def start(self) -> None:
        """A process starts on what the disk holds."""
        assert self.host is None
        assert not self.lost
        self.life += 1
        self._guard(self._start)

    def _start(self) -> None:
        drift = self.world.options.clock_drift
        self._clock_base = self._generator.randrange(10**9)
        self._clock_rate = 1.0 + self._generator.uniform(-drift, drift)
        self.process = self._generator.getrandbits(63)
        self.disk.interrupt = self._disk_step
        is_damaged = self.disk.damaged
        try:
            wal, recovered = WriteAheadLog.open(
                self.disk,
                segment_bytes=self.config.segment_bytes,
                new_identity=lambda: self.identity,
            )
        except DiskFull:
            raise NoRoom(self.name, self.disk.free_bytes()) from None
        require(not is_damaged, f"{self.name} has started with a damaged log and did not notice")
        self._log = LogShell(self, wal)
        self.host = self._make_host(recovered)
        self.serving = Serving(
            scheduler=self.world.scheduler,
            greeting=Greeting(self.host, self.name),
            put=self.put,
            send=self._send_to_client,
            is_full=lambda: len(self._inbox) >= self.config.inbox_events_max,
            when_running=lambda action: self._later(0, action),
        )
        self.world.trace.note(self.name, f"start, boot {recovered.boot}")
        self.recovered = recovered
        self.world.observer.started(self)
        self._later(self._generator.randrange(self.config.tick_ms * MILLISECOND), self._tick)
        if recovered.bootstrap is None and self.is_initial:
            self._later(self._delay(20 * MILLISECOND), self._be_born)
        elif recovered.bootstrap is None:
            self._later(1, self._knock)

    def _make_host(self, recovered: Recovered) -> Host:
        """A Host on the state that there is, or on none if that one is damaged."""
        self._rebuilds = any(one.state_lost for one in recovered.replicas.values())
        randomness = random.Random(f"{self.world.seed} host {self.number} life {self.life}")
        if not self._condemned:
            try:
                host = Host(
                    config=self.config,
                    engine=self.engine,
                    recovered=recovered,
                    randomness=randomness,
                )
                self.state_is_lost = False
                return host
            except StorageError as damage:
                self._condemn(damage)
        self.world.count("states set aside and rebuilt")
        self.world.trace.note(self.name, "the state is set aside")
        self._condemned = False
        self.state_is_lost = self._rebuilds = True
        self.engine = SimulatedEngine(random.Random(f"{self.world.seed} {self.name} {self.life}"))
        return Host(
            config=self.config,
            engine=self.engine,
            recovered=without_states(recovered),
            randomness=randomness,
        )

    def _condemn(self, damage: StorageError) -> None:
        if not is_state_damage(damage):
            raise damage
        known = self.is_spoiled or self.engine.was_rotten
        require(known, f"{self.name} finds damage that nobody has done: {damage}")
        self.world.trace.note(self.name, str(damage))
        self.world.count(f"{type(damage).__name__} found")
        self._condemned = True

    @property
    def is_initial(self) -> bool:
        """Whether it is one of those that began the cluster."""
        return any(member.identity == self.identity for member in self.world.bootstrap.members)

    @property
    def is_spoiled(self) -> bool:
        """Whether something that was durable is damaged, be it that it has not shown yet."""
        return (
            self.disk.damaged
            or self.engine.is_rotten
            or self.state_is_lost
            or self._condemned
            or self.is_rebuilding
        )

    def holds(self, group: GroupId) -> bool:
        """Whether a process runs that has a replica of this group."""
        return self.host is not None and group in self.host.replicas

    @property
    def is_rebuilding(self) -> bool:
        """Whether a state is not complete again; of a machine that is down, whether it may be."""
        if self.host is None:
            return self._rebuilds
        return any(one.consensus.rebuilding for one in self.host.replicas.values())

    def crash(self, *, power_loss: bool) -> None:
        """The process dies, or the whole machine."""
        assert self.host is not None
        self.world.trace.note(self.name, "power loss" if power_loss else "crash")
        self._end(power_loss=power_loss)

    def _end(self, *, power_loss: bool) -> None:
        self.host = None
        self._log = None
        self.life += 1
        self.paused = self.stopping = False
        self.ambush = None
        self.hellos.clear()
        self.reached.clear()
        self.refused_by.clear()
        self._deferred.clear()
        self._inbox.clear()
        self._turn_planned = False
        self._busy_until = 0
        if self.serving is not None:
            self.serving.stop()
        self.serving = None
        if power_loss:
            self.disk.crash()
        self.engine.crash()

    def _guard(self, step: Action) -> None:
        """Takes a step of the process; what ends the real process ends this one."""
        try:
            step()
        except Killed as killed:
            self.world.trace.note(self.name, f"{killed} in the middle of a step")
            self._end(power_loss=killed.power_loss)
            self.world.observer.ended(self, None)
        except StorageError as error:
            if is_state_damage(error):
                self._condemn(error)
            self.world.trace.note(self.name, f"stops: {error}")
            self._end(power_loss=False)
            self.world.observer.ended(self, error)

    def step(self, operation: str) -> None:
        """Something is about to happen that a crash may come before."""
        ambush = self.ambush
        if ambush is not None and isinstance(ambush.outcome, Killed):
            self._advance(ambush, operation)

    def _disk_step(self, operation: str) -> None:
        """The same of an operation of the disk, which may also fail by itself."""
        if self.ambush is not None:
            self._advance(self.ambush, operation)

    def _advance(self, ambush: Ambush, operation: str) -> None:
        if ambush.steps:
            ambush.steps -= 1
            return
        self.ambush = None
        self.world.trace.note(self.name, f"{operation}: {ambush.outcome}")
        self.world.count(f"{ambush.outcome} at {operation}")
        raise ambush.outcome

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
            self._guard(self._deferred.popleft())

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
                self._guard(action)

        self.world.scheduler.after(delay, run)

    def _delay(self, mean: int) -> int:
        return 1 + int(self._generator.expovariate(1 / mean))

    def _now_ms(self) -> int:
        return self._clock_base + int(self.world.scheduler.now * self._clock_rate) // MILLISECOND

    def step_clock(self, milliseconds: int) -> None:
        """The monotonic clock jumps ahead, as after a migration of the machine."""
        self.world.trace.note(self.name, f"the clock steps {milliseconds} ms ahead")
        self._clock_base += milliseconds

    def _tick(self) -> None:
        assert self._log is not None
        assert self.serving is not None
        self.serving.tick()
        if self.host is not None and self.host.was_removed:
            self.world.observer.removed(self)
            return
        self._log.tick()
        self.put(Ticked(self.disk.free_bytes() if self._log.wal.reserve_ok else 0))
        self._later(int(self.config.tick_ms * MILLISECOND / self._clock_rate), self._tick)
        self._ticks += 1
        if self._ticks % TELL_TICKS == 0:
            self.world.observer.told(self, self.log_end)

    def _be_born(self) -> None:
        self.put(Bootstrapped(self.world.bootstrap))

    def _knock(self) -> None:
        """A node without a cluster says hello to all whom it may reach, until it is let in."""
        assert self.host is not None
        if not self.host.is_certified:
            self._later(KNOCK_AGAIN, self._knock)
            self.world.observer.knocked(self)

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
        duration = self._delay(int(self.world.options.turn_mean * self.slowness))
        self._busy_until = self.world.scheduler.now + duration + 4
        self._later(duration, lambda: self._send(effects))
        if effects.append is not None:
            log, write = self._log, effects.append
            assert log is not None
            self._later(duration + 1, lambda: log.put(write))
        if effects.replies:
            self._later(duration + 2, lambda: self._reply(effects.replies))
        if effects.flush is not None:
            flush = effects.flush
            self._later(duration + 3, lambda: self._flush(flush))
        if effects.again:
            self._plan_turn()

    def _send(self, effects: Effects) -> None:
        for identity, envelopes in effects.messages.items():
            self.step("a frame leaves")
            target = self.world.numbers[identity]
            if self.world.network.on_the_way(self.number, target) >= self._outbox_frames_max:
                self.world.count("outbox overflows")
                continue
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

    def stick_disk(self, duration: int) -> None:
        """No sync and no flush of this machine returns before so many microseconds have passed."""
        self.world.trace.note(self.name, f"disk stuck for {duration // MILLISECOND} ms")
        self._stuck_until = self.world.scheduler.now + duration

    def free_stuck_disk(self) -> None:
        """The disk answers again."""
        self._stuck_until = 0

    def after_disk(self, mean: int, action: Action) -> None:
        """Runs ``action`` when the disk has done its work, which takes a stuck one very long."""

        def done() -> None:
            wait = self._stuck_until - self.world.scheduler.now
            if wait > 0:
                self._later(min(wait, STUCK_POLL), done)
            else:
                action()

        self._later(self._delay(mean), done)

    def _flush(self, number: int) -> None:
        self.step("a flush starts")
        reach = self.engine.start_flush()

        def done() -> None:
            self.engine.finish_flush(reach)
            self.put(Flushed(number))

        self.after_disk(self.world.options.flush_mean, done)

    # --- Peers ---

    def receive(self, source_identity: int, frame: Frame) -> None:
        """A frame of another node has arrived."""
        if self.host is None:
            return
        assert not isinstance(frame, StreamFrame), "streams are for clients"
        envelopes = decode_frame(frame) if isinstance(frame, bytes) else frame
        self.put(Received(source_identity, envelopes))

    def receive_from_client(self, client: int, frame: ClientBytes) -> None:
        """Something of a client has arrived; a machine without a process refuses streams."""
        if self.serving is None:
            refuse(frame, lambda answer: self.world.network.send(self.number, client, answer))
        else:
            self.serving.receive(client, frame)

    def _reply(self, replies: list[Reply]) -> None:
        assert self.serving is not None
        self.step("replies leave")
        self.serving.reply(replies)

    def _send_to_client(self, client: int, frame: ClientBytes) -> None:
        self.world.network.send(self.number, client, frame)
