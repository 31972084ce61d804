"""The gRPC server of a node: our services, health and reflection, on one port.

Frames pass through gRPC as bytes: parsing is ours, once, where it is measured. Health and
reflection are the standard services, so that load balancers and ``grpcurl`` work.
"""

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from kvorum_proto import cluster_pb2, kv_pb2, peer_pb2
from kvorum_server.config import Config
from kvorum_server.rpc.backup import Backups
from kvorum_server.rpc.peers import PEER_MESSAGE_BYTES_MAX, Peers
from kvorum_server.rpc.services import Services
from kvorum_server.storage.errors import StorageError

SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", PEER_MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", PEER_MESSAGE_BYTES_MAX),
    # Peers and clients ping every few seconds; the defaults call that abuse and hang up.
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


class PortInUse(StorageError):
    """Another process listens on this node's address."""


async def make_server(
    config: Config, services: Services, peers: Peers, backups: Backups
) -> grpc.aio.Server:
    """A started server; raises PortInUse when the address cannot be had."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "kvorum.v1.KV",
                {
                    "Session": grpc.stream_stream_rpc_method_handler(services.session),
                    "Execute": grpc.unary_unary_rpc_method_handler(services.execute),
                },
            ),
            grpc.method_handlers_generic_handler(
                "kvorum.v1.Cluster",
                {
                    "Status": grpc.unary_unary_rpc_method_handler(services.status),
                    "TransferLeadership": grpc.unary_unary_rpc_method_handler(services.transfer),
                    "CompareStates": grpc.unary_unary_rpc_method_handler(services.compare),
                    "Backup": grpc.unary_stream_rpc_method_handler(backups.serve),
                },
            ),
            grpc.method_handlers_generic_handler(
                "kvorum.v1.Peer", {"Exchange": grpc.stream_stream_rpc_method_handler(peers.accept)}
            ),
        )
    )
    names = [
        service.full_name
        for file in (kv_pb2, cluster_pb2, peer_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    ]
    health_service = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    for name in ("", *names):
        await health_service.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    try:
        port = server.add_insecure_port(config.listen)
    except RuntimeError:
        port = 0
    if port == 0:
        raise PortInUse(
            f"cannot listen on {config.listen}: the port is in use or the host is not of this "
            "machine; choose another --listen"
        )
    await server.start()
    return server
