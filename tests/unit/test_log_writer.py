"""Writes become durable in order, share syncs under load, and wait when the disk is full."""

import asyncio
from collections.abc import Callable
from random import Random

from kvorum_server.events import Write
from kvorum_server.log_writer import LogWriter
from kvorum_server.storage.record import NodeIdentity
from kvorum_server.storage.wal import WriteAheadLog
from tests.integration.cluster import eventually
from tests.simulator.disk import SimulatedDisk

SEGMENT_BYTES = 4096


class Shell:
    """A log writer on a simulated disk, and what it has told."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk(Random(1))
        self.wal, recovered = WriteAheadLog.open(
            self.disk, segment_bytes=SEGMENT_BYTES, new_identity=lambda: 7
        )
        self.boot = recovered.boot
        self.appended: list[int] = []
        self.full: list[int] = []
        self.failures: list[BaseException] = []
        self.now = 0.0
        self.last = 0
        self.writer = LogWriter(
            wal=self.wal,
            claim_idle_ms=50,
            clock=lambda: self.now,
            appended=self.appended.append,
            disk_full=lambda reason, waiting: self.full.append(waiting),
            fail=self.failures.append,
        )

    @property
    def is_idle(self) -> bool:
        return self.appended[-1:] == [self.last]

    def put(self, number: int) -> None:
        self.last = number
        self.boot += 1
        self.writer.put(Write(number, (NodeIdentity(7, self.boot),)))


def run(story: Callable[[Shell], object]) -> Shell:
    async def life() -> Shell:
        shell = Shell()
        try:
            outcome = story(shell)
            if asyncio.iscoroutine(outcome):
                await outcome
        finally:
            shell.writer.stop()
        return shell

    return asyncio.run(life())


async def until(condition: Callable[[], bool], what: str) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds, what)


def test_writes_that_come_during_a_sync_share_the_next_one() -> None:
    async def story(shell: Shell) -> None:
        syncs = shell.disk.syncs
        for number in (1, 2, 3, 4):
            shell.put(number)
        await until(lambda: shell.appended == [1, 4], "the first alone, the others together")
        assert shell.disk.syncs - syncs == 2

    run(story)


def test_a_full_disk_makes_writes_wait_and_loses_none() -> None:
    async def story(shell: Shell) -> None:
        shell.disk.capacity_bytes = 0
        while not shell.full:
            shell.put(shell.last + 1)
            await until(lambda: bool(shell.full) or shell.is_idle, "written or not")
        shell.writer.tick()
        assert not shell.is_idle
        shell.disk.capacity_bytes = 1 << 30
        shell.writer.tick()
        await until(lambda: shell.is_idle, "what waited is written")

    assert not run(story).failures


def test_a_silence_is_used_for_a_claim() -> None:
    async def story(shell: Shell) -> None:
        shell.put(1)
        await until(lambda: shell.appended == [1], "written")
        syncs = shell.disk.syncs
        shell.writer.tick()
        assert shell.disk.syncs == syncs
        shell.now = 1.0
        shell.writer.tick()
        await until(lambda: shell.disk.syncs > syncs, "the claim is synced")

    run(story)


def test_a_sync_that_fails_ends_it_all() -> None:
    async def story(shell: Shell) -> None:
        shell.disk.fail_next_sync = True
        shell.put(1)
        shell.put(2)
        await until(lambda: bool(shell.failures), "it is told")
        assert not shell.appended

    run(story)
