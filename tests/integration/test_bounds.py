"""Endless overwrites: what they leave behind is compacted, cut and deleted while they go on."""

import asyncio
from pathlib import Path

import pytest

from tests.integration.cluster import eventually, running_cluster

pytestmark = pytest.mark.timeout(120)

MIB = 1024 * 1024
KEYS = 50
VALUE = bytes(range(256)) * 16
ROUNDS = 300


def test_disk_space_stays_bounded_under_endless_overwrites(tmp_path: Path) -> None:
    small = ["--history-revisions-max", "500", "--checkpoint-bytes", "1MiB"]
    small += ["--segment-bytes", "1MiB", "--memtable-bytes", "1MiB", "--log-tail-entries", "10"]
    written = ROUNDS * KEYS * len(VALUE)
    bound = written // 3

    async def story() -> None:
        async with running_cluster(tmp_path, options=small) as cluster:
            async with cluster.client() as kv:
                for number in range(ROUNDS):
                    mark = b"%d" % number
                    await kv.put_many({b"key/%d" % key: VALUE + mark for key in range(KEYS)})

                async def small_enough() -> bool:
                    statuses = [await cluster.status(node) for node in cluster.nodes]
                    return all(status and status.disk_bytes < bound for status in statuses)

                await eventually(small_enough, f"no node uses {bound} bytes of disk")
                newest = await kv.get_many([b"key/%d" % key for key in range(KEYS)])
            assert all(
                item is not None and item.value == VALUE + b"%d" % (ROUNDS - 1)
                for item in newest.values()
            )
            for node in cluster.nodes:
                status = await cluster.status(node)
                assert status is not None
                group = status.groups[1]
                assert group.compacted_revision > group.revision // 2
                assert group.log_last - group.log_first < group.log_last // 2, "the log was cut"

    asyncio.run(story())
