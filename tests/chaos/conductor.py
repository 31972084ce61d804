"""Carries out a schedule: finds victims, strikes, undoes, and notes what happened when.

All weather that holds at a time is one value, made from the faults that last; whenever one begins
or ends the network gets the new whole. A strike that finds no victim (nobody leads just now) takes
a node by its choice number instead; so every strike of the schedule happens. At the end everything
is undone, whatever happened before.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

from tests.chaos import moves
from tests.chaos.cluster import Nodes
from tests.chaos.faults import (
    BadLines,
    FullDisk,
    Kill,
    Partition,
    Pause,
    Replace,
    Restart,
    Strike,
    Swap,
    Victim,
    weather_of,
)
from tests.chaos.nemesis import is_weather
from tests.chaos.network import Network
from tests.chaos.topology import Weather


@dataclass(frozen=True, slots=True)
class Blow:
    """A strike that was carried out: on whom, from when until when, monotonic nanoseconds."""

    strike: Strike
    victims: tuple[str, ...]
    begin_ns: int
    end_ns: int

    def __str__(self) -> str:
        everybody = self.strike.victim is Victim.ALL
        return f"{'all' if everybody else ', '.join(self.victims)} {self.strike.fault}"


@dataclass(slots=True)
class Conductor:
    """Strikes at the nodes of one network."""

    network: Network
    nodes: Nodes
    clients: Sequence[str]
    blows: list[Blow] = field(default_factory=list)
    _weathers: dict[int, Weather] = field(default_factory=dict)
    _hands: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while processes or disks are struck, which a slow restart may make late."""

    async def carry_out(self, schedule: Sequence[Strike]) -> None:
        """Carries out a schedule that begins now; returns when everything is undone."""
        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, strike in enumerate(schedule):
                group.create_task(self._strike(number, strike, begin))

    async def _strike(self, number: int, strike: Strike, begin: float) -> None:
        await asyncio.sleep(begin + strike.at_seconds - time.monotonic())
        async with self._hands if not is_weather(strike.fault) else contextlib.nullcontext():
            await self._strike_and_undo(number, strike, begin)

    async def _strike_and_undo(self, number: int, strike: Strike, begin: float) -> None:
        victims = self._victims(strike)
        struck_ns = time.monotonic_ns()
        try:
            await self._do(number, strike, victims)
            await asyncio.sleep(begin + strike.at_seconds + strike.lasts_seconds - time.monotonic())
        finally:
            self._undo(number, strike, victims)
            self.blows.append(Blow(strike, victims, struck_ns, time.monotonic_ns()))

    def _victims(self, strike: Strike) -> tuple[str, ...]:
        names = self.nodes.names
        leader = self.nodes.leader() or names[strike.choice % len(names)]
        followers = [name for name in names if name != leader]
        match strike.victim:
            case Victim.ALL:
                return tuple(names)
            case Victim.LEADER:
                return (leader,)
            case Victim.FOLLOWER:
                return (followers[strike.choice % len(followers)],)

    async def _do(self, number: int, strike: Strike, victims: Sequence[str]) -> None:
        for name in victims:
            match strike.fault:
                case Kill():
                    self.nodes.kill(name)
                case Pause():
                    self.nodes.pause(name, signal.SIGSTOP)
                case Restart():
                    await self.nodes.terminate(name)
                case Replace():
                    await moves.replace(self.nodes, name)
                case Swap():
                    await moves.swap(self.nodes, name)
                case FullDisk(brim) if name in self.nodes.disks:
                    # Who starts on a full disk refuses to; here it fills up under a running node.
                    await self.nodes.served(name)
                    leave_bytes = 0 if brim else 1 << 20
                    await asyncio.to_thread(self.nodes.disks[name].fill, leave_bytes)
                case _:
                    continue
        if isinstance(strike.fault, Partition | BadLines):
            names, clients = self.nodes.names, self.clients
            weather = weather_of(strike.fault, victims, names, clients, strike.choice)
            self._weathers[number] = weather
            self._set_weather()

    def _undo(self, number: int, strike: Strike, victims: Sequence[str]) -> None:
        for name in victims:
            match strike.fault:
                case Kill() | Restart():
                    self.nodes.revive(name)
                case Pause():
                    self.nodes.pause(name, signal.SIGCONT)
                case FullDisk() if name in self.nodes.disks:
                    self.nodes.disks[name].free()
                case _:
                    continue
        if self._weathers.pop(number, None) is not None:
            self._set_weather()

    def _set_weather(self) -> None:
        now = reduce(Weather.__or__, self._weathers.values(), Weather())
        self.network.set(now)
