"""From what a user writes to the addresses of nodes.

An address is what gRPC dials: ``host:port``, or a name with a scheme that gRPC resolves, such as
``dns:///``. It is also the identity of a link, so each is kept once. What cannot be an address is
refused here, where the user still sees which part of the text it was; whether a node answers there
is found out later.
"""

from collections.abc import Sequence

from kvorum._errors import InvalidRequest

DEFAULT_ENDPOINTS = "127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402"
"""Where ``kvorum up`` starts a cluster."""


def parse_endpoints(endpoints: str | Sequence[str]) -> tuple[str, ...]:
    """Addresses, each once, in their order. Raises InvalidRequest and names the part that is wrong.

    >>> parse_endpoints("127.0.0.1:7400, [::1]:7401")
    ('127.0.0.1:7400', '[::1]:7401')
    >>> parse_endpoints(["dns:///kvorum.example:7400"])
    ('dns:///kvorum.example:7400',)
    """
    parts = endpoints.split(",") if isinstance(endpoints, str) else list(endpoints)
    addresses = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not addresses:
        raise InvalidRequest('endpoints are empty; name at least one node, "host:port"')
    for address in addresses:
        _, colon, port = address.rpartition(":")
        if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
            raise InvalidRequest(f'endpoint {address!r} has no port; write it as "host:port"')
    return addresses
