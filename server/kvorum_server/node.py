"""The shell around a Host: drains the inbox, takes a turn, sends, persists, replies.

Everything that has arrived since the last turn becomes one turn; a turn is scheduled when the
first of it arrives, so load makes turns bigger, not more frequent. The pump is
:meth:`Node._turn`; the rest is starting and stopping.

*Threads.* The event loop takes the turns and appends to the write-ahead log (the operating
system's page cache: microseconds). One thread makes writes durable, one flushes the engine; both
calls release the GIL. While a sync is under way the next writes gather and share the following
one.

*Failure.* Whatever a turn, a sync or a flush raises stops the node: a failed fsync says nothing
about what is on disk and is never retried, and a bug must not go on answering. A broken machine is
told in one line, a bug with its traceback.
"""

import asyncio
import contextlib
import gc
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import grpc.aio
import structlog

from kvorum_proto.kv_pb2 import ServerHello
from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server.config import Config, ConfigError
from kvorum_server.events import (
    Appended,
    Bootstrapped,
    Effects,
    Event,
    Flushed,
    Stopping,
    Ticked,
    Transition,
)
from kvorum_server.greeting import Greeting
from kvorum_server.initial_cluster import InitialCluster, parse_addresses
from kvorum_server.log_writer import LogWriter
from kvorum_server.opening import leave_note, open_state
from kvorum_server.pace import Pace
from kvorum_server.placement.bootstrap import make_bootstrap
from kvorum_server.rpc.backup import Backups
from kvorum_server.rpc.handshake import Self
from kvorum_server.rpc.peers import Peers
from kvorum_server.rpc.server import make_server
from kvorum_server.rpc.services import Services
from kvorum_server.status import backup_header, node_status
from kvorum_server.storage.data_directory import must_join, open_log
from kvorum_server.storage.errors import StorageError
from kvorum_server.storage.wal import Position
from kvorum_server.types import FEATURE_LEVEL, Contact, NodeId
from kvorum_server.worker import Worker

FREE_SPACE_TICKS = 40
"""Ticks between two looks at the free disk space: one second by default."""


class Node:
    """One running node. ``await Node(config).run()`` returns the exit code of the process."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.version = metadata.version("kvorum")
        self.joins = parse_addresses(config.join)
        self.initial_cluster = (
            InitialCluster.parse(config.initial_cluster) if config.initial_cluster else None
        )
        self._log = structlog.get_logger().bind(node=config.name)
        self._inbox: list[Event] = []
        self._turn_scheduled = False
        self._ticks = 0
        self._told_log_end = Position(0, 0)
        self._free_bytes = 0
        self._engine_is_behind = False
        self._too_many_replies = False
        self._started = time.monotonic()
        self._stopped: asyncio.Future[int]
        self._process = secrets.randbits(64)
        self._has_founded = False
        self._has_announced = False

    # --- Life ---

    async def run(self) -> int:
        """Serves until SIGTERM or SIGINT (0) or a bug (1). Raises ConfigError or StorageError, one
        line for people, when the node cannot begin or cannot go on.
        """
        self._loop = asyncio.get_running_loop()
        self._stopped = self._loop.create_future()
        with contextlib.ExitStack() as resources:
            self._open(resources)
            self._check_initial_cluster()
            self._log_writer = LogWriter(
                wal=self.wal,
                claim_idle_ms=self.config.claim_idle_ms,
                clock=self._loop.time,
                appended=lambda number: self.post(Appended(number)),
                disk_full=self._note_disk_full,
                fail=self._fail,
            )
            self._flush_worker = Worker("flush", self._fail)
            resources.callback(self._flush_worker.stop)
            resources.callback(self._log_writer.stop)
            self._make_parts()
            server = await make_server(self.config, self.services, self.peers, self.backups)
            gc.collect()
            gc.freeze()
            for name in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(name, self._begin_stop)
            self._pace = Pace(
                tick_seconds=self.config.tick_ms / 1000,
                stall_seconds=self.config.election_timeout_ms / 2000,
                now=self._loop.time(),
            )
            self._tick()
            self.peers.refresh()
            self._log.info(
                "serving", address=self.config.listen, identity=f"{self.host.identity:016x}"
            )
            try:
                return await self._stopped
            except StorageError as error:
                leave_note(self.config, error)
                raise
            finally:
                await self._close(server)
                self._log.info("stopped")

    def _open(self, resources: contextlib.ExitStack) -> None:
        """Opens log and engine; raises a StorageError with one line when that cannot be."""
        opened = open_log(
            self.config.data,
            segment_bytes=self.config.segment_bytes,
            new_identity=lambda: secrets.randbits(64) or 1,
            may_join=bool(self._others()),
        )
        resources.callback(opened.close)
        self.wal, self.disk, recovered = opened.log, opened.disk, opened.recovered
        self._recovered_end = recovered.end
        if opened.damage is not None:
            self._log.error("quarantined", damage=opened.damage.found, moved_to=str(opened.place))
        if must_join(self.config.data, recovered):
            self._join_again()
        if recovered.torn_bytes:
            self._log.info("torn tail cut", bytes=recovered.torn_bytes)
        self.engine, self.host = open_state(self.config, recovered, self._state_moved)
        resources.callback(self.engine.close)
        self.greeting = Greeting(self.host, self.config.name)

    def _others(self) -> tuple[str, ...]:
        """Where other nodes of the cluster may be, as the operator has named them."""
        named = self.initial_cluster.members if self.initial_cluster is not None else ()
        return self.joins or tuple(address for name, address in named if name != self.config.name)

    def _join_again(self) -> None:
        """The log of this node was lost: it can only come back as a new one, through the others."""
        self.joins = self._others()
        if not self.joins:
            raise ConfigError(
                f"{self.config.data} has a quarantined log: this node belonged to a cluster and "
                "must not found another one; name members of it in --join, or restore a backup"
            )
        self._log.warning("must join again", remedy=f"kvorum member replace {self.config.name}")

    def _state_moved(self, damage: StorageError, place: Path) -> None:
        self._log.error("state damaged", reason=str(damage), quarantine=str(place))

    def _make_parts(self) -> None:
        bootstrap = self.host.bootstrap
        self.peers = Peers(
            config=self.config,
            contacts=self._contacts,
            myself=self._myself,
            post=self.post,
            found=self._found,
            sent_away=self._sent_away,
            fail=self._fail,
            log=self._log,
        )
        self.services = Services(
            config=self.config,
            post=self.post,
            overloaded=self._overloaded,
            engine_is_behind=lambda: self._engine_is_behind,
            hello=self.server_hello,
            status=lambda: node_status(self),
            resolve=self._resolve,
            leader_name=self._leader_name,
            fail=self._fail,
        )
        self.backups = Backups(
            config=self.config,
            header=lambda: backup_header(self.host, self.version),
            view=self.host.view,
            fail=self._fail,
        )
        if bootstrap is None and not self.joins and not self._contacts():
            alone = self._found({})
            assert alone is not None
            self._inbox.append(Bootstrapped(alone))

    def _begin_stop(self) -> None:
        """SIGTERM: hand over what we lead, then leave."""
        self._log.info("stopping")
        self.post(Stopping())
        deadline = self._loop.time() + self.config.shutdown_grace_ms / 2000
        self._loop.call_later(0.01, self._stop_when_led_elsewhere, deadline)

    def _stop_when_led_elsewhere(self, deadline: float) -> None:
        if self._stopped.done():
            return
        if not self.host.leads or self._loop.time() >= deadline:
            self._stopped.set_result(0)
        else:
            self._loop.call_later(0.01, self._stop_when_led_elsewhere, deadline)

    async def _close(self, server: grpc.aio.Server) -> None:
        await self.peers.close()
        await server.stop(grace=0.2)
        self._inbox.clear()

    def _fail(self, error: BaseException) -> None:
        """Stops the node: a broken machine in one line for its operator, a bug with its trace."""
        if self._stopped.done():
            return
        if isinstance(error, StorageError):
            self._stopped.set_exception(error)
        else:
            self._log.error("failed", reason=repr(error), exc_info=error)
            self._stopped.set_result(1)

    def _or_fail(self, step: Callable[[], None]) -> None:
        """Takes a step of the pump; whatever it raises stops the node."""
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - a bug or a broken machine: stop
            self._fail(error)

    def _sent_away(self, reason: str) -> None:
        """Stops the node because its peers will not have it: its operator has to do something."""
        if not self._stopped.done():
            self._stopped.set_exception(ConfigError(reason))

    def _leave(self) -> None:
        """Ends the node because it is a member no more, as its operator wanted."""
        if not self._stopped.done():
            reason = "removed from the cluster; its data is of no use any more and may be deleted"
            self._log.info("leaving", reason=reason, data=str(self.config.data))
            self._stopped.set_result(0)

    # --- The pump ---

    def post(self, event: Event) -> None:
        """Puts an event into the inbox of the next turn."""
        self._inbox.append(event)
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _overloaded(self) -> bool:
        return len(self._inbox) >= self.config.inbox_events_max or self._too_many_replies

    def _turn(self) -> None:
        self._turn_scheduled = False
        if not self._stopped.done():
            self._or_fail(self._take_turn)

    def _take_turn(self) -> None:
        events, self._inbox = self._inbox, []
        self._perform(self.host.turn(time.monotonic_ns() // 1_000_000, events))

    def _perform(self, effects: Effects) -> None:
        for peer, envelopes in effects.messages.items():
            self.peers.send(peer, envelopes)
        if effects.append is not None:
            self._log_writer.put(effects.append)
        for reply in effects.replies:
            self.services.deliver(reply)
        if effects.flush is not None:
            number = effects.flush
            self._flush_worker.submit(self.engine.flush, lambda: self.post(Flushed(number)))
        for transition in effects.transitions:
            self._show(transition)
        if effects.again and not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _note_disk_full(self, reason: str, waiting: int) -> None:
        self._log.error("disk full", reason=reason, waiting=waiting)

    def _tick(self) -> None:
        """Once a tick; the Host does not hear of one that only shows that the node stood still."""
        if self._stopped.done():
            return
        counts = self._pace.tick(self._loop.time())
        self._loop.call_at(self._pace.next_at, self._tick)
        self._or_fail(self._look_around)
        if not counts:
            self._log.warning("stood still", seconds=round(self._pace.lag_seconds, 3))
            return
        free_bytes = self._free_bytes if self._log_writer.has_reserve else 0
        self.post(Ticked(free_bytes, self._engine_is_behind))

    def _look_around(self) -> None:
        """What needs a look now and then: disk space, the log, what clients and peers are told."""
        if self._ticks % FREE_SPACE_TICKS == 0:
            self._free_bytes = self.disk.free_bytes()
            if self._told_log_end != self.wal.durable_end:
                self._told_log_end = self.wal.durable_end
                self.peers.tell_log_end()
        self._ticks += 1
        self._engine_is_behind = self.engine.stats().pressure >= 1
        self._too_many_replies = self.services.waiting_bytes > self.config.replies_bytes_max
        self._log_writer.tick()
        if self.greeting.refresh():
            self.peers.refresh()
            self.services.announce()
        if self.host.was_removed:
            self._leave()
        if self.host.is_certified and not self._has_announced:
            self._has_announced = True
            self.peers.announce()

    def _show(self, transition: Transition) -> None:
        self._log.info(
            transition.name,
            group=transition.group,
            replica=transition.replica,
            **transition.details,
        )

    # --- What the parts ask ---

    def _myself(self) -> Self:
        catalog = self.host.directory.catalog
        roster = None if catalog is None else catalog.roster
        return Self(
            name=self.config.name,
            identity=self.host.identity,
            boot=self.host.boot,
            supported_level=FEATURE_LEVEL,
            initial_cluster_hash=self.initial_cluster.hash if self.initial_cluster else b"",
            bootstrap=self.host.bootstrap if self.host.is_certified else None,
            process=self._process,
            log_end=self.wal.durable_end,
            recovered_end=self._recovered_end,
            address=self.config.listen,
            joining=bool(self.joins),
            members=self.host.directory.contacts(),
            expected=frozenset(roster.expected if roster else ()),
            removed=frozenset(roster.removed if roster else ()),
        )

    def _contacts(self) -> list[Contact]:
        """The nodes that this one wants a stream with.

        The members, as far as it knows them; before it has a catalog, those whom its certificate or
        its operator names.
        """
        known = self.host.directory.contacts()
        bootstrap = self.host.bootstrap
        if not known:
            known = tuple(Contact(address) for address in self.joins)
            if bootstrap is not None:
                named = bootstrap.members
                known += tuple(Contact(one.address, one.name, one.identity) for one in named)
            elif not known and self.initial_cluster is not None:
                members = self.initial_cluster.members
                known = tuple(Contact(address, name) for name, address in members)
        return [
            contact
            for contact in known
            if contact.identity != self.host.identity and contact.address != self.config.listen
        ]

    def _found(self, fresh: Mapping[str, NodeId]) -> Bootstrap | None:
        """The birth certificate, once, when this node is the first-named one and all have
        reported.
        """
        if self.initial_cluster is None or self.joins:
            return None
        members = self.initial_cluster.members
        others = {name for name, _ in members} - {self.config.name}
        if self._has_founded or self.config.name != self.initial_cluster.starter:
            return None
        if not others <= set(fresh):
            return None
        self._has_founded = True
        return make_bootstrap(
            cluster_id=secrets.token_bytes(16),
            members=members,
            identities={**fresh, self.config.name: self.host.identity},
            partitions=self.config.partitions,
            replicas=min(self.config.replicas, len(members)),
            protocol=self.config.consensus,
            initial_cluster_hash=self.initial_cluster.hash,
            settings=self.config,
        )

    def _check_initial_cluster(self) -> None:
        """After the start of a cluster its initial text may be repeated, not changed."""
        bootstrap = self.host.bootstrap
        initial_cluster = self.initial_cluster
        if bootstrap is None:
            self._check_beginning()
            return
        if (
            initial_cluster is not None
            and not self.joins
            and initial_cluster.hash != bootstrap.initial_cluster_hash
        ):
            known = ",".join(f"{member.name}={member.address}" for member in bootstrap.members)
            raise ConfigError(
                f"initial_cluster disagrees with the data in {self.config.data}, which began as "
                f"{known}; repeat that text, or choose another --data directory"
            )
        names = {member.identity: member.name for member in bootstrap.members}
        own = self.host.directory.name_of(self.host.identity) or names.get(self.host.identity)
        if own is not None and own != self.config.name:
            raise ConfigError(
                f"name is {self.config.name!r}, but {self.config.data} is the data directory of "
                f"{own!r}; choose another --data directory"
            )

    def _check_beginning(self) -> None:
        """A node without a cluster has to be told how it gets one."""
        if self.joins:
            return
        if self.initial_cluster is None:
            raise ConfigError(
                "initial_cluster is missing; name the nodes of a new cluster, this one included: "
                f"--initial-cluster {self.config.name}={self.config.listen}, or members of a "
                "running one: --join HOST:PORT,..."
            )
        if self.config.name not in self.initial_cluster.addresses:
            raise ConfigError(f"name is {self.config.name!r}, which initial_cluster does not name")

    def _resolve(self, name: str) -> NodeId | None:
        addresses = self.host.directory.addresses()
        return next((identity for identity, (n, _) in addresses.items() if n == name), None)

    def _leader_name(self, group: int) -> str:
        return self.host.directory.name_of(self.host.directory.leader_of(group))

    def server_hello(self) -> ServerHello:
        """What clients are told first."""
        return self.greeting.hello

    # --- Figures for the status ---

    @property
    def uptime_seconds(self) -> float:
        """Time since the process began to start this node."""
        return time.monotonic() - self._started

    @property
    def loop_lag_ms(self) -> float:
        """The worst delay of a tick in the last ten seconds."""
        return self._pace.worst_lag_seconds * 1000

    @property
    def free_bytes(self) -> int:
        """Free disk space, as last seen."""
        return self._free_bytes

    @property
    def disk_bytes(self) -> int:
        """Disk space that log and state take."""
        return self.wal.disk_bytes + self.engine.stats().disk_bytes
