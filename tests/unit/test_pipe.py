"""What gathers while a frame is being written goes out together."""

import asyncio

from kvorum_server.rpc.pipe import Pipe


def test_everything_that_gathered_becomes_one_frame() -> None:
    async def story() -> list[list[int]]:
        pipe: Pipe[int] = Pipe()
        frames: list[list[int]] = []
        may_write = asyncio.Event()

        async def write(frame: bytes) -> None:
            frames.append(list(frame))
            await may_write.wait()

        writer = asyncio.create_task(pipe.run(lambda items: [bytes(items)], write))
        pipe.put(1, 10)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for item in (2, 3, 4):
            pipe.put(item, 10)
        assert pipe.waiting_bytes == 30
        pipe.close()
        pipe.put(5, 10)
        may_write.set()
        await writer
        assert pipe.waiting_bytes == 0
        return frames

    assert asyncio.run(story()) == [[1], [2, 3, 4]]


def test_a_closed_pipe_gives_what_it_has_and_then_nothing() -> None:
    async def story() -> tuple[list[int], list[int]]:
        pipe: Pipe[int] = Pipe()
        pipe.put(1, 1)
        pipe.close()
        return await pipe.take(), await pipe.take()

    assert asyncio.run(story()) == ([1], [])


def test_who_waits_is_woken_by_the_end() -> None:
    async def story() -> list[int]:
        pipe: Pipe[int] = Pipe()
        taker = asyncio.create_task(pipe.take())
        await asyncio.sleep(0)
        pipe.close()
        return await taker

    assert asyncio.run(story()) == []


def test_a_nudge_is_for_an_encoder_that_has_something_to_say_by_itself() -> None:
    async def story() -> list[bytes]:
        pipe: Pipe[int] = Pipe()
        frames: list[bytes] = []
        may_write = asyncio.Event()

        async def write(frame: bytes) -> None:
            frames.append(frame)
            await may_write.wait()

        writer = asyncio.create_task(pipe.run(lambda items: [b"news" + bytes(items)], write))
        pipe.nudge()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for _ in range(3):
            pipe.nudge()
        pipe.put(1, 1)
        pipe.close()
        pipe.nudge()
        may_write.set()
        await writer
        return frames

    assert asyncio.run(story()) == [b"news", b"news\x01"]
