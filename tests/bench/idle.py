"""What a cluster costs that nobody uses: the share of a core that each node takes."""

import asyncio
import time

from tests.bench.load import cpu_seconds
from tests.bench.systems import KvorumSystem

SETTLE_SECONDS = 2.0


async def measure(system: KvorumSystem, seconds: float) -> list[float]:
    """Per cent of one core for each node, over ``seconds`` without any client."""
    try:
        await system.start()
        await asyncio.sleep(SETTLE_SECONDS)
        before = [cpu_seconds(process) for process in system.processes]
        started = time.monotonic()
        await asyncio.sleep(seconds)
        elapsed = time.monotonic() - started
        after = [cpu_seconds(process) for process in system.processes]
        return [round((b - a) / elapsed * 100, 2) for a, b in zip(before, after, strict=True)]
    finally:
        system.end()
