"""The client side of a simulated node: the counterpart of ``rpc/services.py`` in virtual time.

Two kinds of clients come here. Those of ``client.py`` send bare frames, which the network may lose
and repeat: worse than any stream, so that sessions have something to be good for. Those of
``sdk_client.py`` open streams and begin with a hello, as the product's own library does, and are
greeted by the product's own ``Greeting``.

A full inbox loses a bare frame, as a slow stream would, and answers a stream's requests BUSY.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kvorum_proto import kv_pb2
from kvorum_server.admission import busy_result
from kvorum_server.events import Asked, Disconnected, Event, Proposed, Reply
from kvorum_server.greeting import Greeting
from tests.simulator.scheduler import Action, Scheduler
from tests.simulator.streams import Stream, StreamFrame

ClientBytes = bytes | StreamFrame
"""What travels between clients and nodes."""

BUSY_RETRY_MS = 50

Place = tuple[int, int]
"""A client's endpoint, and the number of its stream; 0: bare frames."""


@dataclass(slots=True)
class Serving:
    """The clients of one process."""

    scheduler: Scheduler
    greeting: Greeting
    put: Callable[[Event], None]
    send: Callable[[int, ClientBytes], None]
    is_full: Callable[[], bool]
    when_running: Callable[[Action], None]
    """Does it next, or when a process that is paused goes on: only its machine takes frames."""
    _streams: dict[Place, Stream] = field(default_factory=dict)
    _connections: dict[Place, int] = field(default_factory=dict)
    _places: dict[int, Place] = field(default_factory=dict)
    _last_connection: int = 0
    _greeted: set[Place] = field(default_factory=set)

    # --- In ---

    def receive(self, client: int, frame: ClientBytes) -> None:
        """Something of a client has arrived."""
        if isinstance(frame, StreamFrame):
            self._receive_in_stream(client, frame)
        elif not self.is_full():
            self._take((client, 0), kv_pb2.ClientFrame.FromString(frame), busy=False)

    def _receive_in_stream(self, client: int, frame: StreamFrame) -> None:
        place = (client, frame.stream)
        stream = self._streams.get(place)
        if stream is None:
            if frame.reset:
                return
            if frame.number != 1:
                refuse(frame, lambda answer: self.send(client, answer))
                return
            stream = self._streams[place] = Stream(
                number=frame.stream,
                scheduler=self.scheduler,
                transmit=lambda sent: self.send(client, sent),
                deliver=lambda data: self.when_running(lambda: self._deliver(place, data)),
                broken=lambda _: self._close(place),
            )
        stream.receive(frame)

    def _deliver(self, place: Place, data: bytes) -> None:
        if place not in self._streams:
            return
        frame = kv_pb2.ClientFrame.FromString(data)
        if frame.HasField("hello"):
            self._greet(place)
        self._take(place, frame, busy=self.is_full())

    def _greet(self, place: Place) -> None:
        self._greeted.add(place)
        hello = kv_pb2.ServerFrame(hello=self.greeting.hello)
        self._streams[place].send(hello.SerializeToString())

    def _take(self, place: Place, frame: kv_pb2.ClientFrame, *, busy: bool) -> None:
        connection = self._connection(place)
        for proposal in frame.proposals:
            ids = tuple(proposal.ids)
            if busy:
                self._refuse(connection, proposal.group, ids)
            else:
                self.put(Proposed(connection, proposal.group, ids, proposal.commands))
        for inquiry in frame.inquiries:
            ids = tuple(inquiry.ids)
            if busy:
                self._refuse(connection, inquiry.group, ids)
            else:
                self.put(Asked(connection, inquiry.group, ids, tuple(inquiry.queries)))

    def _connection(self, place: Place) -> int:
        connection = self._connections.get(place)
        if connection is None:
            self._last_connection += 1
            connection = self._connections[place] = self._last_connection
            self._places[connection] = place
        return connection

    def _refuse(self, connection: int, group: int, ids: tuple[int, ...]) -> None:
        results = [busy_result(BUSY_RETRY_MS)] * len(ids)
        self.reply([Reply(connection, group, list(ids), results, 0, 0, 0)])

    # --- Out ---

    def tick(self) -> None:
        """Tells every stream what has changed in the greeting."""
        if self.greeting.refresh():
            for place in sorted(self._greeted):
                self._greet(place)

    def reply(self, replies: Iterable[Reply]) -> None:
        """Sends answers, those for one place in one frame; they go nowhere when it is gone."""
        frames: dict[Place, kv_pb2.EncodedServerFrame] = {}
        for reply in replies:
            place = self._places.get(reply.connection)
            if place is None:
                continue
            frame = frames.setdefault(place, kv_pb2.EncodedServerFrame())
            frame.replies.add(
                group=reply.group,
                ids=reply.ids,
                results=reply.results,
                term=reply.term,
                log_time=reply.log_time,
                revision=reply.revision,
            )
        for place, frame in frames.items():
            data = frame.SerializeToString()
            if place[1]:
                self._streams[place].send(data)
            else:
                self.send(place[0], data)

    # --- Ends ---

    def disconnect(self, client: int) -> None:
        """Whatever carries a client's bare frames broke; a stream finds out by itself."""
        self._close((client, 0))

    def _close(self, place: Place) -> None:
        self._streams.pop(place, None)
        self._greeted.discard(place)
        connection = self._connections.pop(place, None)
        if connection is not None:
            del self._places[connection]
            self.put(Disconnected(connection))

    def hang_up(self) -> None:
        """Ends all streams; whoever has opened them dials again, and may find somebody else."""
        for place, stream in list(self._streams.items()):
            stream.close()
            self._close(place)

    def stop(self) -> None:
        """The process is gone: its streams neither repeat nor confirm any more."""
        for stream in self._streams.values():
            stream.stands = False


def refuse(frame: ClientBytes, answer: Callable[[StreamFrame], None]) -> None:
    """What a machine says for a stream that none of its processes knows."""
    if isinstance(frame, StreamFrame) and not frame.reset:
        answer(StreamFrame(frame.stream, 0, 0, reset=True))
