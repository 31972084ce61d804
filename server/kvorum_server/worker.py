"""A thread for the calls that wait for the disk, so that the event loop does not.

``fdatasync`` and a flush of the engine take as long as the device takes and release the GIL
meanwhile. Each has a worker of its own: one thread, one call after the other, outcomes handed back
to the event loop. A call that raises ends its worker for good, because what failed says nothing
about the disk that the next call would rely on; what becomes of the node is decided in the loop.
"""

import asyncio
import queue
import threading
from collections.abc import Callable


class Worker:
    """Made and stopped on the event loop; ``failed`` and all ``done`` run there."""

    def __init__(self, name: str, failed: Callable[[BaseException], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._failed = failed
        self._calls: queue.SimpleQueue[tuple[Callable[[], None], Callable[[], None]] | None]
        self._calls = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], None], done: Callable[[], None]) -> None:
        """Runs ``call`` in the thread, then ``done`` in the event loop."""
        self._calls.put((call, done))

    def _run(self) -> None:
        while (work := self._calls.get()) is not None:
            call, done = work
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - the loop stops the node
                self._loop.call_soon_threadsafe(self._failed, error)
                return
            self._loop.call_soon_threadsafe(done)

    def stop(self) -> None:
        """Finishes what was submitted and ends the thread."""
        self._calls.put(None)
        self._thread.join()
